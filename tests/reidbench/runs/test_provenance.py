"""The code digests of a training and of a run: which files count, and which edits of them."""

import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reidbench.plugins.catalogue import ResolvedSpec, ResolvedTerm, load
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.runs import provenance
from reidbench.runs.provenance import changed_files, code_digest, code_files, run_code, training_code
from reidbench.training.checkpoint import WEIGHTS
from reidbench.utils.machine import environment, local_machine
from tests.support.cases import cases
from tests.support.jobs import job, run
from tests.support.paths import CHECKOUT

Edit = Callable[[str, Callable[[str], str]], None]


def items(loss: str = "batch_hard") -> dict[str, ResolvedSpec]:
    specs = {"protocol": "synthetic", "dataset": "synthetic", "loss": loss, "backbone": "tiny", "recipe": "quick"}
    specs |= {"metric": "euclidean", "reranker": "k_reciprocal"}
    return {kind: load().resolve(kind, spec) for kind, spec in specs.items()}


@pytest.fixture
def edit(monkeypatch):
    """Edit a file of the checkout in the eyes of the digests."""
    contents: dict[Path, bytes] = {}
    read, module = Path.read_bytes, provenance._module

    def change(file, edited):
        path = CHECKOUT / file
        text = path.read_text()
        assert edited(text) != text
        contents[path] = edited(text).encode()
        names.add(file.removeprefix("plugins/").removesuffix(".py").replace("/", "."))
        code_files.cache_clear()

    names: set[str] = set()
    monkeypatch.setattr(Path, "read_bytes", lambda path: contents.get(path) or read(path))
    monkeypatch.setattr(provenance, "_module", lambda name: (module.__wrapped__ if name in names else module)(name))
    yield change
    code_files.cache_clear()


def reword_docstring(text: str) -> str:
    return text.replace('"""', '"""Edited. ', 1)


def add_comment(text: str) -> str:
    return f"# edited\n{text}"


def reword_errors(text: str) -> str:
    return re.sub(r'(raise \w+\(\s*f?")', r"\1edited: ", text)


def add_statement(text: str) -> str:
    return f"{text}\nEDITED = 1\n"


EDITS = {edited.__name__: edited for edited in (reword_docstring, add_comment, reword_errors, add_statement)}


@pytest.mark.parametrize(
    ("file", "edited", "retrains", "scores_again"), cases(__file__, "which_edits_retrain_or_score_again")
)
def test_which_edits_retrain_or_score_again(file, edited, retrains, scores_again, edit):
    before = training_code(items()), run_code(items())
    edit(file, EDITS[edited])
    now = training_code(items()), run_code(items())
    name = file.removeprefix("plugins/")
    assert changed_files(before[0], now[0]) == [name] * retrains
    assert changed_files(before[1], now[1]) == [name] * scores_again
    assert (code_digest(before[0]) != code_digest(now[0])) == retrains


def test_an_edited_score_scores_again_without_training(edit):
    plan, record, _ = run(job())
    weights = plan.training_folder / WEIGHTS
    written = weights.stat().st_mtime_ns
    edit("reidbench/training/loop.py", reword_errors)
    assert run(job())[1].code == record.code
    edit("reidbench/ranking/scores.py", add_statement)
    again, scored, _ = run(job())
    assert (scored.code != record.code, scored.scores) == (True, record.scores)
    assert again.training_folder == plan.training_folder
    assert weights.stat().st_mtime_ns == written
    edit("reidbench/training/sampler.py", add_statement)
    assert run(job())[0].training_folder != plan.training_folder


