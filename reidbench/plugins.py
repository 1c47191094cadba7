"""The plugin host: loads every plugin apart from the others, says who provides what, and resolves specs to items.

A broken plugin costs that plugin and nothing else. pluggy checks names and arguments of hooks; the loop is ours, since
pluggy's own stops at the first broken plugin, drops a second distribution with the same entry-point name in silence,
and leaves a rejected plugin half registered. Every plugin gets a plugin manager of its own: what fails is dropped with
it, and the owner of every hook's answer is known.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import os
import re
import sys
import tomllib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pluggy

from reidbench import hookspecs
from reidbench.errors import OptionError, PluginError, ReidbenchError
from reidbench.options import File, check, did_you_mean, known_of, options_of
from reidbench.spec import MAX_TEXT, Item, Spec, Term, is_name, quoted, write_value

GROUP = "reidbench"
OWN = "reidbench"
VARIABLE = "REIDBENCH_LOAD_PLUGINS"
HOOKS = {
    "register_losses": "loss",
    "register_backbones": "backbone",
    "register_datasets": "dataset",
    "register_synthesizers": "synthesizer",
    "register_protocols": "protocol",
    "register_recipes": "recipe",
    "register_metrics": "metric",
    "register_rerankers": "reranker",
    "register_sections": "section",
}
KINDS = tuple(HOOKS.values())
# What the runner tells a factory, in this order; the kinds that are not named here are told nothing.
KNOWN = {"loss": ("info",), "dataset": ("root",), "synthesizer": ("directory",), "recipe": ("backbone",)}
# Kinds that a run can do without: no loss is the untrained network, no re-ranker the plain ranking.
OPTIONAL = ("loss", "reranker")

_NO_DEFAULTS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Plugin:
    """One entry point: its name, the distribution that brings it, and whether it loaded; ``error`` says why not."""

    name: str
    distribution: str
    version: str
    state: str
    error: str = ""

    def __str__(self) -> str:
        return f"{self.name}, {self.distribution} {self.version}"


@dataclass(frozen=True)
class Entry:
    """One item that a plugin offers."""

    kind: str
    name: str
    factory: Any
    plugin: Plugin

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.plugin})"


@dataclass(frozen=True)
class Part:
    """One item of a spec with the values of all its options and its weight in a sum."""

    entry: Entry
    weight: float
    values: dict[str, Any]

    def build(self, *known: Any) -> Any:
        """Return what the factory makes; raises PluginError from whatever it raises that is no error of reidbench."""
        try:
            return self.entry.factory(*known, **self.values)
        except ReidbenchError:
            raise
        except Exception as error:
            raise PluginError(f"{self.entry}: could not be built: {_reason(error)}") from error


@dataclass(frozen=True)
class Resolved:
    """A spec with every option resolved and checked, not built yet: one item, a sum of losses, or none.

    ``given`` is the text as it came. ``text`` has every option, in the signature's order: it is stored, shown and can
    be pasted back. ``identity`` is what enters ids: as ``text``, but files by their sha256. ``short`` has only options
    that differ from the item's own defaults, and of files the name: for tables. ``origins`` says for every option
    where its value came from (in a sum "item.option").
    """

    kind: str
    given: str
    text: str
    identity: str
    short: str
    origins: dict[str, str]
    parts: tuple[Part, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The catalogue's entries of all items, in the order of the spec."""
        return tuple(part.entry for part in self.parts)

    def build(self, *known: Any) -> Any:
        """Return the item, for a sum or a weighted item the weighted sum, for none None; ``known`` as in ``KNOWN``.

        Raises PluginError, naming item and plugin, where a factory fails with anything but an error of reidbench.
        """
        wanted = KNOWN.get(self.kind, ())
        if len(known) != len(wanted):
            raise OptionError(f"a {self.kind} is built from ({', '.join(wanted)}), got {len(known)} arguments")
        if len(self.parts) == 1 and self.parts[0].weight == 1:
            return self.parts[0].build(*known)
        if not self.parts:
            return None
        from reidbench.sums import WeightedSum  # noqa: PLC0415, torch stays away from listing and planning

        return WeightedSum(
            (name, part.weight, part.build(*known))
            for name, part in zip(part_names(self.entries), self.parts, strict=True)
        )


