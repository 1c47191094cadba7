"""A training that trackers follow, that is validated, stopped and resumed; one tracker fails; refused requests."""

import os
import signal
import time

import numpy as np
import pytest

import reidbench
from reidbench.errors import Interrupted, OptionError, PluginError
from reidbench.plugins.catalogue import Catalogue, load
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.runs import tracking
from reidbench.runs.execute import execute
from reidbench.runs.plan import Request, make_plan
from reidbench.runs.preflight import check_request
from reidbench.runs.tasks import TASKS, make_batch, read_task, write_batch
from reidbench.utils.machine import local_machine
from reidbench.utils.untrusted_files import TEXT_BYTES
from tests.support.jobs import SMALL_PROTOCOL, job, plan_of, small_run
from tests.support.logs import read_log

HELD_OUT = SMALL_PROTOCOL.replace("(", "_val(")
JOBS = [job(protocol=HELD_OUT, metric="xqda"), job(protocol=HELD_OUT)]  # of one training of 4 steps


class Notes:
    """Notes the start, the values by step and the record of each run, and stops the first at a step."""

    def start(self, run):
        self.values = {}
        self.runs.append([run, self.values])

    def log(self, step, values):
        self.values.setdefault(step, {}).update(values)
        if len(self.runs) == 1 and "loss" in values and step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    def finish(self, record):
        self.runs[-1].append(record)


class Failing(Notes):
    """Fails at a step."""

    def log(self, step, values):
        raise OSError(28, "No space left on device")


@pytest.fixture
def doubles(monkeypatch):
    plugin = Plugin("doubles", "tests", "1", state="ok")
    items = tuple(PluginItem("tracker", each.__name__, each, plugin) for each in (Notes, Failing, object))
    monkeypatch.setattr(tracking, "load", lambda: Catalogue((plugin,), items))
    Notes.runs, Failing.runs = [], []


def plan(results, lines=(), **settings):
    machine = local_machine(device="cpu", threads=1, results=results, log=list(lines).append, **settings)
    return make_plan(Request(JOBS), machine, load())


def test_trackers_and_validation_change_no_result(tmp_path, doubles, monkeypatch):
    hours, clock, rank_split, lines = [], time.monotonic, tracking.rank_split, []
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 3600 * len(hours))
    monkeypatch.setattr(tracking, "rank_split", lambda *given: (hours.append(1), rank_split(*given))[1])
    settings = {"trackers": ["Failing", "Notes"], "validate_every": 2}
    machine = local_machine(device="cpu", threads=1, results=tmp_path / "tracked", log=lines.append, **settings)
    with pytest.raises(Interrupted):
        list(execute(make_plan(Request(JOBS), machine, load())))
    records = [record for _, record in execute(make_plan(Request(JOBS), machine, load()))]
    plain = [record for _, record in execute(plan(tmp_path / "plain"))]
    for record, other in zip(records, plain, strict=True):
        assert (record.weights, record.scores, record.id) == (other.weights, other.scores, other.id)
    assert len(hours) == 2
    assert records[0].seconds["train"] < 3600

    (first, before, stopped), (resumed, after, told), (second, none, last) = Notes.runs
    assert (first.step, resumed.step, second.step, none) == (0, 3, 4, {})  # the second run is only scored
    assert (stopped.status, [told, last]) == ("interrupted", records)
    assert first.config["metric"].startswith("xqda(")
    assert (first.config["seed"], first.group, first.name) == (0, records[0].group, first.folder.name)

    log = read_log(tmp_path / "tracked" / records[0].training)
    assert [{**before, **after}[step]["loss"] for step in range(4)] == log["loss"].tolist()
    assert after[3]["active"] == log["active"][3]
    assert np.isnan(log["validation.r1"]).tolist() == [True, False] * 2
    assert before[1]["validation.r1"] == log["validation.r1"][1]
    for name in ("map_market", "r1"):  # after the last step it is the score of the run that trains, with its own metric
        assert log[f"validation.{name}"][3] == pytest.approx(records[0].scores[name])
    assert [line.partition(": tracker Failing")[2] != "" for line in lines if "No space left" in line] == [True] * 2


def test_settings_travel_with_a_task(tmp_path, doubles):
    planned = plan(tmp_path, trackers=["Notes"], validate_every=3)
    batch = make_batch(planned)
    write_batch(batch, planned)
    machine = local_machine(**read_task(batch.folder / TASKS, 0).settings)
    assert (machine.trackers, machine.validate_every) == (["Notes"], 3)
    with (batch.folder / TASKS).open("a", encoding="utf-8") as tasks:  # as long as with ten thousand others
        tasks.write("x" * TEXT_BYTES)
    assert read_task(batch.folder / TASKS, 0).settings["validate_every"] == 3


def test_wrong_requests_are_refused(tmp_path, doubles):
    with pytest.raises(PluginError, match=r"tracker object .*reidbench.Tracker"):
        plan(tmp_path, trackers=["object"])
    with pytest.raises(OptionError, match=r"--validate-every: protocol synthetic.*synthetic_val"):
        check_request(*plan_of(job(), validate_every=1))
    with pytest.raises(OptionError, match="--validate-every: protocol synthetic"):
        reidbench.run(protocol=SMALL_PROTOCOL, validate_every=1, device="cpu", results=tmp_path)
    with pytest.raises(OptionError, match=r"there is no tracker .*note.*Notes"):
        reidbench.run(protocol=SMALL_PROTOCOL, tracker="note", device="cpu", results=tmp_path)
    with pytest.raises(OptionError, match="--validate-every: expected 0 or more, got -1"):
        local_machine(validate_every=-1)


@pytest.mark.parametrize("extra", ["tensorboard", "wandb"])
def test_a_missing_extra_is_named_before_the_training(extra, tmp_path, monkeypatch, reidbench_call):
    monkeypatch.setattr("reidbench_trackers.installed.find_spec", lambda name: None)
    ended = reidbench_call(*small_run("--tracker", extra, "--results", str(tmp_path), "--dry-run"))
    assert ended.returncode == 2
    assert f"pip install 'reidbench[{extra}]'" in ended.stderr
    assert not list(tmp_path.iterdir())
