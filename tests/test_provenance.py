"""The code of a number: which files count, and which do not."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from reidbench import provenance


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A plugin package whose item imports a helper, which imports another when it runs; one file is nobody's."""
    folder = tmp_path / "some_plugin"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "item.py").write_text("from some_plugin.helper import f\nimport json\n\ndef factory():\n    return f()\n")
    (folder / "helper.py").write_text("def f():\n    from . import deeper\n    return deeper.x\n")
    (folder / "deeper.py").write_text("x = 1\n")
    (folder / "stranger.py").write_text("y = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("some_plugin")]:
        del sys.modules[name]
    provenance._module_files.cache_clear()


def files_of(folder: Path) -> dict[str, str]:
    provenance._module_files.cache_clear()
    return provenance.code_files([importlib.import_module("some_plugin.item").factory])


def test_a_plugins_own_imports_count_and_strangers_do_not(package: Path) -> None:
    names = {name for name in files_of(package) if name.startswith("some_plugin")}
    assert names == {f"some_plugin/{module}.py" for module in ("__init__", "item", "helper", "deeper")}


def test_what_is_loaded_does_not_matter(package: Path) -> None:
    before = files_of(package)
    importlib.import_module("some_plugin.item").factory()
    assert "some_plugin.deeper" in sys.modules
    assert files_of(package) == before


def test_an_edit_of_an_indirect_import_changes_the_code(package: Path) -> None:
    before = files_of(package)
    (package / "stranger.py").write_text("y = 3\n")
    assert provenance.code_digest(files_of(package)) == provenance.code_digest(before)
    (package / "deeper.py").write_text("x = 2\n")
    now = files_of(package)
    assert provenance.code_digest(now) != provenance.code_digest(before)
    assert provenance.changed_files(before, now) == ["some_plugin/deeper.py"]


def test_the_core_counts_but_not_what_only_presents() -> None:
    names = set(provenance.code_files([]))
    assert {"reidbench/training.py", "reidbench/ranking.py", "reidbench/pixels.py"} <= names
    assert not {
        name for name in names if "/cli/" in name or name in ("reidbench/report.py", "reidbench/leaderboard.py")
    }


def test_the_commit_is_of_this_checkout_or_none() -> None:
    sha, dirty = provenance.commit()
    assert (len(sha) == 40) or (sha == "" and not dirty)


def test_the_environment_names_what_computes() -> None:
    found = provenance.environment(torch.device("cpu"), 2)
    assert found["threads"] == 2
    assert {"torch", "numpy", "python", "cpu", "system"} <= set(found)
