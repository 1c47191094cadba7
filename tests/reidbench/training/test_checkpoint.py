"""Checkpoint files: written whole, the newest two kept, damage named; the log of a training state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reidbench.errors import DataError
from reidbench.training.checkpoint import (
    SUMMARY,
    Checkpoint,
    TrainingState,
    drop_checkpoints,
    latest_checkpoint,
    latest_step,
    read_summary,
    save_checkpoint,
)
from reidbench.training.monitor import Monitor


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        step, {"weights": torch.full((2, 3), float(step)), "empty": torch.zeros(0, 4)}, {"round": step, "note": "é"}
    )


def test_a_checkpoint_is_restored_bit_for_bit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(7))
    loaded = latest_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.step == 7
    assert loaded.state == {"round": 7, "note": "é"}
    assert torch.equal(loaded.tensors["weights"], torch.full((2, 3), 7.0))
    assert loaded.tensors["empty"].shape == (0, 4)


def test_the_newest_two_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (5, 50, 500, 5000):
        save_checkpoint(tmp_path, checkpoint(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-00000500.safetensors",
        "checkpoint-00005000.safetensors",
    ]
    assert latest_step(tmp_path) == 5000
    drop_checkpoints(tmp_path)
    assert latest_step(tmp_path) == 0
    assert latest_checkpoint(tmp_path) is None


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    save_checkpoint(tmp_path, checkpoint(2))
    newest = tmp_path / "checkpoint-00000002.safetensors"
    newest.write_bytes(newest.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"checkpoint-00000002"):
        latest_checkpoint(tmp_path)
    newest.unlink()
    loaded = latest_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.step == 1


def test_a_column_of_the_log_may_begin_late_and_miss_steps() -> None:
    optimizer = torch.optim.Adam([torch.zeros(1)])
    state = TrainingState(nn.ModuleDict(), optimizer, Monitor(3, 0, torch.device("cpu")), [])
    for row in ({"step": 0}, {"step": 1, "late": 5}, {"step": 2}):
        state.append(row)
    np.testing.assert_array_equal(state.log["step"], [0, 1, 2])
    np.testing.assert_array_equal(state.log["late"], [np.nan, 5, np.nan])


@pytest.mark.parametrize("content", ["{", "{}", '{"environments": [{}]}', '{"environments": []}'])
def test_a_damaged_summary_is_named(content: str, tmp_path: Path) -> None:
    assert read_summary(tmp_path) is None
    (tmp_path / SUMMARY).write_text(content)
    with pytest.raises(DataError, match=SUMMARY):
        read_summary(tmp_path)
