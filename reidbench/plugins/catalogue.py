"""The plugin host: who provides what, and from the text of a spec to an item that is checked and built."""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from reidbench.errors import OptionError, PluginError, ReidbenchError
from reidbench.plugins.discovery import KINDS, SUPPLIED, Plugin, PluginItem, describe_error, discover
from reidbench.plugins.options import File, check, did_you_mean, options_of
from reidbench.plugins.spec import MAX_TEXT, Item, Spec, Term, quoted, write_value

__all__ = [
    "KINDS",
    "Catalogue",
    "Plugin",
    "PluginItem",
    "ResolvedSpec",
    "ResolvedTerm",
    "build",
    "command_defaults",
    "load",
]

# Kinds that a run can do without: no loss is the untrained network, no re-ranker the plain ranking.
OPTIONAL = ("loss", "reranker")

_NO_DEFAULTS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class ResolvedTerm:
    """One item of a spec with the values of all its options and its weight in a sum."""

    entry: PluginItem
    weight: float
    values: dict[str, Any]

    def build(self, *known: Any) -> Any:
        """Return what the factory makes; raises PluginError from whatever it raises that is no error of reidbench."""
        try:
            return self.entry.factory(*known, **self.values)
        except OptionError as error:
            said = str(error)
            raise OptionError(said if self.entry.name in said else f"{self.entry}: {said}") from None
        except ReidbenchError:
            raise
        except Exception as error:
            raise PluginError(f"{self.entry}: could not be built: {describe_error(error)}") from error


@dataclass(frozen=True)
class ResolvedSpec:
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
    parts: tuple[ResolvedTerm, ...]

    @property
    def changed(self) -> list[str]:
        """The options, by name, whose values differ from their own item's defaults."""
        return [name for part in self.parts for name in _changed(part)]

    @property
    def plugin_items(self) -> tuple[PluginItem, ...]:
        """The catalogue's entries of all items, in the order of the spec."""
        return tuple(part.entry for part in self.parts)

    def build(self, *known: Any) -> Any:
        """Return the item, for a sum or a weighted item the weighted sum, for none None; ``known`` as in ``SUPPLIED``.

        Raises PluginError, naming item and plugin, where a factory fails with anything but an error of reidbench.
        """
        wanted = SUPPLIED.get(self.kind, ())
        if len(known) != len(wanted):
            raise OptionError(f"a {self.kind} is built from ({', '.join(wanted)}), got {len(known)} arguments")
        if len(self.parts) == 1 and self.parts[0].weight == 1:
            return self.parts[0].build(*known)
        if not self.parts:
            return None
        from reidbench.plugins.weighted_sum import WeightedSum  # noqa: PLC0415 - torch, which a plan needs and a list of plugins does not

        return WeightedSum(
            (name, part.weight, part.build(*known))
            for name, part in zip(part_names([entry.name for entry in self.plugin_items]), self.parts, strict=True)
        )


@dataclass(frozen=True)
class Catalogue:
    """All plugins, loaded or failed, and all items of those that loaded."""

    plugins: tuple[Plugin, ...]
    items: tuple[PluginItem, ...]

    def list_items(self, kind: str | None = None) -> list[PluginItem]:
        """Return the items of one kind, or all, sorted by kind and name."""
        wanted = KINDS if kind is None else (kind,)
        found = (entry for entry in self.items if entry.kind in wanted)
        return sorted(found, key=lambda entry: (KINDS.index(entry.kind), entry.name))

    def find(self, kind: str, name: str) -> PluginItem:
        """Return one item.

        Raises OptionError, with the nearest names and the plugins that failed, where there is none of that name.
        """
        if kind not in KINDS:
            raise OptionError(f"there is no kind {quoted(kind)}{did_you_mean(kind, KINDS)}; kinds: {', '.join(KINDS)}")
        known = {entry.name: entry for entry in self.list_items(kind)}
        if name in known:
            return known[name]
        listed = f"; there are: {', '.join(known)}" if known else f"; no plugin offers a {kind}"
        failed = [f"{plugin.name} ({plugin.distribution})" for plugin in self.plugins if plugin.state == "failed"]
        lost = f"; failed to load: {', '.join(failed)}; see why: reidbench plugins" if failed else ""
        raise OptionError(f"there is no {kind} {quoted(name)}{did_you_mean(name, known) or listed}{lost}")

    def resolve(self, kind: str, text: str, defaults: Mapping[str, Any] = _NO_DEFAULTS) -> ResolvedSpec:
        """Return a spec with every option resolved; ``defaults`` are a protocol's, for options of that name.

        Raises OptionError with all mistakes, one a line, where the text cannot be read, a name or an option is not
        known, or a value does not fit.
        """
        spec = Spec.parse(text, where=kind)
        if spec.is_none and kind not in OPTIONAL:
            raise OptionError(f"{kind}: none is only for a {' or a '.join(OPTIONAL)}; name a {kind}")
        if kind != "loss" and spec.terms and (len(spec.terms) > 1 or spec.terms[0].weight != 1):
            raise OptionError(f"{kind}: expected a single item, got {str(spec)!r}; only losses are added and weighted")
        parts: list[ResolvedTerm] = []
        origins: list[dict[str, str]] = []
        mistakes: list[str] = []
        for term in spec.terms:
            try:
                if term.weight == 0:
                    raise OptionError(f"{kind} {term.item}: a weight of 0 trains nothing; leave the term out")
                entry = self.find(kind, term.item.name)
                checked = check(entry.factory, term.item, str(entry), defaults)
            except OptionError as error:
                mistakes.append(str(error))
            else:
                parts.append(ResolvedTerm(entry, term.weight, checked.values))
                origins.append(checked.origins)
        if mistakes:
            raise OptionError("\n".join(mistakes))
        names = part_names([part.entry.name for part in parts])
        prefixes = [f"{name}." for name in names] if len(parts) > 1 else [""]
        return ResolvedSpec(
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


def part_names(names: Sequence[str]) -> list[str]:
    """Return a name for each term of a sum; the second ``a`` of one sum is ``a:2``, which can be no item's name."""
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
    plugins, items = discover()
    return Catalogue(tuple(plugins), tuple(items))


def _spec(parts: list[ResolvedTerm], choose: Callable[[ResolvedTerm], dict[str, Any]]) -> str:
    return str(Spec(tuple(Term(p.weight, Item(p.entry.name, tuple(choose(p).items()))) for p in parts)))


def _all(part: ResolvedTerm) -> dict[str, Any]:
    return part.values


def _by_content(part: ResolvedTerm) -> dict[str, Any]:
    return {name: _files(value, lambda file: f"sha256:{file.sha256}") for name, value in part.values.items()}


def _changed(part: ResolvedTerm) -> dict[str, Any]:
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