@pytest.mark.parametrize("loss", ["batch_hard", "triplet_ohm", "classification + 0.5*batch_all"])
def test_training_code_holds_no_ranking_and_no_orchestration(loss):
    core = {name for name in training_code(items(loss)) if name.startswith("reidbench/")}
    packages = {name.split("/")[1] for name in core}
    assert packages == {"errors.py", "utils", "data", "plugins", "images", "embedding", "training"}
    assert len(core) <= 41, sorted(core)
    assert {name.split("/")[1] for name in run_code(items(loss))} & {"runs", "reports", "leaderboard", "cli"} == set()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A plugin package whose item imports a helper, which imports another when it runs; one file is not imported."""
    folder = tmp_path / "some_plugin"
    folder.mkdir()
    (folder / "__init__.py").write_text("version = 1\n")
    (folder / "item.py").write_text("from some_plugin.helper import f\nimport json\n\ndef factory():\n    return f()\n")
    (folder / "helper.py").write_text("def f():\n    from . import deeper\n    return deeper.x\n")
    (folder / "deeper.py").write_text("x = 1\n")
    (folder / "other.py").write_text("y = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("some_plugin")]:
        del sys.modules[name]
    provenance._module.cache_clear()
    provenance._spec.cache_clear()


def files_of(module: str) -> dict[str, str]:
    for function in (code_files, provenance._module, provenance._spec):
        function.cache_clear()
    importlib.invalidate_caches()
    return code_files(frozenset({module}))


def test_imports_are_followed_within_the_package(package):
    assert set(files_of("some_plugin.item")) == {
        f"some_plugin/{module}.py" for module in ("__init__", "item", "helper", "deeper")
    }


def test_loaded_modules_do_not_matter(package):
    before = files_of("some_plugin.item")
    importlib.import_module("some_plugin.item").factory()
    assert "some_plugin.deeper" in sys.modules
    assert files_of("some_plugin.item") == before


def test_an_edit_of_an_indirect_import_changes_the_digest(package):
    before = files_of("some_plugin.item")
    (package / "other.py").write_text("y = 3\n")
    assert files_of("some_plugin.item") == before
    (package / "deeper.py").write_text("x = 2\n")
    assert changed_files(before, files_of("some_plugin.item")) == ["some_plugin/deeper.py"]


@pytest.mark.parametrize(("statement", "file"), cases(__file__, "imports_of_other_packages_and_public_names"))
def test_imports_of_other_packages_and_public_names(statement, file, package):
    (package / "deeper.py").write_text(f"{statement}\n")
    files = set(files_of("some_plugin.item"))
    assert {file, "some_plugin/deeper.py"} <= files
    assert not {"reidbench_losses/triplet.py", "reidbench/__init__.py"} & files


def test_imports_for_type_checking_do_not_count(package):
    before = files_of("some_plugin.item")
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from some_plugin import other\nx = 1\n"
    (package / "deeper.py").write_text(text)
    assert set(files_of("some_plugin.item")) == set(before)


def test_broken_and_compiled_modules_count_by_their_bytes(package):
    (package / "deeper.py").write_bytes(b"x = (\n")
    before = files_of("some_plugin.item")
    (package / "deeper.py").write_bytes(b"x = (\n# a comment\n")
    assert changed_files(before, files_of("some_plugin.item")) == ["some_plugin/deeper.py"]
    (package / "deeper.py").unlink()
    (package / "deeper.so").write_bytes(b"\x7fELF\0")
    assert "some_plugin/deeper.so" in files_of("some_plugin.item")


@pytest.mark.parametrize("wrapper", ["wrapped", "partial(wrapped)", "partial(partial(factory))"])
def test_a_factory_counts_behind_its_wrappers(wrapper, package):
    (package / "other.py").write_text(
        "from functools import partial, wraps\nfrom some_plugin.item import factory\n"
        f"@wraps(partial(factory))\ndef wrapped():\n    return factory()\noffered = {wrapper}\n"
    )
    factory = importlib.import_module("some_plugin.other").offered
    plugin = Plugin("some", "some-plugin", "1.2", state="ok", module="some_plugin.other")
    term = ResolvedTerm(PluginItem("loss", "some", factory, plugin), 1.0, {}, {})
    code = training_code({**items(), "loss": replace(items()["loss"], terms=(term,))})
    assert {"some_plugin/item.py", "some_plugin/other.py", "some_plugin/deeper.py"} <= set(code)
    assert code["distribution some-plugin"] == "1.2"


def test_the_commit_is_of_this_checkout_or_none():
    sha, dirty = provenance.commit()
    assert (len(sha) == 40) or (sha == "" and not dirty)


def test_the_environment_names_what_computes():
    found = environment(local_machine(device="cpu", threads=2))
    assert (found.threads, found.device, found.device_name) == (2, "cpu", "cpu")


def test_a_new_module_makes_a_checkout_dirty(tmp_path, monkeypatch):
    core = tmp_path / "reidbench"
    core.mkdir()
    (core / "__init__.py").write_text("")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "c"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(provenance, "CORE", core)

    def dirty():
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
