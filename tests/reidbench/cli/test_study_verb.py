"""``reidbench study FOLDER`` prints a finished study, also where its page cannot be written."""

import os
from types import SimpleNamespace

import pytest

import reidbench
from reidbench.cli import plan_output
from reidbench.errors import OptionError
from reidbench.studies import hours, page, run_study
from reidbench.studies.run_study import write_trials
from reidbench.studies.study import TRIALS_FILE, store_study
from reidbench.utils.machine import local_machine
from tests.support.studies import LOSSES, make_study


@pytest.fixture
def folder(tmp_path):
    result = make_study(tmp_path / "study")
    store_study(result, result.folder, lambda final: os.path.relpath(final.folder, result.folder))
    write_trials([trial for each in result.losses for trial in each.trials], result.folder / TRIALS_FILE)
    return result.folder


def test_finished_study_is_printed_from_its_folder(reidbench_call, folder, tmp_path):
    done = reidbench_call("study", str(folder), "--html", str(tmp_path / "page.html"))
    assert done.returncode == 0
    assert all(loss in done.stdout for loss in LOSSES)
    assert "<html" in (tmp_path / "page.html").read_text()
    before = sorted(folder.iterdir())
    again = reidbench_call("study", str(folder))
    assert again.stdout == done.stdout
    assert sorted(folder.iterdir()) == before, "a page was written"
    assert set(reidbench.study(folder).to_frame()["loss"]) == {*LOSSES}


def test_finished_study_takes_no_further_options(reidbench_call, folder):
    done = reidbench_call("study", str(folder), "--seeds", "7")
    assert done.returncode == 2
    assert "finished study" in done.stderr
    assert str(folder) in done.stderr.replace("\n", "")
    assert reidbench_call("study", str(folder), "--scale", "tiny").returncode == 2
    with pytest.raises(OptionError, match="seeds"):
        reidbench.study(folder, seeds=7)


def test_folder_without_a_study_is_named(reidbench_call, tmp_path):
    done = reidbench_call("study", str(tmp_path))
    assert (done.returncode, "study.json" in done.stderr) == (2, True)


def test_page_that_fails_hides_no_table(reidbench_call, folder, tmp_path, monkeypatch):
    result = reidbench.study(folder)
    monkeypatch.setattr(page, "write_page", lambda *_: (tmp_path / "missing" / "file").read_text())
    # Nothing is planned or trained.
    plan = SimpleNamespace(describe=list, notes=[], expected=None, machine=local_machine(results=tmp_path))
    monkeypatch.setattr(hours, "plan_study", lambda *_, **__: plan)
    monkeypatch.setattr(plan_output, "print_plan", lambda *_, **__: None)
    monkeypatch.setattr(run_study, "run_study", lambda *_: result)
    with_html = ("study", str(folder), "--html", str(tmp_path / "page.html"))  # a requested page must not fail
    for arguments, code in ((with_html, 1), (("study", "--loss", "batch_hard", "--trials", "0"), 0)):
        done = reidbench_call(*arguments)
        assert done.returncode == code
        assert all(loss in done.stdout for loss in LOSSES)
        assert "(95 %)" in done.stdout
        assert "page" in done.stderr
        assert "missing" in done.stderr
