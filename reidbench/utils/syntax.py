"""Digests of Python code that comments, docstrings and the texts of errors do not change; docstrings of factories."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import re
from collections.abc import Callable
from typing import Any

from reidbench.errors import printable


def syntax_digest(statements: list[ast.stmt], imports: list[ast.AST] | None = None) -> str:
    """Return a sha256 (hex) over statements without what ``_ignored`` names, "" where none remains.

    The import statements among them are appended to ``imports``.
    """
    essence = _essence(statements, False, [] if imports is None else imports)
    return hashlib.sha256(repr(essence).encode()).hexdigest() if essence else ""


def _essence(node: Any, message: bool, imports: list[ast.AST]) -> Any:
    """Return a syntax tree as nested tuples and lists, without what ``_ignored`` names; append imports to ``imports``.

    ``message``: whether the node is part of a ``raise`` statement. Empty fields are left out, so that all Python
    versions give the same.
    """
    if isinstance(node, list):
        return [_essence(child, message, imports) for child in node if not _ignored(child, message)]
    if not isinstance(node, ast.AST):
        return node
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        imports.append(node)
    message = message or isinstance(node, ast.Raise)
    values = [(name, getattr(node, name, None)) for name in node._fields]
    return type(node).__name__, [
        (name, _essence(value, message, imports))
        for name, value in values
        if value is not None and value != [] and not _ignored(value, message)
    ]


def _ignored(node: Any, message: bool) -> bool:
    """Return whether a node is a docstring, a string in a ``raise`` statement, or a block for type checkers alone."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return not node.orelse and "TYPE_CHECKING" in (getattr(node.test, "id", ""), getattr(node.test, "attr", ""))
    return message and (isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str))


def unwrap(factory: Any) -> Any:
    """Return the function or class behind partial objects and wrappers."""
    while isinstance(factory, functools.partial) or hasattr(factory, "__wrapped__"):
        factory = factory.func if isinstance(factory, functools.partial) else factory.__wrapped__
    return factory


def docstring_of(factory: Callable[..., Any]) -> str:
    """Return a factory's docstring without indentation, or an empty text."""
    return inspect.cleandoc(getattr(unwrap(factory), "__doc__", None) or "")


def summary_of(factory: Callable[..., Any]) -> str:
    """Return the first paragraph of a factory's docstring, or an empty text."""
    return printable(docstring_of(factory).partition("\n\n")[0])


def references_of(factory: Callable[..., Any]) -> list[str]:
    """Return what the lines ``Reference: URL`` of a factory's docstring name, such as its paper; any text."""
    return re.findall(r"^Reference: *(\S+) *$", docstring_of(factory), re.MULTILINE)
