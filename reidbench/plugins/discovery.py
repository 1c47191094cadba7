"""Loading plugins, each isolated from the others.

A broken plugin costs that plugin and nothing else. pluggy checks the names and arguments of hooks; the loop is ours,
since pluggy's own stops at the first broken plugin, silently drops a second distribution with the same entry-point
name, and leaves a rejected plugin half registered. Every plugin gets a plugin manager of its own, so that a failed one
leaves nothing behind and each item's provider is known.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from typing import Annotated, Any

import pluggy

from reidbench.errors import Interrupted, OptionError, PluginError, describe_error, did_you_mean, printable, quoted
from reidbench.plugins import hookspecs
from reidbench.plugins.options import LaterOption, Option, options_of, positional_parameters
from reidbench.plugins.spec import EMBEDDING, is_name

ENTRY_POINT_GROUP = "reidbench"
OWN_DISTRIBUTION = "reidbench"
VARIABLE = "REIDBENCH_LOAD_PLUGINS"
KINDS = (
    *("loss", "backbone", "dataset", "synthesizer", "protocol", "recipe", "metric", "reranker", "section"),
    *("executor", "tracker"),
)
HOOKS = dict(zip((name for name in vars(hookspecs) if name.startswith("register_")), KINDS, strict=True))
# The positional parameters of a factory, which the runner supplies; those of the other kinds take none.
SUPPLIED = {"loss": ("info",), "dataset": ("root",), "synthesizer": ("directory",), "recipe": ("backbone",)}


@dataclass(frozen=True)
class Plugin:
    """One entry point.

    ``name``: the entry point's name.
    ``distribution``: the distribution that declares it.
    ``version``: the version of that distribution.
    ``state``: "ok" or "failed".
    ``error``: why it failed, or an empty text.
    ``module``: the module that it names, which implements the hooks.
    """

    name: str
    distribution: str
    version: str
    state: str
    error: str = ""
    module: str = ""

    def __str__(self) -> str:
        return f"{self.name}, {self.distribution} {self.version}".strip()


@dataclass(frozen=True)
class PluginItem:
    """One item that a plugin provides.

    ``kind``: one of ``KINDS``.
    ``name``: its name, unique within its kind.
    ``factory``: the callable that builds it.
    ``plugin``: the plugin that provides it.
    """

    kind: str
    name: str
    factory: Any
    plugin: Plugin

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.plugin})"

    @cached_property
    def options(self) -> dict[str, Option]:
        """The options of its factory and of its kind, read once.

        Raises PluginError where the signature declares none properly, or one that its kind has already.
        """
        options, shared = options_of(self.factory), options_of(_of_losses) if self.kind == "loss" else {}
        if taken := options.keys() & shared.keys():
            raise PluginError(f"option {taken.pop()}: every {self.kind} has one of this name; choose another")
        return options | shared

    def check(self) -> None:
        """Raise PluginError where name, factory or signature break the contract of the kind's hook."""
        if not isinstance(self.name, str) or not is_name(self.name):
            rule = "a letter, then letters, digits and _, at most one /, and not true, false or none"
            raise PluginError(f"{self.name!r} cannot name an item; expected {rule}")
        if not callable(self.factory):
            raise PluginError(f"{self.kind} {self.name}: expected a callable, got {type(self.factory).__name__}")
        expected = SUPPLIED.get(self.kind, ())
        try:
            names = positional_parameters(self.factory)
            self.options  # noqa: B018 - reads and checks the signature
        except Exception as error:  # reading a signature runs code of the plugin
            raise PluginError(f"{self.kind} {self.name}: {describe_error(error)}") from error
        if len(names) != len(expected):
            parameters = f"expected the positional parameters ({', '.join(expected)}), got ({', '.join(names)})"
            advice = "options are keyword-only: write them after a *"
            raise PluginError(f"{self.kind} {self.name}: {parameters}; {advice}")


def _of_losses(*, feature: Annotated[str, LaterOption] = EMBEDDING) -> None:
    """Declare what every loss has.

    Options:
        feature: The training feature of the network that the loss reads, such as "pooled" where the network has one.
    """


def discover() -> tuple[tuple[Plugin, ...], tuple[PluginItem, ...]]:
    """Return all plugins, loaded or failed, and the items of those that loaded.

    ``REIDBENCH_LOAD_PLUGINS`` limits them to some distributions or entry points ("a,b"), or to none ("").
    Raises OptionError where it names something that is not installed.
    """
    plugins: list[Plugin] = []
    items: dict[tuple[str, str], PluginItem] = {}
    for point in _entry_points():
        plugin, new_items = _load_one(point, items)
        plugins.append(plugin)
        items |= {(item.kind, item.name): item for item in new_items}
    return tuple(plugins), tuple(items.values())


