"""What the installed pytorch-metric-learning offers, read from its source files without importing them.

Importing the library costs seconds, and plugins are listed by every command. So its classes are mirrored here by empty
ones with the same bases, whose attributes are the syntax trees of the methods: Python itself then finds which method
a class inherits, and what a loss, miner, distance or reducer takes can be read off.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import Any

from reidbench import PluginError

PACKAGE = "pytorch_metric_learning"
DISTRIBUTION = "pytorch-metric-learning"

Shadow = type[Any]


class Opaque:
    """A default that is no plain value, such as a function."""


@dataclass(frozen=True)
class Arguments:
    """What a constructor takes: keyword-only parameters (annotations as text), and what its subclass fixed for it."""

    free: dict[str, Parameter]
    fixed: dict[str, Any]


@dataclass(frozen=True)
class Library:
    """All classes of the library by name, and the names that each of its folders exports."""

    version: str
    classes: dict[str, Shadow]
    exported: dict[str, tuple[str, ...]]

    def concrete(self, folder: str, base: str) -> list[str]:
        """Return the exported classes of a folder that derive from ``base`` and leave no method to others."""
        return [
            name
            for name in self.exported[folder]
            if issubclass(self.classes[name], self.classes[base]) and not unfinished(self.classes[name])
        ]


@functools.cache
def library() -> Library:
    """Return the installed library. Raises PluginError where it is missing."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise PluginError(f"{DISTRIBUTION} is not installed; install it: pip install {DISTRIBUTION}")
    root = Path(found.submodule_search_locations[0])
    nodes: dict[str, ast.ClassDef] = {}
    exported: dict[str, tuple[str, ...]] = {}
    for folder in ("utils", "distances", "reducers", "miners", "losses"):
        # Of the utilities only the ancestors of what is offered matter.
        for file in sorted((root / folder).glob("module_with_*.py" if folder == "utils" else "*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            nodes |= {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
            if file.name == "__init__.py":
                imports = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
                exported[folder] = tuple(sorted(imports))
    classes: dict[str, Shadow] = {}
    for name in nodes:
        _mirror(name, nodes, classes)
    return Library(importlib.metadata.version(DISTRIBUTION), classes, exported)


def _mirror(name: str, nodes: dict[str, ast.ClassDef], classes: dict[str, Shadow]) -> Shadow:
    if name not in classes:
        node = nodes[name]
        bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id in nodes]
        members: dict[str, Any] = {}
        for part in node.body:
            if isinstance(part, ast.FunctionDef):
                members[part.name] = part
            elif isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
                members[part.targets[0].id] = _value(part.value, members)
        classes[name] = type(name, tuple(_mirror(base, nodes, classes) for base in bases), members)
    return classes[name]


def methods(shadow: Shadow) -> Iterator[ast.FunctionDef]:
    """Yield the methods of a class, its own and inherited, each as the class would call it."""
    found = (getattr(shadow, name) for name in dir(shadow))
    return (method for method in found if isinstance(method, ast.FunctionDef))


def unfinished(shadow: Shadow) -> list[str]:
    """Return the methods of a class that only raise NotImplementedError."""
    return [method.name for method in methods(shadow) if _raises(method.body[-1])]


def calls(shadow: Shadow, function: str) -> bool:
    """Return whether any method of a class calls a function of that name."""
    return any(
        _last_name(node.func) == function
        for method in methods(shadow)
        for node in _nodes(method)
        if isinstance(node, ast.Call)
    )


def reads(shadow: Shadow, attribute: str) -> bool:
    """Return whether a class computes with ``self.attribute``: constructors and statistics do not count."""
    return any(
        node.attr == attribute and _last_name(node.value) == "self"
        for method in methods(shadow)
        if method.name not in ("__init__", "set_stats")
        for node in _nodes(method)
        if isinstance(node, ast.Attribute)
    )


def entries(shadow: Shadow, key: str) -> set[str]:
    """Return the texts that stand behind a key in all dictionaries that the methods of a class write."""
    return {
        value.value
        for method in methods(shadow)
        for node in _nodes(method)
        if isinstance(node, ast.Dict)
        for name, value in zip(node.keys, node.values, strict=True)
        if isinstance(name, ast.Constant) and name.value == key
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }


@functools.cache
def _nodes(method: ast.FunctionDef) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(method))


def _last_name(node: ast.expr) -> str:
    """Return ``c`` of ``a.b.c`` and of ``c``, else an empty text."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _raises(last: ast.stmt) -> bool:
    if not isinstance(last, ast.Raise) or last.exc is None:
        return False
    return _last_name(last.exc.func if isinstance(last.exc, ast.Call) else last.exc) == "NotImplementedError"


def arguments(shadow: Shadow, stop: str) -> Arguments:
    """Return what a class's constructor takes, its own and what it hands on to those it inherits.

    Parameters of mixins, and of ``stop`` and whatever that derives from, are left out.
    """
    free: dict[str, Parameter] = {}
    fixed: dict[str, Any] = {}
    for owner in shadow.__mro__:
        init = vars(owner).get("__init__")
        if owner.__name__ == stop:
            break
        if not isinstance(init, ast.FunctionDef) or owner.__name__.endswith("Mixin"):
            continue
        for name, parameter in _parameters(init, owner).items():
            if name not in fixed:
                free.setdefault(name, parameter)
        for node in _nodes(init):
            if isinstance(node, ast.Call) and _last_name(node.func) == "__init__":
                fixed |= {word.arg: _value(word.value, vars(owner)) for word in node.keywords if word.arg}
        if init.args.kwarg is None:
            break
    return Arguments(free, {name: value for name, value in fixed.items() if name not in free})


def _parameters(init: ast.FunctionDef, owner: Shadow) -> dict[str, Parameter]:
    """Return a constructor's parameters but self, and those that it takes out of ``kwargs`` by name."""
    named = init.args.args[1:]
    defaults: list[Any] = [Parameter.empty] * (len(named) - len(init.args.defaults))
    defaults += [_value(node, vars(owner)) for node in init.args.defaults]
    named = named + init.args.kwonlyargs
    defaults += [Parameter.empty if node is None else _value(node, vars(owner)) for node in init.args.kw_defaults]
    found = {
        argument.arg: Parameter(
            argument.arg,
            Parameter.KEYWORD_ONLY,
            default=default,
            annotation=ast.unparse(argument.annotation) if argument.annotation else "",
        )
        for argument, default in zip(named, defaults, strict=True)
    }
    for node in _nodes(init):
        if isinstance(node, ast.Subscript) and _last_name(node.value) == "kwargs":
            name = str(_value(node.slice, {}))
            found.setdefault(name, Parameter(name, Parameter.KEYWORD_ONLY, annotation=""))
    return found


def made_by(shadow: Shadow, method: str) -> tuple[str, dict[str, Any]]:
    """Return the class and the arguments of what a method makes, such as ("LpDistance", {"p": 2})."""
    last = getattr(shadow, method).body[-1]
    if not isinstance(last, ast.Return) or not isinstance(last.value, ast.Call):
        raise PluginError(
            f"{DISTRIBUTION}: {shadow.__name__}.{method} cannot be read; use the version of constraints.txt"
        )
    call = last.value
    return _last_name(call.func), {str(word.arg): _value(word.value, {}) for word in call.keywords}


def _value(node: ast.expr, names: Any) -> Any:
    """Return a plain value, or one of a class's own constants; anything else is Opaque."""
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return Opaque
