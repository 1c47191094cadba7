"""The walls of the house: layers, what plugins may import, no resident's name in the core, room sizes."""

from __future__ import annotations

import ast
from importlib import metadata
from pathlib import Path

import pytest

import reidbench
from reidbench import provenance
from reidbench.plugins import load

CHECKOUT = Path(__file__).parents[1]
CORE = CHECKOUT / "reidbench"

# A module imports, at run time, only from the rows above its own.
LAYERS = (
    {"errors"},
    {"randomness", "settings"},
    {
        *("values", "recipe", "files", "arrays", "hookspecs", "progress", "provenance", "statistics", "compilation"),
        *("threads", "stopping", "distributed", "identity", "page"),
    },
    {"pixel_loops", "figures", "frames"},
    {"record", "spec", "sampling", "schedule", "holdout", "decoding", "matching", "transfers", "kernels", "scores"},
    {"options", "interfaces", "pixel_stores", "tiers", "counting", "monitor", "cameras", "hdf5"},
    {"arithmetic"},
    {"ranking_on_device"},
    {"discovery", "sums", "store", "ranking", "pixels", "pixel_cache", "memory", "report_page"},
    {"plugins", "embedding", "feeding", "optimizers", "scaffold", "comparison", "training_state"},
    {"suite", "report", "training", "kept_embeddings", "fidelity", "synthesis"},
    {"plan"},
    {"runner", "estimate", "inspection", "trained", "leaderboard"},
    {"evaluation", "run_comparison", "run_files"},
    {"testing"},
    {"cli"},
    {"__main__"},
)


def core_modules() -> list[Path]:
    return sorted(CORE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def runtime_imports(path: Path) -> set[str]:
    """Return the modules of the core that a file imports when it runs, wherever in the file."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: relative imports hide what is imported; name it in full"
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "reidbench"
                else {node.module or ""}
            )
    return {name.split(".")[1] for name in found if name.startswith("reidbench.")}


def test_every_module_has_a_layer() -> None:
    rooms = {room_of(path) for path in core_modules()} - {"__init__"}
    assert rooms == set.union(*LAYERS)


@pytest.mark.parametrize("path", core_modules(), ids=lambda path: str(path.relative_to(CORE)))
def test_a_module_imports_only_from_the_layers_above(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    row = next(number for number, layer in enumerate(LAYERS) if room in layer)
    above = set.union(set(), *LAYERS[:row])
    strangers = runtime_imports(path) - above - {room}
    assert not strangers, f"{path.name} imports {sorted(strangers)}, which stand beside or below it"


def test_plugins_import_nothing_of_the_core_but_the_top() -> None:
    for path in sorted((CHECKOUT / "plugins").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom) and node.module == "reidbench":
                names += [f"reidbench.{alias.name}" for alias in node.names if alias.name not in reidbench.__all__]
            assert not [name for name in names if name.startswith("reidbench.")], path


def residents() -> set[str]:
    kinds = ("loss", "backbone", "dataset", "metric", "reranker")
    return {entry.name for kind in kinds for entry in load().entries(kind) if entry.plugin.distribution == "reidbench"}


def test_the_core_knows_no_resident_by_name() -> None:
    names = residents()
    assert {"batch_hard", "tiny", "synthetic"} <= names  # the test would pass on an empty house
    distributions = set(metadata.packages_distributions())
    for path in core_modules():
        tree = ast.parse(path.read_text())
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                assert node.value not in names - distributions, f"{path.name}:{node.lineno} names {node.value}"


@pytest.mark.parametrize("folder", ["reidbench", "plugins"])
def test_no_room_is_longer_than_350_lines(folder: str) -> None:
    long = {
        str(path): lines
        for path in (CHECKOUT / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 350
    }
    assert not long


def test_the_public_api_is_what_it_says() -> None:
    for name in reidbench.__all__:
        assert getattr(reidbench, name) is not None
    # Importing a module sets it on its package: one of the same name would hide what is exported.
    assert not set(reidbench.__all__) & {path.stem for path in CORE.iterdir()}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = reidbench.nonsense


def test_no_number_passes_through_a_module_that_the_code_digest_leaves_out() -> None:
    left_out = provenance.PRESENTATION
    assert left_out <= set.union(*LAYERS)
    used = {
        f"{path.name} imports {room}"
        for path in core_modules()
        if room_of(path) not in {*left_out, "__init__", "__main__"}
        for room in runtime_imports(path) & left_out
    }
    used = {text for text in used if not text.endswith("imports progress")}  # shows how far a loop is
    assert not used
