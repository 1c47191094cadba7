"""What made a number: the ids of a run, digests over its code, losses given as Python objects too, and the commit."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import reidbench
from reidbench.errors import PluginError
from reidbench.plugins.catalogue import ResolvedSpec
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.runs.job import EvaluationRecord
from reidbench.utils.syntax import syntax_digest, unwrap

CORE = Path(__file__).parents[1]

# Modules of the core whose import closure makes the weights of a training, and those that make the scores of a run
# from them. The modules of the items are added to both. What resolves specs is not: resolved options are in the ids.
TRAINING = ("reidbench.training.loop", "reidbench.training.build", "reidbench.plugins.weighted_sum")
SCORING = (
    "reidbench.embedding.cache",
    "reidbench.ranking.pipeline",
    "reidbench.ranking.scores",
    "reidbench.ranking.camera_matrix",
)
# The plugin name of items that are Python objects of this process; the version of such a plugin is their digest.
LOCAL = "this process"


def run_ids(
    items: Mapping[str, str], seed: int, train_digest: str, digest: str, how: EvaluationRecord
) -> dict[str, str]:
    """Return the ids of a run, 64 hex digits each.

    ``id`` is the run's, ``train_id`` the training's, which runs with other protocols, metrics and re-rankers share, and
    ``group`` the run's without the seed.

    ``items``: the resolved specs of protocol, loss, backbone, recipe, metric and rerank, with the sha256 of each file.
    ``train_digest``, ``digest``: the digests of the training set and of the whole dataset.
    ``how``: how the run is evaluated, of which version, views and pool enter the id.
    """
    training = {"data": train_digest} | {kind: items[kind] for kind in ("loss", "backbone", "recipe")}
    scoring = {"data": digest, "views": how.views, "pool": how.pool, "protocol": [items["protocol"], how.version]}
    scoring |= {kind: items[kind] for kind in ("metric", "rerank")}
    train_id = _hash(training, seed)
    return {"id": _hash(scoring, train_id), "train_id": train_id, "group": _hash(training, scoring)}


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def training_code(items: Mapping[str, ResolvedSpec]) -> dict[str, str]:
    """Return the digest of every file that can change the weights of a training with ``items``, by the file's name.

    The files are the import closure of ``TRAINING`` and of the modules of loss, backbone, recipe and dataset; beside
    them stand the versions of these items' distributions, as "distribution NAME".
    """
    datasets = [items.get("train", items["dataset"])]
    return _code(TRAINING, [*(items[kind] for kind in ("loss", "backbone", "recipe")), *datasets])


def run_code(items: Mapping[str, ResolvedSpec]) -> dict[str, str]:
    """Return the same for the scores of a run: the import closure of ``SCORING`` and of all items is added."""
    return _code((*TRAINING, *SCORING), items.values())


def embedding_code(backbone: ResolvedSpec) -> dict[str, str]:
    """Return the same for the embeddings of a network with given weights."""
    return _code(("reidbench.embedding.extract", "reidbench.training.build"), [backbone])


def _code(modules: Iterable[str], items: Iterable[ResolvedSpec]) -> dict[str, str]:
    offers = [offer for item in items for offer in item.plugin_items]
    # A factory may be defined in another module than the one that offers it.
    installed = [offer for offer in offers if offer.plugin.name != LOCAL]
    offered = {name for offer in installed for name in (offer.plugin.module, _module_of(offer.factory))}
    plugins = {offer.plugin for offer in offers if offer.plugin.distribution != "reidbench"}
    versions = {f"distribution {plugin.distribution}": plugin.version for plugin in plugins}
    return code_files(frozenset({*modules, *offered} - {""})) | versions


def _module_of(factory: Callable[..., Any]) -> str:
    """Return the module of the function or class behind a factory, however it is wrapped."""
    module = inspect.getmodule(unwrap(factory))
    if module is None:
        raise PluginError(f"{factory!r}: its module cannot be found, so an edit of it would go unnoticed")
    return module.__name__


@cache
def code_files(roots: frozenset[str]) -> dict[str, str]:
    """Return the digest of every file in the import closure of the modules ``roots``, by the file's name.

    Imports are read from the statements, not from what happens to be loaded: those inside functions count, those for
    type checking do not. They are followed within the core, the packages of ``roots`` and the packages of plugins.
    Computed once in a process.
    """
    exports = reidbench.public_modules()
    plugins = [point.module for point in metadata.entry_points(group="reidbench")]
    followed = {"reidbench", *(name.partition(".")[0] for name in (*plugins, *roots))}
    files: dict[str, str] = {}
    seen = {"", "reidbench"}  # the core's top imports each public name on first use, from the module that defines it
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        top, _, rest = name.partition(".")
        if name in seen or top not in followed:
            continue
        seen.add(name)
        if top == "reidbench" and rest in ("*", *exports):
            waiting += exports.values() if rest == "*" else [exports[rest]]
        elif (module := _module(name)) is not None:
            files |= {module.file: module.digest} if module.digest else {}
            waiting += [*module.imports, name.rpartition(".")[0]]
    return dict(sorted(files.items()))


@dataclass(frozen=True)
class _Module:
    """The part of a module that matters for a digest.

    ``file``: its name, such as "reidbench/training/loop.py".
    ``digest``: sha256 (hex) of its syntax tree, or of its bytes where it is no Python; empty where it has no statement.
    ``imports``: names of modules that it imports; some may name an attribute of a module.
    """

    file: str
    digest: str
    imports: tuple[str, ...]


@cache
def _module(name: str) -> _Module | None:
    """Return a module by its name, or None where there is no file of that name."""
    spec = _spec(name)
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        return None
    path, package = Path(spec.origin), spec.submodule_search_locations is not None
    file = name.replace(".", "/") + ("/__init__.py" if package else path.suffix)
    content = path.read_bytes()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # a compiled module, or a broken one that nothing has imported so far
        return _Module(file, hashlib.sha256(content).hexdigest(), ())
    imports: list[ast.AST] = []
    digest = syntax_digest(tree.body, imports)
    parent = name if package else name.rpartition(".")[0]
    return _Module(file, digest, tuple(each for statement in imports for each in _names(statement, parent)))


@cache
def _spec(name: str) -> ModuleSpec | None:
    """Return the import specification of a module, or None where the name is not a module's."""
    parent = name.rpartition(".")[0]
    above = _spec(parent) if parent else None
    if parent and (above is None or above.submodule_search_locations is None):
        return None
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _names(statement: ast.AST, package: str) -> Iterator[str]:
    """Yield the dotted names, of modules or their attributes, that an import statement in ``package`` imports.

    ``import reidbench`` is yielded as "reidbench.*", since any public name may be used.
    """
    if isinstance(statement, ast.Import):
        yield from ("reidbench.*" if alias.name == "reidbench" else alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        base = importlib.util.resolve_name("." * statement.level + (statement.module or ""), package)
        yield from [base, *(f"{base}.{alias.name}" for alias in statement.names)]


def code_digest(files: Mapping[str, str]) -> str:
    """Return one digest (64 hex digits) over names and digests of files."""
    return hashlib.sha256("".join(f"{name} {files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of files that were added, removed or edited between two digests' file lists."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def local_loss(factory: Callable[..., Any]) -> PluginItem:
    """Return a loss class or factory as an item under its own name; raises PluginError where it breaks the contract.

    The version of its plugin is a digest of its source and of all that it uses from its own module. Where that cannot
    be told the version differs at every call, so that no run is ever reused.
    """
    function = unwrap(factory)
    name = getattr(function, "__name__", type(function).__name__)
    try:
        texts = list(_texts(factory, getattr(function, "__module__", ""), set()))
        version = hashlib.sha256(repr(texts).encode()).hexdigest()
    except (OSError, TypeError):
        version = uuid.uuid4().hex
    item = PluginItem("loss", name, factory, Plugin(LOCAL, f"loss {name}", version, state="ok"))
    item.check()
    return item


def _texts(value: Any, module: str, seen: set[int]) -> Iterator[str]:
    """Yield the source of a function or class of ``module`` and, recursively, of what it names there.

    Constants are yielded as text, and of other modules names alone. ``seen`` holds the ids of functions and classes
    that were yielded. Raises OSError or TypeError where there is no source, or where a value cannot be told from it:
    of objects, and of definitions within functions, which may use their variables.
    """
    if value is None or isinstance(value, bool | int | float | str | bytes | tuple | frozenset):
        yield repr(value)
    elif isinstance(value, partial):
        yield repr((value.args, sorted(value.keywords.items())))
        yield from _texts(value.func, module, seen)
    elif hasattr(value, "__name__") and getattr(value, "__module__", None) != module:
        yield value.__name__
    elif not isinstance(value, FunctionType | type):
        raise TypeError(f"{value!r} has no source")
    elif id(value) not in seen:
        seen.add(id(value))
        definition = value.__code__.co_qualname if isinstance(value, FunctionType) else value.__qualname__
        if "<" in definition:  # <locals> or <lambda>
            raise OSError(f"{definition} is defined within a function")
        source = textwrap.dedent(inspect.getsource(value))
        yield source
        codes = [compile(source, module, "exec")]
        for code in codes:
            codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        scope = vars(sys.modules[module])
        for name in sorted({name for code in codes for name in code.co_names if name in scope}):
            yield from _texts(scope[name], module, seen)


@cache
def commit() -> tuple[str, bool]:
    """Return the commit of the checkout that holds the core, and whether it is dirty; ("", False) outside a checkout.

    Dirty: a tracked file has changes, or there is a module that git does not track. Looked up once in a process.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(CORE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # fails where the core is installed below another repository
        edited = git("status", "--porcelain", "--untracked-files=no")
        new = git("-C", "..", "ls-files", "--others", "--exclude-standard", "--", "reidbench/*.py", "plugins/*.py")
        return git("rev-parse", "HEAD"), bool(edited or new)
    except (OSError, subprocess.SubprocessError):
        return "", False
