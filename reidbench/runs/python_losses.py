"""Losses given as Python objects: items of this process alone, with a digest of their source."""

from __future__ import annotations

import hashlib
import inspect
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType
from typing import Any

from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.plugins.options import unwrap
from reidbench.runs.provenance import LOCAL


def local_loss(factory: Callable[..., Any]) -> PluginItem:
    """Return a loss class or factory as an item under its own name; raises PluginError where it breaks the contract.

    The version of its plugin is a digest of its source and of all that it uses from its own module. Without source
    the version differs at every call, so that no run is ever reused.
    """
    function = unwrap(factory)
    name = getattr(function, "__name__", type(function).__name__)
    try:
        texts = list(_texts(factory, getattr(function, "__module__", ""), set()))
        version = hashlib.sha256(repr(texts).encode()).hexdigest()
    except OSError:
        version = uuid.uuid4().hex
    item = PluginItem("loss", name, factory, Plugin(LOCAL, f"loss {name}", version, state="ok"))
    item.check()
    return item


def _texts(value: Any, module: str, seen: set[int]) -> Iterator[str]:
    """Yield the source of a function or class of ``module`` and, recursively, of what it uses from there.

    Constants are yielded as text, and of other modules names alone. ``seen`` holds the ids of functions and classes
    that were yielded. Raises OSError where there is no source, or where a value cannot be told from source.
    """
    used: list[Any] = []
    if value is None or isinstance(value, bool | int | float | str | bytes | tuple | frozenset):
        yield repr(value)
    elif isinstance(value, partial):
        yield repr((value.args, sorted(value.keywords.items())))
        used = [value.func]
    elif isinstance(value, property):
        used = [value.fget, value.fset]
    elif isinstance(value, FunctionType) and not value.__module__:
        raise OSError(f"{value!r} belongs to no module")
    elif hasattr(value, "__name__") and getattr(value, "__module__", None) != module:
        yield value.__name__
    elif id(value) in seen:
        return
    elif isinstance(value, type):
        members = {name: member for name, member in vars(value).items() if not _is_automatic(name, member)}
        yield repr([value.__name__, *members])
        used = [*value.__bases__, *members.values()]
    elif isinstance(value, FunctionType) and value.__globals__.get("__name__") == module:
        yield inspect.getsource(value.__code__)
        used = [*_used_values(value), getattr(value, "__wrapped__", None)]
    elif hasattr(value, "__wrapped__"):  # the wrapper is another module's
        used = [value.__wrapped__]
    else:
        raise OSError(f"{value!r} has no source")
    seen.add(id(value))
    for each in used:
        yield from _texts(each, module, seen)


def _is_automatic(name: str, member: Any) -> bool:
    """Return whether Python itself added a member to a class, such as ``__doc__``."""
    return name == "_abc_impl" or (name.startswith("__") and not isinstance(member, FunctionType))


def _used_values(function: FunctionType) -> list[Any]:
    """Return the values of the outer names and of the defaults that a function uses."""
    codes = [function.__code__]
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]  # functions within it
    scope = function.__globals__
    names = dict.fromkeys(name for code in codes for name in code.co_names if name in scope)
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    keywords = function.__kwdefaults__ or {}
    return [*(scope[name] for name in names), *cells, *(function.__defaults__ or ()), *keywords.values()]
