"""Loading plugins, each apart from the others.

A broken plugin costs that plugin and nothing else. pluggy checks the names and arguments of hooks; the loop is ours,
since pluggy's own stops at the first broken plugin, drops a second distribution with the same entry-point name in
silence, and leaves a rejected plugin half registered. Every plugin gets a plugin manager of its own: what fails is
dropped with it, and whose answer an answer is, is known.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pluggy

from reidbench.errors import OptionError, PluginError, ReidbenchError
from reidbench.plugins import hookspecs
from reidbench.plugins.options import did_you_mean, options_of, positional_parameters
from reidbench.plugins.spec import is_name, printable, quoted

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
SUPPLIED = {"loss": ("info",), "dataset": ("root",), "synthesizer": ("directory",), "recipe": ("backbone",)}


@dataclass(frozen=True)
class Plugin:
    """One entry point: its name, the distribution that brings it, and whether it loaded; ``error`` says why not.

    ``module`` is the module that it names, which holds the hooks.
    """

    name: str
    distribution: str
    version: str
    state: str
    error: str = ""
    module: str = ""

    def __str__(self) -> str:
        return f"{self.name}, {self.distribution} {self.version}"


@dataclass(frozen=True)
class PluginItem:
    """One item that a plugin offers."""

    kind: str
    name: str
    factory: Any
    plugin: Plugin

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.plugin})"


def discover() -> tuple[list[Plugin], list[PluginItem]]:
    """Return all plugins, loaded or failed, and the items of those that loaded.

    ``REIDBENCH_LOAD_PLUGINS`` limits them to some distributions or entry points ("a,b"), or to none ("").
    Raises OptionError where it names something that is not installed.
    """
    plugins: list[Plugin] = []
    items: dict[tuple[str, str], PluginItem] = {}
    for point in _entry_points():
        plugin, entries = _load_one(point, items)
        plugins.append(plugin)
        items |= {(entry.kind, entry.name): entry for entry in entries}
    return plugins, list(items.values())


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


def _load_one(
    point: metadata.EntryPoint, taken: Mapping[tuple[str, str], PluginItem]
) -> tuple[Plugin, list[PluginItem]]:
    """Import one plugin, ask its hooks and check the answers; whatever goes wrong becomes the reason of its failure."""
    plugin = Plugin(printable(point.name), *_owner(point), state="ok", module=point.module)
    stage = "import"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a plugin that prints must not break what we print for programs
            module = point.load()
            stage = "hooks"
            entries: list[PluginItem] = []
            for stage, implementation in _implementations(module):
                entries += _entries(HOOKS[stage], implementation(), plugin)
        stage = "names"
        twice = [
            f"{entry.kind} {entry.name} is offered both by {taken[key].plugin} and by {plugin}"
            for entry in entries
            if (key := (entry.kind, entry.name)) in taken
        ]
        if twice:
            raise PluginError(
                f"{'; '.join(twice)}; the first keeps it: rename the other, or load one only ({VARIABLE})"
            )
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may raise anything, SystemExit too
        return replace(plugin, state="failed", error=f"{stage}: {describe_error(error)}"), []
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
            near = did_you_mean(name, HOOKS) or f"; hooks: {', '.join(HOOKS)}"
            raise PluginError(f"there is no hook {quoted(name)}{near}")
    for name in HOOKS:
        if name not in named and callable(getattr(module, name, None)):
            raise PluginError(f"{name} is not marked; write @hookimpl above it")
    if not found:
        raise PluginError("it implements no hook: none of its functions is marked with @hookimpl")
    return found


def _entries(kind: str, factories: object, plugin: Plugin) -> list[PluginItem]:
    """Return the entries of what a hook returned; raises PluginError where it breaks the hook's contract."""
    if not isinstance(factories, Mapping):
        raise PluginError(f"expected a mapping of names to factories, got {type(factories).__name__}")
    entries = [PluginItem(kind, name, factory, plugin) for name, factory in factories.items()]
    wanted = SUPPLIED.get(kind, ())
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
            known = positional_parameters(entry.factory)
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
        return printable(point.dist.name), printable(point.dist.version)
    except Exception:
        return "unknown", "unknown"


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def describe_error(error: BaseException) -> str:
    """Return an exception in one line, with the last place of the code that raised it unless it is one of ours."""
    try:
        said = printable(str(error))
    except Exception:  # a stranger's __str__
        said = ""
    if isinstance(error, ReidbenchError):
        return said
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    file, line = frames[-1] if frames else ("<unknown>", 0)
    place = f" ({Path(file).name}, line {line})" if not file.startswith("<") else ""
    return f"{type(error).__name__}{': ' if said else ''}{said}{place}"
