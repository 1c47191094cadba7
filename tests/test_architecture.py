"""Architecture: import order, what plugins may import, no built-in item named in the core, sizes."""

import ast
import io
import subprocess
import sys
import tokenize
from importlib import metadata
from pathlib import Path

import pytest

import reidbench
from reidbench.plugins.catalogue import load
from tests.support.jobs import small_run
from tests.support.paths import CHECKOUT

CORE = CHECKOUT / "reidbench"

# A package imports only from the rows above its own; packages of one row do not import each other.
ROWS = "errors, utils, data plugins, images, embedding, training ranking, runs, reports, studies, leaderboard testing"
ORDER = [set(row.split()) for row in [*ROWS.split(", "), "cli", "__main__"]]


def core_modules() -> list[Path]:
    return sorted(CORE.rglob("*.py"))


def package_of(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def module_name(path: Path) -> str:
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def core_imports(path: Path) -> set[str]:
    """Return the core modules that a file imports anywhere: at run time, inside functions, for type checking."""
    modules = {module_name(module) for module in core_modules()}
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: relative imports hide what is imported; name it in full"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= {name if name in modules else node.module or "" for name in full}
    return imported & modules


def test_every_package_has_a_row():
    assert {package_of(path) for path in core_modules()} - {"__init__"} == set.union(*ORDER)


def test_top_holds_packages_and_at_most_six_files():
    files = [path for path in CORE.iterdir() if path.is_file()]
    assert len(files) <= 6, sorted(path.name for path in files)


@pytest.mark.parametrize("path", core_modules(), ids=lambda path: str(path.relative_to(CORE)))
def test_module_imports_only_from_rows_above(path):
    package = package_of(path)
    if package == "__init__":
        return
    row = next(number for number, packages in enumerate(ORDER) if package in packages)
    allowed = set.union(set(), *ORDER[:row]) | {package}
    imported = {name.split(".")[1] for name in core_imports(path) if "." in name}
    assert imported <= allowed, f"{path.name} imports {sorted(imported - allowed)}, which stand below it"


def test_no_import_cycle():
    imports = {module_name(path): core_imports(path) - {"reidbench"} for path in core_modules()}
    while leaves := {name for name, needed in imports.items() if not needed & set(imports)}:
        imports = {name: needed for name, needed in imports.items() if name not in leaves}
    assert not imports, f"these modules import each other in a cycle: {sorted(imports)}"


def test_plugins_import_nothing_of_the_core_but_the_top():
    for path in sorted((CHECKOUT / "plugins").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom) and node.module == "reidbench":
                names += [f"reidbench.{alias.name}" for alias in node.names if alias.name not in reidbench.__all__]
            assert not [name for name in names if name.startswith("reidbench.")], path


def built_in_items() -> set[str]:
    kinds = ("loss", "backbone", "dataset", "metric", "reranker")
    return {
        entry.name for kind in kinds for entry in load().list_items(kind) if entry.plugin.distribution == "reidbench"
    }


def test_core_names_no_built_in_item():
    names = built_in_items()
    assert {"batch_hard", "tiny", "synthetic"} <= names  # without items the test would always pass
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
def test_no_file_is_longer_than_350_lines(folder):
    long = {
        str(path): lines
        for path in (CHECKOUT / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 350
    }
    assert not long


def test_public_api_resolves():
    for name in reidbench.__all__:
        assert getattr(reidbench, name) is not None
    # Importing a module sets it on its package: one of the same name would hide what is exported.
    assert not set(reidbench.__all__) & {path.stem for path in CORE.iterdir()}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = reidbench.nonsense


# --- size -------------------------------------------------------------------------------------------------------------

# Lines of code: neither blank, comment nor docstring. A change that needs more drops its least useful part.
INNER = ("errors.py", "utils", "data", "plugins", "images", "embedding", "training", "ranking", "runs")
OUTER = ("reports", "studies", "leaderboard", "testing", "cli")
BUDGETS = {
    "inner": (7_700, [CORE / name for name in INNER]),
    "outer": (5_000, [CORE / name for name in OUTER]),
    "plugins": (9_800, [CHECKOUT / "plugins"]),
    "tests": (21_000, [CHECKOUT / "tests"]),
}
MODULES_LOADED = 75
NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}


def code_lines(text: str) -> int:
    """Return how many lines of a module hold anything but comments and docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                lines.difference_update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(lines)


def test_code_lines_leave_out_comments_and_docstrings():
    assert (
        code_lines(
            '"""A module."""\n\nx = 1  # one\n\n\ndef f():\n    """Return\n\n    nothing."""\n    y = """a\nb"""\n'
        )
        == 4
    )


@pytest.mark.parametrize("ring", BUDGETS)
def test_ring_keeps_its_budget_of_code_lines(ring):
    budget, places = BUDGETS[ring]
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))]
    assert sum(code_lines(file.read_text()) for file in files) <= budget


def test_run_loads_few_core_modules(tmp_path):
    arguments = small_run(
        "--loss", "batch_hard", "--metric", "xqda", "--rerank", "k_reciprocal", "--results", str(tmp_path)
    )
    code = (
        "import sys, reidbench.cli\n"
        f"sys.argv = ['reidbench', *{[str(argument) for argument in arguments]!r}]\n"
        "try:\n    reidbench.cli.main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "modules = [m for n, m in sys.modules.items() if n.startswith('reidbench.')]\n"
        "print('loaded', sum(not m.__file__.endswith('__init__.py') for m in modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout.split()[-1]) <= MODULES_LOADED
