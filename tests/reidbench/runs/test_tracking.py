"""Trackers beside a run, of which one fails; validation scores; requests that are refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from reidbench.errors import OptionError, PluginError
from reidbench.plugins.catalogue import Catalogue, load
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.runs import tracking
from reidbench.runs.execute import execute
from reidbench.runs.plan import Plan, Request, make_plan
from reidbench.runs.preflight import check_request
from reidbench.runs.tasks import TASKS, make_batch, read_task, write_batch
from reidbench.utils.machine import local_machine
from tests.support.jobs import SMALL_PROTOCOL, job, plan_of, small_run
from tests.support.logs import read_log

HELD_OUT = SMALL_PROTOCOL.replace("(", "_val(")
JOBS = [job(protocol=HELD_OUT, metric="xqda"), job(protocol=HELD_OUT)]  # of one training


class Notes:
    """Notes what it is told of each run."""

    runs: ClassVar[list[list[Any]]] = []

    def start(self, run: tracking.TrackedRun) -> None:
        self.runs.append([run, {}])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.runs[-1][1].setdefault(step, {}).update(values)

    def finish(self, record: object) -> None:
        self.runs[-1].append(record)


class Failing(Notes):
    """Fails at a step."""

    runs: ClassVar[list[list[Any]]] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        super().log(step, values)
        if step == 1:
            raise OSError(28, "No space left on device")


@pytest.fixture
def trackers(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    plugin = Plugin("doubles", "tests", "1", state="ok")
    items = [PluginItem("tracker", each.__name__, each, plugin) for each in (Notes, Failing, object)]
    monkeypatch.setattr(tracking, "load", lambda: Catalogue((plugin,), tuple(items)))
    Notes.runs.clear()
    Failing.runs.clear()
    return ("Failing", "Notes")


def plan(results: Path, lines: list[str], **settings: Any) -> Plan:
    return make_plan(
        Request(JOBS), local_machine(device="cpu", threads=1, results=results, log=lines.append, **settings), load()
    )


def test_trackers_and_validation_change_no_result(tmp_path: Path, trackers: tuple[str, str]) -> None:
    lines: list[str] = []
    tracked = plan(tmp_path / "tracked", lines, trackers=trackers, validate_every=2)
    records = [record for _, record in execute(tracked)]
    expected = [record for _, record in execute(plan(tmp_path / "plain", []))]
    for record, plain in zip(records, expected, strict=True):
        assert (record.weights, record.scores, record.id) == (plain.weights, plain.scores, plain.id)

    (first, steps, told), (second, none, last) = Notes.runs
    assert (first.step, second.step, none) == (0, 4, {})  # the second run is only scored
    assert [told, last] == records
    assert first.config["seed"] == 0
    assert first.config["metric"].startswith("xqda(")
    assert first.group == records[0].group
    assert first.folder == tracked.runs[0].run_folder

    log = read_log(tracked.runs[0].training_folder)
    assert [steps[step]["loss"] for step in range(4)] == log["loss"].tolist()
    assert steps[3]["active"] == log["active"][3]
    assert np.isnan(log["validation.r1"]).tolist() == [True, False] * 2
    assert steps[1]["validation.r1"] == log["validation.r1"][1]
    assert "validation.r1" not in steps[0]
    for name in ("map_market", "r1"):  # after the last step it is the score of the run that trains, with its own metric
        assert log[f"validation.{name}"][3] == pytest.approx(records[0].scores[name])

    (warning,) = [line for line in lines if "No space left" in line]
    assert "tracker Failing (doubles, tests 1)" in warning
    assert max(Failing.runs[0][1]) == 1


def test_settings_travel_with_a_task(tmp_path: Path, trackers: tuple[str, str]) -> None:
    planned = plan(tmp_path, [], trackers=trackers, validate_every=3)
    batch = make_batch(planned)
    write_batch(batch, planned)
    machine = local_machine(**read_task(batch.folder / TASKS, 0).settings)
    assert (tuple(machine.trackers), machine.validate_every) == (trackers, 3)


def test_a_tracker_without_the_methods_is_refused(tmp_path: Path, trackers: tuple[str, str]) -> None:
    with pytest.raises(PluginError, match=r"tracker object .*start, log, finish"):
        plan(tmp_path, [], trackers=["object"])


def test_validation_on_test_identities_is_refused() -> None:
    with pytest.raises(OptionError, match=r"--validate-every: protocol synthetic.*synthetic_val"):
        check_request(*plan_of(job(), validate_every=1))
    with pytest.raises(OptionError, match="--validate-every: expected 0 or more, got -1"):
        local_machine(validate_every=-1)


@pytest.mark.parametrize("extra", ["tensorboard", "wandb"])
def test_a_missing_extra_is_named_before_the_training(
    extra: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reidbench_call: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    monkeypatch.setattr("reidbench_trackers.installed.find_spec", lambda name: None)
    ended = reidbench_call(*small_run("--tracker", extra, "--results", str(tmp_path), "--dry-run"))
    assert ended.returncode == 2
    assert f"pip install 'reidbench[{extra}]'" in ended.stderr
    assert not list(tmp_path.iterdir())
