"""Two processes train as one does; a failure in one process ends all."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from reidbench.errors import OptionError
from reidbench.runs.record import RECORD, read_record
from reidbench.training.checkpoint import LOG, WEIGHTS, read_summary
from reidbench.training.distributed import synchronise_batch_norms
from reidbench.utils.arrays import read_arrays
from reidbench.utils.processes import ALONE, World
from tests.support.cases import cases
from tests.support.jobs import small_run
from tests.support.paths import CHECKOUT


def launch(*command: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), *command],
        capture_output=True, text=True, cwd=CHECKOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=600,
        check=False,
    )  # fmt: skip


def train_both(folder: Path, steps: int, losses: list[str]) -> Path:
    """Train with each loss in one process and in two."""
    for processes in (1, 2):
        backbone = "tiny(norm=none, height=16, width=16, embedding_dim=8)"
        ended = launch(
            "-m", "tests.support.training_process", str(folder), backbone, str(steps), *losses, processes=processes
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


def assert_alike(folder: Path, name: str, steps: int) -> None:
    # Mining embeds in float32, where a difference in the last digit of float64 may change a rounding.
    tolerance = 1e-5 if name == "mining" else 1e-9
    one, two = (folder / f"{name.replace('/', '.')}-{processes}" for processes in (1, 2))
    logs = [read_arrays(place / LOG) for place in (one, two)]
    assert len(logs[0]["loss"]) == steps
    assert len(set(logs[0]["loss"])) == steps, "the loss changes at every step"
    np.testing.assert_allclose(logs[1]["loss"], logs[0]["loss"], rtol=tolerance)
    np.testing.assert_allclose(logs[1]["gradient_norm"], logs[0]["gradient_norm"], rtol=1e-4)
    weights = [safetensors.torch.load_file(place / WEIGHTS) for place in (one, two)]
    for key, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][key], tensor, rtol=0, atol=tolerance)
    summaries = [read_summary(place) for place in (one, two)]
    assert [summary.environments[0].processes for summary in summaries if summary] == [1, 2]


def test_two_processes_train_as_one(tmp_path):
    losses = ["batch_hard", "mining", "batch_hard(feature=squares) + classification + 0.1*centre(feature=squares)"]
    train_both(tmp_path, 5, losses)
    for name in losses:
        assert_alike(tmp_path, name, 5)


@pytest.mark.slow
def test_two_processes_train_as_one_for_fifty_steps(tmp_path):
    losses = ["batch_hard", "lifted", "classification", "pml/MultiSimilarityLoss"]
    train_both(tmp_path, 50, losses)
    for name in losses:
        assert_alike(tmp_path, name, 50)


@pytest.mark.slow
def test_each_process_has_its_own_random_numbers(tmp_path):
    ended = launch("-m", "tests.support.training_process", str(tmp_path), "noise", "2", "mining")
    assert ended.returncode == 0, ended.stderr[-3000:]
    log = read_arrays(tmp_path / "mining-2" / LOG)
    # With equal random numbers in both processes, some of the 11 embeddings of a batch would coincide.
    assert (log["distance_0"] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "messages"), cases(__file__, "a_failure_in_one_process_ends_all"))
def test_a_failure_in_one_process_ends_all(loss, messages, tmp_path):
    ended = launch(
        "-m", "tests.support.training_process", str(tmp_path), "tiny(norm=none, height=16, width=16)", "3", loss
    )
    assert ended.returncode != 0
    assert any(line in ended.stderr for line in messages), ended.stderr[-3000:]
    assert read_summary(tmp_path / f"{loss}-2") is None


@pytest.mark.slow
def test_a_run_records_its_number_of_processes(tmp_path):
    arguments = [part if part != "tiny" else "tiny(norm=none)" for part in small_run("--loss", "batch_hard")]
    ended = launch("-m", "reidbench", *arguments)
    assert ended.returncode == 0, ended.stderr[-3000:]
    (file,) = Path(os.environ["REIDBENCH_RESULTS"]).rglob(RECORD)
    record = read_record(file)
    assert record.status == "ok"
    assert record.environment.processes == 2
    assert ended.stdout.count("batch_hard") == 1, "one process prints"
    assert ended.stderr.count("training step 4/4") == 1


def test_batch_norms_on_cpus_are_refused_by_name():
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2)))
    with pytest.raises(OptionError, match=r"2 processes on a CPU: .* 1\.0 of Sequential"):
        synchronise_batch_norms(World(0, 2), network, torch.device("cpu"))
    synchronise_batch_norms(ALONE, network, torch.device("cpu"))
    synchronise_batch_norms(World(0, 2), nn.Linear(2, 2), torch.device("cpu"))


def test_batch_norms_are_synchronised_with_their_state():
    network = nn.Sequential(nn.Sequential(nn.BatchNorm2d(2, momentum=0.3)))
    nn.init.constant_(network[0][0].weight, 5)
    synchronise_batch_norms(World(1, 2), network, torch.device("cuda"))
    norm = network[0][0]
    assert type(norm) is nn.SyncBatchNorm
    assert (norm.momentum, norm.weight.tolist()) == (0.3, [5, 5])