@dataclass(frozen=True)
class Catalogue:
    """All plugins, loaded or failed, and all items of those that loaded."""

    plugins: tuple[Plugin, ...]
    items: tuple[Entry, ...]

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Return the items of one kind, or all, sorted by kind and name."""
        wanted = KINDS if kind is None else (kind,)
        found = (entry for entry in self.items if entry.kind in wanted)
        return sorted(found, key=lambda entry: (KINDS.index(entry.kind), entry.name))

    def entry(self, kind: str, name: str) -> Entry:
        """Return one item. Raises OptionError, with the nearest names and the plugins that failed, if there is none."""
        if kind not in KINDS:
            raise OptionError(f"there is no kind {quoted(kind)}{did_you_mean(kind, KINDS)}; kinds: {', '.join(KINDS)}")
        known = {entry.name: entry for entry in self.entries(kind)}
        if name in known:
            return known[name]
        listed = f"; there are: {', '.join(known)}" if known else f"; no plugin offers a {kind}"
        failed = [f"{plugin} ({plugin.error})" for plugin in self.plugins if plugin.state == "failed"]
        lost = f"; plugins that failed to load: {'; '.join(failed)}" if failed else ""
        raise OptionError(f"there is no {kind} {quoted(name)}{did_you_mean(name, known) or listed}{lost}")

    def resolve(self, kind: str, text: str, defaults: Mapping[str, Any] = _NO_DEFAULTS) -> Resolved:
        """Return a spec with every option resolved; ``defaults`` are a protocol's, for options of that name.

        Raises OptionError with all mistakes, one a line, where the text cannot be read, a name or an option is not
        known, or a value does not fit.
        """
        spec = Spec.parse(text, where=kind)
        if spec.is_none and kind not in OPTIONAL:
            raise OptionError(f"{kind}: none is only for a {' or a '.join(OPTIONAL)}; name a {kind}")
        if kind != "loss" and spec.terms and (len(spec.terms) > 1 or spec.terms[0].weight != 1):
            raise OptionError(f"{kind}: expected a single item, got {str(spec)!r}; only losses are added and weighted")
        parts: list[Part] = []
        origins: list[dict[str, str]] = []
        mistakes: list[str] = []
        for term in spec.terms:
            try:
                entry = self.entry(kind, term.item.name)
                checked = check(entry.factory, term.item, str(entry), defaults)
            except OptionError as error:
                mistakes.append(str(error))
            else:
                parts.append(Part(entry, term.weight, checked.values))
                origins.append(checked.origins)
        if mistakes:
            raise OptionError("\n".join(mistakes))
        names = part_names([part.entry for part in parts])
        prefixes = [f"{name}." for name in names] if len(parts) > 1 else [""]
        return Resolved(
            kind=kind,
            given=text,
            text=_pasteable(kind, _spec(parts, _all)),
            identity=_spec(parts, _by_content),
            short=_spec(parts, _changed),
            origins={
                p + name: origin for p, some in zip(prefixes, origins, strict=False) for name, origin in some.items()
            },
            parts=tuple(parts),
        )


def part_names(entries: list[Entry] | tuple[Entry, ...]) -> list[str]:
    """Return a name for each term of a sum; the second ``a`` of one sum is ``a:2``, which can be no item's name."""
    names = [entry.name for entry in entries]
    before = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{name}:{count + 1}" if count else name for name, count in zip(names, before, strict=True)]


def build(kind: str, spec: str, *known: Any) -> Any:
    """Return the item that ``spec`` writes, such as ``build("loss", "NAME(margin=0.2)", info)``.

    ``known`` is what the kind's factories are told: a ``TrainInfo`` for a loss, a root folder for a data set, a folder
    for a synthesizer, a ``BackboneInfo`` for a recipe, nothing for the others. Raises OptionError or PluginError.
    """
    return load().resolve(kind, spec).build(*known)


