"""TensorBoard's and Weights & Biases' files of a training that was interrupted and resumed, read back."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from reidbench.runs.record import read_record
from tests.support.logs import read_log
from tests.support.paths import CHECKOUT

INSTALLED = [name for name in ("tensorboard", "wandb") if find_spec(name)]
STEPS = 6
# Child processes, since both libraries leave threads and handlers in theirs. The training stops after step 3.
TRAIN = f"""
import os, signal, sys
from reidbench.errors import Interrupted
from reidbench.runs import execute, plan, tracking
from reidbench.utils.machine import local_machine
from tests.support.jobs import job

log = tracking.RunObserver.log
def stopping_log(self, step, values):
    log(self, step, values)
    if step == 2 and "loss" in values:
        os.kill(os.getpid(), signal.SIGINT)

machine = local_machine(device="cpu", threads=1, results=sys.argv[1], trackers=sys.argv[2:])
request = plan.Request([job(recipe="quick(steps={STEPS}, p=6, k=2)")])
for function in (stopping_log, log):
    tracking.RunObserver.log = function
    try:
        list(execute.execute(plan.make_plan(request, machine)))
    except Interrupted:
        assert function is stopping_log
"""
READ_TENSORBOARD = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1] + "/tensorboard").Reload()
texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("result/text_summary")]
scalars = {name: [[each.step, each.value] for each in events.Scalars(name)] for name in events.Tags()["scalars"]}
print(json.dumps([scalars, texts]))
"""
# A file is a log as LevelDB writes it: after 7 bytes, blocks of 32 KiB of records with checksum, length and kind.
READ_WANDB = """
import json, sys
from pathlib import Path
from wandb.proto.wandb_internal_pb2 import Record

def values(items):
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}

def read(data, place=7, record=b""):
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(record)
            record = b""

parts = []
for file in sorted(Path(sys.argv[1]).glob("wandb/offline-run-*/*.wandb")):
    records = list(read(file.read_bytes()))
    (run,) = (each.run for each in records if each.HasField("run"))
    history = [values(each.history.item) for each in records if each.HasField("history")]
    summary = {k: v for each in records if each.HasField("summary") for k, v in values(each.summary.update).items()}
    parts.append([run.run_id, run.run_group, run.project, values(run.config.update)["loss"], history, summary])
print(json.dumps(parts))
"""


def child(code, *arguments, **variables):
    environment = {**os.environ, **variables}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300, cwd=CHECKOUT, env=environment)
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data_folder):
    """Return the folder of the run."""
    results = tmp_path_factory.mktemp("results")
    child(TRAIN, results, *INSTALLED, REIDBENCH_DATA=str(data_folder), REIDBENCH_CACHE=str(results / "cache"))
    (run,) = (results / "runs").iterdir()
    return run


@pytest.mark.skipif("tensorboard" not in INSTALLED, reason="the extra tensorboard is not installed")
def test_tensorboard_files_hold_the_log_and_the_scores(folder):
    scalars, texts = json.loads(child(READ_TENSORBOARD, folder))
    record = read_record(folder / "record.json")
    log = read_log(folder.parents[1] / record.training)
    for name in ("loss", "learning_rate", "hardest_positive"):
        assert scalars[name] == [[step, pytest.approx(log[name][step])] for step in range(STEPS)]
    assert scalars["norm_50"][-1] == [STEPS - 1, pytest.approx(log["norm_50"][-1])]
    for name, value in record.scores.items():
        assert scalars[f"scores/{name}"] == [[STEPS, pytest.approx(value)]]
    assert [text.partition(":")[0] for text in texts] == ["interrupted", "done"]


@pytest.mark.skipif("wandb" not in INSTALLED, reason="the extra wandb is not installed")
def test_wandb_files_hold_the_log_and_the_scores(folder):
    parts = json.loads(child(READ_WANDB, folder))
    record = read_record(folder / "record.json")
    log = read_log(folder.parents[1] / record.training)
    for *names, _, _ in parts:
        assert names == [folder.name, record.group, "reidbench", record.items["loss"].spec]
    rows = [row for *_, history, _ in parts for row in history]
    assert [row["_step"] for row in rows] == list(range(STEPS))
    assert [row["loss"] for row in rows] == log["loss"].tolist()
    assert [summary["status"] for *_, summary in parts] == ["interrupted", "ok"]
    assert {name: parts[1][-1][name] for name in record.scores} == record.scores
