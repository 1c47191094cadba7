"""TensorBoard's and Weights & Biases' files of a training that was interrupted and resumed, read back."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import CHECKOUT

INSTALLED = [name for name in ("tensorboard", "wandb") if find_spec(name)]
STEPS = 6
# Both libraries leave threads and handlers in a process. The training stops in the step after STOP.
STOP = 2
TRAIN = f"""
import os, signal, sys
from reidbench.errors import Interrupted
from reidbench.runs import tracking
from reidbench.runs.execute import execute
from reidbench.runs.plan import Request, make_plan
from reidbench.utils.machine import local_machine
from tests.support.jobs import job

log = tracking.RunObserver.log
def stopping_log(self, step, values):
    log(self, step, values)
    if step == {STOP} and "loss" in values:
        os.kill(os.getpid(), signal.SIGINT)

*trackers, results = sys.argv[1:]
machine = local_machine(device="cpu", threads=1, results=results, trackers=trackers)
for function in (stopping_log, log):
    tracking.RunObserver.log = function
    try:
        list(execute(make_plan(Request([job(recipe="quick(steps={STEPS}, p=6, k=2)")]), machine)))
    except Interrupted:
        assert function is stopping_log
"""
READ_TENSORBOARD = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
scalars = {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}
texts = {name: [(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors(name)]
         for name in events.Tags()["tensors"]}
print(json.dumps([scalars, texts]))
"""
# The file is a log as LevelDB writes it: blocks of 32 KiB of records with checksum, length and kind, after 7 bytes.
READ_WANDB = """
import json, sys
from pathlib import Path
from wandb.proto import wandb_internal_pb2

def records(data):
    place, record = 7, b""
    while place + 7 <= len(data):
        if (rest := 32768 - place % 32768) < 7:
            place += rest
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""

def values(items):
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}

parts = []
for file in sorted(Path(sys.argv[1]).glob("offline-run-*/*.wandb")):
    run, history, summary, code = {}, [], {}, None
    for record in records(file.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = {"id": record.run.run_id, "group": record.run.run_group, "project": record.run.project}
            run |= {"config": values(record.run.config.update)}
        elif kind == "history":
            history.append(values(record.history.item))
        elif kind == "summary":
            summary |= values(record.summary.update)
        elif kind == "exit":
            code = record.exit.exit_code
    parts.append([run, history, summary, code])
print(json.dumps(parts))
"""


def child(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=300, cwd=CHECKOUT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    """Return the folder of the run."""
    results = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REIDBENCH_DATA", str(data_folder))
        child(TRAIN, *INSTALLED, str(results))
    (run,) = (results / "runs").iterdir()
    return run


def log_of(folder: Path) -> dict[str, Any]:
    import numpy as np

    (file,) = folder.parents[1].glob("trainings/*/log.npz")
    return {name: column.tolist() for name, column in np.load(file).items()}


@pytest.mark.skipif("tensorboard" not in INSTALLED, reason="the extra tensorboard is not installed")
def test_tensorboard_files_hold_the_log_and_the_scores(folder: Path) -> None:
    scalars, texts = json.loads(child(READ_TENSORBOARD, str(folder / "tensorboard")))
    log, record = log_of(folder), json.loads((folder / "record.json").read_text())
    assert len(list((folder / "tensorboard").iterdir())) == 2
    for name in ("loss", "learning_rate", "hardest_positive"):
        assert scalars[name] == [[step, pytest.approx(log[name][step])] for step in range(STEPS)]
    assert scalars["norm_50"][-1] == [STEPS - 1, pytest.approx(log["norm_50"][-1])]
    for name, value in record["scores"].items():
        assert scalars[f"scores/{name}"] == [[STEPS, pytest.approx(value)]]
    assert record["items"]["loss"]["spec"] in texts["run/text_summary"][-1][1]
    assert [text.partition(":")[0] for _, text in texts["result/text_summary"]] == ["interrupted", "done"]


@pytest.mark.skipif("wandb" not in INSTALLED, reason="the extra wandb is not installed")
def test_wandb_files_hold_the_log_and_the_scores(folder: Path) -> None:
    parts = json.loads(child(READ_WANDB, str(folder / "wandb")))
    log, record = log_of(folder), json.loads((folder / "record.json").read_text())
    assert [code for *_, code in parts] == [1, 0]
    rows = {row["_step"]: row for _, history, _, _ in parts for row in history}
    assert [len(history) for _, history, _, _ in parts] == [STOP + 2, STEPS - STOP - 2]
    assert [rows[step]["loss"] for step in range(STEPS)] == log["loss"]
    for run, _, summary, code in parts:
        assert (run["id"], run["group"], run["project"]) == (folder.name, record["group"], "reidbench")
        assert run["config"]["loss"] == record["items"]["loss"]["spec"]
        assert summary["status"] == ("interrupted" if code else "ok")
    assert {name: parts[1][2][name] for name in record["scores"]} == record["scores"]
