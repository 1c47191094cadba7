"""Losses given as Python objects: items of this process alone, with the digest of their own source."""

from __future__ import annotations

import ast
import hashlib
import inspect
import linecache
import sys
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from reidbench.errors import DataError
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.runs.provenance import LOCAL, syntax_digest
from reidbench.runs.record import RunRecord


class SourceUnavailable(Exception):
    """The source of an object, or of one that it uses, cannot be read."""


def local_loss(factory: Callable[..., Any]) -> PluginItem:
    """Return a loss class or factory as an item under its own name; raises PluginError where it breaks the contract.

    The version of its plugin is the digest of its source and of all that it uses from its own module. Without source
    the version differs at every call, so that no run is ever reused.
    """
    function = inspect.unwrap(_inner(factory))
    name = getattr(function, "__name__", type(function).__name__)
    try:
        version = _source_digest(factory)
    except SourceUnavailable:
        version = uuid.uuid4().hex
    item = PluginItem("loss", name, factory, Plugin(LOCAL, f"loss {name}", version, state="ok"))
    item.check()
    return item


def refuse_local_items(record: RunRecord, file: object) -> None:
    """Raise DataError where an item of a record was a Python object, which no other process has."""
    for kind, item in record.items.items():
        if LOCAL in item.plugin.split(", "):
            raise DataError(
                f"{file}: {kind} {item.spec} was given as a Python object, which no plugin provides; make it a plugin "
                "(reidbench plugins new) and run it again"
            )


def _inner(factory: Any) -> Any:
    return _inner(factory.func) if isinstance(factory, partial) else factory


def _source_digest(factory: Callable[..., Any]) -> str:
    """Return the sha256 (hex) over the syntax trees of an object and of all that it uses from its module."""
    parts: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [("factory", factory)]
    while waiting:
        name, value = waiting.pop()
        if name in parts:
            continue
        if isinstance(value, partial):
            parts[name] = repr((value.args, sorted(value.keywords.items())))
            waiting.append((f"{name}.func", value.func))
        elif isinstance(value, ModuleType):
            parts[name] = value.__name__
        elif isinstance(value, type | FunctionType):
            function = inspect.unwrap(value) if isinstance(value, FunctionType) else value
            tree = _syntax_tree(function)
            parts[name] = syntax_digest(tree)
            waiting += _used_values(function, tree)
        elif isinstance(value, bool | int | float | str | bytes | tuple | frozenset | None):
            parts[name] = repr(value)
        else:  # what such an object holds cannot be told from source
            raise SourceUnavailable(name)
    return hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()


def _syntax_tree(value: Any) -> ast.AST:
    """Return the definition of a class or function, from a file or a notebook's cell; raises SourceUnavailable."""
    kinds = (ast.ClassDef,) if isinstance(value, type) else (ast.FunctionDef, ast.Lambda)
    for code in _codes(value):
        try:
            tree = ast.parse("".join(linecache.getlines(code.co_filename)))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, kinds) and getattr(node, "name", "<lambda>") == value.__name__:
                first = min([node.lineno, *(line.lineno for line in getattr(node, "decorator_list", []))])
                if first <= code.co_firstlineno <= (node.end_lineno or first):
                    return node
    raise SourceUnavailable(value.__name__)


def _codes(value: Any) -> Iterator[CodeType]:
    for member in [value] if isinstance(value, FunctionType) else vars(value).values():
        function = inspect.unwrap(member) if callable(member) else getattr(member, "__func__", None)
        if isinstance(function, FunctionType):
            yield function.__code__


def _used_values(value: Any, tree: ast.AST) -> Iterator[tuple[str, Any]]:
    """Yield the names in a definition that its module or an enclosing function defines, with their values."""
    module = value.__module__
    scope = dict(vars(sys.modules[module])) if module in sys.modules else {}
    for function in [value] if isinstance(value, FunctionType) else vars(value).values():
        if isinstance(function, FunctionType):
            scope |= {name: cell.cell_contents for name, cell in _cells(function) if name != "__class__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in scope and scope[node.id] is not value:
            used = scope[node.id]
            # A class or function of another module is that module's code: torch's, or an installed plugin's.
            code = isinstance(used, type | FunctionType | BuiltinFunctionType) or type(used).__module__ == "typing"
            if not code or used.__module__ == module:
                yield node.id, used


def _cells(function: FunctionType) -> Iterator[tuple[str, Any]]:
    return zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
