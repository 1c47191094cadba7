"""Run folders and checkpoints: whole or not there, newest first, never a pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reidbench.errors import DataError
from reidbench.store import (
    Checkpoint,
    Store,
    drop_checkpoints,
    latest_checkpoint,
    latest_step,
    load_arrays,
    save_arrays,
    save_checkpoint,
)


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        step, {"weights": torch.full((2, 3), float(step)), "empty": torch.zeros(0, 4)}, {"round": step, "note": "é"}
    )


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(7))
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 7
    assert found.state == {"round": 7, "note": "é"}
    assert torch.equal(found.tensors["weights"], torch.full((2, 3), 7.0))
    assert found.tensors["empty"].shape == (0, 4)


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
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


def test_a_damaged_checkpoint_is_named_and_the_one_before_serves_once_it_is_deleted(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    save_checkpoint(tmp_path, checkpoint(2))
    newest = tmp_path / "checkpoint-00000002.safetensors"
    newest.write_bytes(newest.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"checkpoint-00000002.*delete it to go on"):
        latest_checkpoint(tmp_path)
    newest.unlink()
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1


def test_arrays_come_back_and_objects_are_refused(tmp_path: Path) -> None:
    save_arrays(tmp_path / "a.npz", {"ranks": np.arange(5), "distances": np.array([0.5, np.inf])})
    found = load_arrays(tmp_path / "a.npz")
    np.testing.assert_array_equal(found["ranks"], np.arange(5))
    np.savez(tmp_path / "evil.npz", a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="evil"):
        load_arrays(tmp_path / "evil.npz")


def test_a_place_without_a_record_is_named(tmp_path: Path) -> None:
    assert Store(tmp_path).records() == []
    with pytest.raises(DataError, match=r"no record\.json there or below"):
        Store(tmp_path).records([tmp_path])


@given(st.text(max_size=200), st.text(max_size=200))
def test_folder_names_are_one_safe_part_of_a_path(loss: str, backbone: str) -> None:
    folder = Store(Path("results")).run_folder(["synthetic", loss, backbone], 0, "ab" * 32, "cd" * 32)
    assert folder.parent == Path("results/runs")
    assert len(folder.name.encode()) < 200
    assert not set(folder.name) & set("/\\\0\n :*?")
    assert folder.name not in (".", "..")


def test_id_and_code_tell_folders_apart() -> None:
    store = Store(Path("results"))
    names = ["synthetic", "batch_hard", "tiny"]
    folders = {
        store.run_folder(names, 0, "a" * 64, "c" * 64),
        store.run_folder(names, 0, "b" * 64, "c" * 64),
        store.run_folder(names, 0, "a" * 64, "d" * 64),
        store.run_folder(names, 1, "a" * 64, "c" * 64),
    }
    assert len(folders) == 4
