"""What ``reidbench study`` prints where the page of the study cannot be written."""

from types import SimpleNamespace

from reidbench.cli import plan_output
from reidbench.studies import hours, page, run_study
from reidbench.utils.machine import local_machine
from tests.support.studies import LOSSES, make_study


def test_page_that_fails_hides_no_table(reidbench_call, tmp_path, monkeypatch):
    result = make_study(tmp_path, trials=0)
    # Nothing is planned or trained.
    plan = SimpleNamespace(describe=list, notes=[], expected=None, machine=local_machine(results=tmp_path))
    monkeypatch.setattr(hours, "plan_study", lambda *_, **__: plan)
    monkeypatch.setattr(plan_output, "print_plan", lambda *_, **__: None)
    monkeypatch.setattr(run_study, "run_study", lambda *_: result)
    monkeypatch.setattr(page, "write_page", lambda _: (tmp_path / "missing" / "file").read_text())
    done = reidbench_call("study", "--loss", "batch_hard", "--trials", "0")
    assert done.returncode == 0
    assert all(loss in done.stdout for loss in LOSSES)
    assert "(95 %)" in done.stdout
    assert "page" in done.stderr
    assert "missing" in done.stderr
