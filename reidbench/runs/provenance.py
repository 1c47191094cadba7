"""Which code, commit and machine made a number."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import subprocess
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from reidbench.errors import PluginError

CORE = Path(__file__).parents[1]

# Modules that a run's number does not pass through: editing them must not make anyone train again.
PRESENTATION = {
    # Show, compare and collect what is done.
    *("cli", "reports", "leaderboard", "runs/suite.py", "utils/progress.py", "runs/artifacts.py"),
    *("ranking/external_embeddings.py", "ranking/hdf5.py", "utils/arrays.py", "runs/export.py", "data/inspection.py"),
    *("testing", "plugins/scaffold.py"),  # help those who write plugins
}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _core_files() -> dict[str, str]:
    return {
        f"reidbench/{path.relative_to(CORE).as_posix()}": _sha256(path)
        for path in sorted(CORE.rglob("*.py"))
        if not {path.relative_to(CORE).parts[0], path.relative_to(CORE).as_posix()} & PRESENTATION
    }


@cache
def _module_files(module: str) -> dict[str, str]:
    """Return the files of a module and of all modules that it imports from its own package or other plugins' packages.

    With their digests. Read from the import statements, not from what happens to be loaded, so that the answer is
    always the same.
    """
    tops = {module.partition(".")[0], *_plugin_packages()}
    files: dict[str, str] = {}
    waiting = [module]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name.partition(".")[0] not in tops:
            continue
        seen.add(name)
        spec = _spec(name)
        if spec is None or not spec.origin or not Path(spec.origin).is_file():
            continue
        path = Path(spec.origin)
        package = spec.submodule_search_locations is not None
        files["/".join(name.split(".")) + ("/__init__.py" if package else path.suffix)] = _sha256(path)
        if path.suffix == ".py":
            waiting.extend(_imports(path, package=name if package else name.rpartition(".")[0]))
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return files


@cache
def _plugin_packages() -> frozenset[str]:
    return frozenset(point.module.partition(".")[0] for point in metadata.entry_points(group="reidbench"))


def _spec(name: str) -> ModuleSpec | None:
    """Return where a module lies, loaded or not: what is imported only inside a function counts as well."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # the name is no module but something that a module defines
        return None


def _imports(path: Path, package: str) -> Iterable[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            start = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (start, node.module or "") if part)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def code_files(factories: Iterable[Callable[..., Any]], modules: Iterable[str] = ()) -> dict[str, str]:
    """Return name to sha256 of every file that can change a number: the core, each factory's module, and ``modules``.

    Of the core all modules but those that only present results; of a plugin the factory's module, ``modules`` (those
    that offer the items, where a factory may have been made), and the modules of plugins' packages that these import,
    directly or not.
    """
    files = dict(_core_files())
    for name in {*map(_module_of, factories), *modules}:
        files |= _module_files(name)
    return dict(sorted(files.items()))


def _module_of(factory: Callable[..., Any]) -> str:
    """Return the module of the function or class behind a factory, however it is wrapped."""
    inner: Any = factory
    while isinstance(inner, partial) or hasattr(inner, "__wrapped__"):
        inner = inner.func if isinstance(inner, partial) else inner.__wrapped__
    module = inspect.getmodule(inner)
    if module is None:
        raise PluginError(f"{inner!r}: its module cannot be found, so an edit of it would go unnoticed")
    return module.__name__


def code_digest(files: Mapping[str, str]) -> str:
    """Return one digest (64 hex digits) over names and digests of files."""
    return hashlib.sha256("".join(f"{name} {files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of files that were added, removed or edited between two digests' file lists."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


@cache
def commit() -> tuple[str, bool]:
    """Return the commit of the checkout that the core lies in and whether it is dirty; ("", False) if in none.

    Dirty is a tracked file with changes, or a new module that git does not know. Looked up once in a process.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(CORE), *arguments], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", "__init__.py"
        )  # an installed copy below someone else's repository is not ours
        edited = git("status", "--porcelain", "--untracked-files=no")
        new = git("-C", "..", "ls-files", "--others", "--exclude-standard", "--", "reidbench/*.py", "plugins/*.py")
        return git("rev-parse", "HEAD"), bool(edited or new)
    except (OSError, subprocess.SubprocessError):
        return "", False