def command_defaults() -> dict[str, Any]:
    """Return what the command line falls back to, key by key as in ``defaults.toml``."""
    text = importlib.resources.files("reidbench").joinpath("defaults.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@functools.cache
def load() -> Catalogue:
    """Return the catalogue of all installed plugins, loaded once per process; one that fails is listed with its reason.

    ``REIDBENCH_LOAD_PLUGINS`` limits it to some distributions or entry points ("a,b"), or to none ("").
    Raises OptionError where that names something that is not installed.
    """
    plugins: list[Plugin] = []
    items: dict[tuple[str, str], Entry] = {}
    for point in _entry_points():
        plugin, entries = _load_one(point, items)
        plugins.append(plugin)
        items |= {(entry.kind, entry.name): entry for entry in entries}
    return Catalogue(tuple(plugins), tuple(items.values()))


def _entry_points() -> list[metadata.EntryPoint]:
    """Return the entry points to load, in an order that does not depend on the order of installation.

    Where two plugins offer one name the earlier keeps it, so our own come first: installing a stranger's package must
    neither take over nor take away what was there. Failing both would let any package switch off any other.
    """
    points = sorted(
        metadata.entry_points(group=GROUP),
        key=lambda point: (_owner(point)[0] != OWN, _normalised(_owner(point)[0]), point.name, point.value),
    )
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return points
    names = {name.strip() for name in wanted.split(",") if name.strip()}
    chosen = [
        point for point in points if {point.name, _normalised(_owner(point)[0])} & {*names, *map(_normalised, names)}
    ]
    known = {point.name for point in points} | {_normalised(_owner(point)[0]) for point in points}
    missing = sorted(name for name in names if name not in known and _normalised(name) not in known)
    if missing:
        said = ", ".join(quoted(name) + did_you_mean(name, known) for name in missing)
        raise OptionError(f"{VARIABLE}: no plugin or distribution {said}; installed: {', '.join(sorted(known))}")
    return chosen


def _load_one(point: metadata.EntryPoint, taken: Mapping[tuple[str, str], Entry]) -> tuple[Plugin, list[Entry]]:
    """Import one plugin, ask its hooks and check the answers; whatever goes wrong becomes the reason of its failure."""
    plugin = Plugin(_printable(point.name), *_owner(point), state="ok")
    stage = "import"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a plugin that prints must not break what we print for programs
            module = point.load()
            stage = "hooks"
            entries: list[Entry] = []
            for stage, implementation in _implementations(module):
                entries += _entries(HOOKS[stage], implementation(), plugin)
        stage = "names"
        twice = [
            f"{entry.kind} {entry.name} is offered by {taken[key].plugin} too"
            for entry in entries
            if (key := (entry.kind, entry.name)) in taken
        ]
        if twice:
            raise PluginError(f"{', '.join(twice)}, which keeps it; rename it here, or leave one out with {VARIABLE}")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may raise anything, SystemExit too
        return replace(plugin, state="failed", error=f"{stage}: {_reason(error)}"), []
    return plugin, entries


def _implementations(module: Any) -> list[tuple[str, Callable[[], Any]]]:
    """Return the hooks that a plugin implements; raises PluginError or pluggy's error where one is none of ours."""
    manager = pluggy.PluginManager(hookspecs.hookspec.project_name)
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    found = [(name, impl.function) for name, caller in vars(manager.hook).items() for impl in caller.get_hookimpls()]
    named = [name for name, _ in found]
    for name in named:
        if name not in HOOKS:
            raise PluginError(f"there is no hook {quoted(name)}{did_you_mean(name, HOOKS)}; hooks: {', '.join(HOOKS)}")
    for name in HOOKS:
        if name not in named and callable(getattr(module, name, None)):
            raise PluginError(f"{name} is not marked; write @hookimpl above it")
    if not found:
        raise PluginError(f"it implements no hook; mark a function with @hookimpl, one of {', '.join(HOOKS)}")
    return found


def _entries(kind: str, factories: object, plugin: Plugin) -> list[Entry]:
    """Return the entries of what a hook returned; raises PluginError where it breaks the hook's contract."""
    if not isinstance(factories, Mapping):
        raise PluginError(f"expected a mapping of names to factories, got {type(factories).__name__}")
    entries = [Entry(kind, name, factory, plugin) for name, factory in factories.items()]
    wanted = KNOWN.get(kind, ())
    for entry in entries:
        if not isinstance(entry.name, str) or not is_name(entry.name):
            raise PluginError(
                f"{entry.name!r} cannot name an item; expected a letter, then letters, digits and _, at most one /, "
                "and not true, false or none"
            )
        if not callable(entry.factory):
            raise PluginError(f"{kind} {entry.name}: expected a callable, got {type(entry.factory).__name__}")
        try:
            options_of(entry.factory)
            known = known_of(entry.factory)
        except PluginError as error:
            raise PluginError(f"{kind} {entry.name}: {error}") from error
        if len(known) != len(wanted):
            raise PluginError(
                f"{kind} {entry.name}: expected the positional parameters ({', '.join(wanted)}), got "
                f"({', '.join(known)}); options are keyword-only: write them behind a *"
            )
    return entries


def _owner(point: metadata.EntryPoint) -> tuple[str, str]:
    """Return the distribution and version of an entry point; metadata may be damaged."""
    try:
        assert point.dist is not None
        return _printable(point.dist.name), _printable(point.dist.version)
    except Exception:
        return "unknown", "unknown"


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _printable(text: str) -> str:
    """Return a stranger's text as one line without control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _reason(error: BaseException) -> str:
    """Return an exception in one line, with the last place of the code that raised it unless it is one of ours."""
    try:
        said = _printable(str(error))
    except Exception:  # a stranger's __str__
        said = ""
    if isinstance(error, ReidbenchError):
        return said
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    file, line = frames[-1] if frames else ("<unknown>", 0)
    place = f" ({Path(file).name}, line {line})" if not file.startswith("<") else ""
    return f"{type(error).__name__}{': ' if said else ''}{said}{place}"


def _spec(parts: list[Part], choose: Callable[[Part], dict[str, Any]]) -> str:
    return str(Spec(tuple(Term(p.weight, Item(p.entry.name, tuple(choose(p).items()))) for p in parts)))


def _all(part: Part) -> dict[str, Any]:
    return part.values


def _by_content(part: Part) -> dict[str, Any]:
    return {name: _files(value, lambda file: f"sha256:{file.sha256}") for name, value in part.values.items()}


def _changed(part: Part) -> dict[str, Any]:
    options = options_of(part.entry.factory)
    changed = {
        name: value for name, value in part.values.items() if write_value(value) != write_value(options[name].default)
    }
    return {name: _files(value, lambda file: file.name) for name, value in changed.items()}


def _files(value: Any, replacement: Callable[[File], str]) -> Any:
    if isinstance(value, tuple):
        return tuple(_files(part, replacement) for part in value)
    return replacement(value) if isinstance(value, File) else value


def _pasteable(kind: str, text: str) -> str:
    if len(text) > MAX_TEXT:
        raise OptionError(
            f"{kind}: with every option written out it has {len(text)} characters, at most {MAX_TEXT} are read"
        )
    return text
