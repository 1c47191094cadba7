"""The code of a number: which files count, and which do not."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reidbench.runs import provenance
from reidbench.utils.machine import environment, local_machine


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
    assert {"reidbench/training/loop.py", "reidbench/ranking/rank.py", "reidbench/images/augment.py"} <= names
    assert not {name for name in names if "/cli/" in name or "/leaderboard/" in name}


def test_the_commit_is_of_this_checkout_or_none() -> None:
    sha, dirty = provenance.commit()
    assert (len(sha) == 40) or (sha == "" and not dirty)


def test_the_environment_names_what_computes() -> None:
    found = environment(local_machine(device="cpu", threads=2))
    assert found["threads"] == 2
    assert {"torch", "numpy", "python", "cpu", "system"} <= set(found)


def test_imports_are_followed_into_other_plugins_packages(package: Path) -> None:
    item = package / "item.py"
    item.write_text(item.read_text() + "from reidbench_losses import distances\n")
    importlib.invalidate_caches()
    names = set(files_of(package))
    assert {"reidbench_losses/distances.py", "some_plugin/deeper.py"} <= names
    assert "reidbench_losses/triplet.py" not in names


def test_a_new_module_makes_a_checkout_dirty_and_a_note_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = tmp_path / "reidbench"
    core.mkdir()
    (core / "__init__.py").write_text("")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "c"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(provenance, "CORE", core)

    def dirty() -> bool:
        provenance.commit.cache_clear()
        return provenance.commit()[1]

    try:
        (tmp_path / "note.txt").write_text("")
        assert not dirty()
        (core / "new.py").write_text("")
        assert dirty()
        (core / "new.py").unlink()
        (core / "__init__.py").write_text("x = 1\n")
        assert dirty()
    finally:
        provenance.commit.cache_clear()


def test_a_factory_is_found_behind_whatever_wraps_it_and_so_is_who_offers_it(package: Path) -> None:
    factory = importlib.import_module("some_plugin.item").factory

    @functools.wraps(functools.partial(factory))
    def wrapped() -> int:
        return int(factory())

    for each in (wrapped, functools.partial(wrapped), functools.partial(functools.partial(factory))):
        assert "some_plugin/item.py" in provenance.code_files([each])
    assert "some_plugin/stranger.py" in provenance.code_files([], ["some_plugin.stranger"])