def _entry_points() -> list[metadata.EntryPoint]:
    """Return the entry points to load, in an order that does not depend on the order of installation.

    Where two plugins provide an item of one name the earlier keeps it, so first-party plugins come first: installing a
    package must neither replace nor remove an item. Failing both would let any package switch off any other.
    """
    points = [(_normalised(_owner(point)[0]), point) for point in metadata.entry_points(group=ENTRY_POINT_GROUP)]
    points.sort(key=lambda pair: (pair[0] != OWN_DISTRIBUTION, pair[0], pair[1].name, pair[1].value))
    setting = os.environ.get(VARIABLE)
    if setting is None:
        return [point for _, point in points]
    names = {name.strip() for name in setting.split(",") if name.strip()}
    installed = {name for owner, point in points for name in (owner, point.name)}
    if unknown := sorted(name for name in names if not {name, _normalised(name)} & installed):
        listed = ", ".join(quoted(name) + did_you_mean(name, installed) for name in unknown)
        raise OptionError(f"{VARIABLE}: no plugin or distribution {listed}; installed: {', '.join(sorted(installed))}")
    names |= {_normalised(name) for name in names}
    return [point for owner, point in points if {owner, point.name} & names]


def _load_one(
    point: metadata.EntryPoint, items: Mapping[tuple[str, str], PluginItem]
) -> tuple[Plugin, list[PluginItem]]:
    """Import one plugin, call its hooks and check what they return; any exception becomes the plugin's error."""
    plugin = Plugin(printable(point.name), *_owner(point), state="ok", module=point.module)
    stage = "import"
    try:
        # stdout is for what programs read, so a plugin must not print there.
        with contextlib.redirect_stdout(sys.stderr):
            module = point.load()
            stage = "hooks"
            new_items: list[PluginItem] = []
            for stage, implementation in _implementations(module):
                new_items += _items_of(HOOKS[stage], implementation(), plugin)
        stage = "names"
        if duplicates := [
            f"{item.kind} {item.name} is provided both by {items[key].plugin} and by {plugin}"
            for item in new_items
            if (key := (item.kind, item.name)) in items
        ]:
            raise PluginError(f"{'; '.join(duplicates)}; the first keeps it: rename one, or load one only ({VARIABLE})")
    except (KeyboardInterrupt, Interrupted):
        raise
    except BaseException as error:  # a plugin may raise anything, SystemExit too
        return replace(plugin, state="failed", error=f"{stage}: {describe_error(error)}"), []
    return plugin, new_items


def _implementations(module: Any) -> list[tuple[str, Callable[[], Any]]]:
    """Return the hooks that a plugin implements; raises PluginError or pluggy's error where one is no hook of ours."""
    manager = pluggy.PluginManager(hookspecs.hookspec.project_name)
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    hooks = [(name, impl.function) for name, caller in vars(manager.hook).items() for impl in caller.get_hookimpls()]
    names = [name for name, _ in hooks]
    for name in names:
        if name not in HOOKS:
            near = did_you_mean(name, HOOKS) or f"; hooks: {', '.join(HOOKS)}"
            raise PluginError(f"there is no hook {quoted(name)}{near}")
    for name in HOOKS:
        if name not in names and callable(getattr(module, name, None)):
            raise PluginError(f"{name} is not marked; write @hookimpl above it")
    if not hooks:
        raise PluginError("it implements no hook: none of its functions is marked with @hookimpl")
    return hooks


def _items_of(kind: str, factories: object, plugin: Plugin) -> list[PluginItem]:
    """Return the items of what a hook returned; raises PluginError where it breaks the hook's contract."""
    if not isinstance(factories, Mapping):
        raise PluginError(f"expected a mapping of names to factories, got {type(factories).__name__}")
    items = [PluginItem(kind, name, factory, plugin) for name, factory in factories.items()]
    for item in items:
        item.check()
    return items


def _owner(point: metadata.EntryPoint) -> tuple[str, str]:
    """Return the distribution and version of an entry point; metadata may be damaged."""
    try:
        assert point.dist is not None
        return printable(point.dist.name), printable(point.dist.version)
    except Exception:
        return "unknown", "unknown"


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
