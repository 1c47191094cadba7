"""Checkpoints: files, exact resume at any step, and what a finished training leaves."""

import json
import os
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from reidbench.errors import DataError, Interrupted
from reidbench.training import checkpoint as files
from reidbench.training.loop import train
from reidbench.training.monitor import Monitor
from reidbench.utils.machine import local_machine
from reidbench.utils.processes import SIGNALS
from tests.support.damage import flip
from tests.support.logs import assert_same_log
from tests.support.loop_training import RECIPE, SEED, Head, Sampling, assert_same_state, build, fit
from tests.support.tiny_training import Net

CONTENT = "ab" * 32
NEWEST = "checkpoint-00000002.safetensors"


def checkpoint(step):
    tensors = {"weights": torch.full((2, 3), float(step)), "empty": torch.zeros(0, 4)}
    return tensors, {"step": step, "note": "é", "content": CONTENT}


def latest(folder, messages=None):
    return files.latest_checkpoint(folder, 10_000, CONTENT, ([] if messages is None else messages).append)


def test_a_checkpoint_is_restored_bit_for_bit(tmp_path):
    files.save_checkpoint(tmp_path, *checkpoint(7))
    loaded = latest(tmp_path)
    tensors, state = loaded
    assert state == {"step": 7, "note": "é", "content": CONTENT}
    assert torch.equal(tensors["weights"], torch.full((2, 3), 7.0))
    assert tensors["empty"].shape == (0, 4)


def test_the_newest_two_checkpoints_are_kept(tmp_path):
    for step in (5, 50, 500, 5000):
        files.save_checkpoint(tmp_path, *checkpoint(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-00000500.safetensors",
        "checkpoint-00005000.safetensors",
    ]
    assert files.latest_step(tmp_path) == 5000
    for file in tmp_path.iterdir():
        file.unlink()
    assert files.latest_step(tmp_path) == 0
    assert latest(tmp_path) is None


@settings(max_examples=30)
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
@example(place=0.0, bits=0x80)
def test_a_flipped_byte_of_a_checkpoint_is_noticed(place, bits):
    with tempfile.TemporaryDirectory() as folder:
        messages: list[str] = []
        for step in (1, 2):
            files.save_checkpoint(Path(folder), *checkpoint(step))
        newest = Path(folder) / NEWEST
        flip(newest, int(place * newest.stat().st_size), bits)
        loaded = latest(Path(folder), messages)
        assert loaded[1]["step"] == 1
        assert len(messages) == 1
        assert newest.name in messages[0]
        assert sorted(file.name for file in Path(folder).iterdir()) == [
            "checkpoint-00000001.safetensors",
            f"{newest.name}.damaged",
        ]


@pytest.mark.parametrize("damage", ["zeros", "cut", "empty", "negative", "beyond", "other images", "both"])
def test_a_checkpoint_that_cannot_be_resumed_is_renamed(damage, tmp_path):
    files.save_checkpoint(tmp_path, *checkpoint(1))
    tensors = {"weights": torch.rand(200, 200)}
    step = {"negative": -5, "beyond": 10_001}.get(damage, 2)
    state = {"content": "cd" * 32 if damage == "other images" else CONTENT}
    files.save_tensors(tmp_path / NEWEST, tensors, state=json.dumps({"step": step, **state}))
    data = (tmp_path / NEWEST).read_bytes()
    changed = {"zeros": data[:9000] + bytes(2**16) + data[9000 + 2**16 :], "cut": data[:-5], "empty": b""}
    (tmp_path / NEWEST).write_bytes(changed.get(damage, data))
    if damage == "both":
        for file in tmp_path.iterdir():
            file.write_bytes(file.read_bytes()[:-1])
    messages: list[str] = []
    loaded = latest(tmp_path, messages)
    assert [loaded and loaded[1]["step"], len(messages)] == ([None, 2] if damage == "both" else [1, 1])
    assert NEWEST in messages[0]
    assert (tmp_path / f"{NEWEST}.{'superseded' if damage == 'other images' else 'damaged'}").is_file()


def test_a_column_of_the_log_may_begin_late_and_miss_steps():
    optimizer = torch.optim.Adam([torch.zeros(1)])
    state = files.TrainingState(nn.ModuleDict(), optimizer, Monitor(3, 0, torch.device("cpu")), [])
    for row in ({"step": 0}, {"step": 1, "late": 5}, {"step": 2}):
        state.append(row)
    np.testing.assert_array_equal(state.log["step"], [0, 1, 2])
    np.testing.assert_array_equal(state.log["late"], [np.nan, 5, np.nan])


@pytest.mark.parametrize("content", ["{", "{}", '{"environments": [{}]}', '{"environments": []}'])
def test_a_damaged_summary_is_named(content, tmp_path):
    assert files.read_summary(tmp_path) is None
    (tmp_path / files.SUMMARY).write_text(content)
    with pytest.raises(DataError, match=files.SUMMARY):
        files.read_summary(tmp_path)


# --- resume ----------------------------------------------------------------------------------------------------------


class Signals(Sampling):
    """Sends a signal to this process in the forward pass of a step."""

    def __init__(self, stop_at: int | None, which: signal.Signals = signal.SIGINT, greedy: bool = False) -> None:
        super().__init__(greedy)
        self.stop_at, self.which = stop_at, which

    def at(self, step: int) -> None:
        if step == self.stop_at:
            os.kill(os.getpid(), self.which)


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("stop_at", [0, 2, 4])
def test_a_resumed_training_ends_bit_for_bit_alike(stop_at, greedy, samples, tmp_path):
    whole_net, whole = build(Signals, dropout=0.3, stop_at=None, greedy=greedy)
    fit(whole_net, whole, samples, tmp_path / "whole")
    net, loss = build(Signals, dropout=0.3, stop_at=stop_at, greedy=greedy)
    with pytest.raises(Interrupted, match=f"stopped at step {stop_at + 1} of 6"):
        fit(net, loss, samples, tmp_path / "parts")
    assert files.latest_step(tmp_path / "parts") == stop_at + 1

    torch.manual_seed(99)  # other weights than at the start of the first part
    net, loss = Net(dropout=0.3), Signals(None, greedy=greedy)
    assert not torch.equal(loss.head.weight, whole.head.weight)
    trained = fit(net, loss, samples, tmp_path / "parts")
    assert trained.resumed_at == stop_at + 1
    assert_same_state(net, whole_net)
    assert_same_state(loss, whole)
    assert int(loss.calls) == RECIPE.steps, "the buffer is restored"
    assert len(loss.labels) == RECIPE.steps - stop_at - 1, "no step is done twice"
    assert_same_log(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_stop_at_the_last_step_finishes_the_training(which, samples, tmp_path):
    whole_net, whole = build(Signals, stop_at=None)
    fit(whole_net, whole, samples, tmp_path / "whole")
    net, loss = build(Signals, stop_at=RECIPE.steps - 1, which=which)
    with pytest.raises(Interrupted, match="after the last step"):
        fit(net, loss, samples, tmp_path / "stopped")
    summary = files.read_summary(tmp_path / "stopped")
    assert summary.steps == RECIPE.steps
    assert files.latest_step(tmp_path / "stopped") == 0
    assert (tmp_path / "stopped" / files.WEIGHTS).read_bytes() == (tmp_path / "whole" / files.WEIGHTS).read_bytes()
    assert_same_log(tmp_path / "stopped", tmp_path / "whole")


def test_a_training_restores_signal_handlers(samples, tmp_path):
    def mine(number, frame):
        raise AssertionError("the training handles the signal")

    before = {number: signal.signal(number, mine) for number in SIGNALS}
    try:
        net, loss = build(Signals, stop_at=1)
        with pytest.raises(Interrupted):
            fit(net, loss, samples, tmp_path)
        assert [signal.getsignal(number) for number in before] == [mine] * len(SIGNALS)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Breaks(Head):
    """Raises at a step, so that nothing can be saved."""

    def __init__(self, at_step: int) -> None:
        super().__init__()
        self.at_step = at_step

    def at(self, step: int) -> None:
        if step == self.at_step:
            raise RuntimeError("power cut")


@pytest.mark.parametrize(("seconds", "saved_step"), [(0.0, 4), (1e9, 0)])
def test_checkpoints_are_written_as_often_as_set(seconds, saved_step, samples, tmp_path):
    net, loss = build(Breaks, at_step=4)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(net, loss, samples, tmp_path, checkpoint_seconds=seconds)
    assert files.latest_step(tmp_path) == saved_step
    assert files.read_summary(tmp_path) is None


def test_a_changed_thread_count_on_resume_is_logged_and_stored(samples, tmp_path):
    net, loss = build(Signals, stop_at=2)
    with pytest.raises(Interrupted):
        fit(net, loss, samples, tmp_path)
    lines: list[str] = []
    machine = local_machine(device="cpu", threads=2, checkpoint_seconds=1e9, log=lines.append)
    summary = train(*build(Signals, stop_at=None), RECIPE, samples, seed=SEED, folder=tmp_path, machine=machine)
    assert [line for line in lines if "threads 1 before, 2 now" in line]
    assert [part.threads for part in summary.environments] == [1, 2]
    assert summary == files.read_summary(tmp_path)


def test_a_checkpoint_of_another_network_is_refused(samples, tmp_path):
    with pytest.raises(Interrupted):
        fit(*build(Signals, stop_at=2), samples, tmp_path)
    net, loss = build()
    net.linear = nn.Linear(4 * 7 * 3, 8)
    with pytest.raises(DataError, match="does not fit this network"):
        fit(net, loss, samples, tmp_path)


class Tied(Net):
    """Two names for one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.twin = self.convolution


@pytest.mark.parametrize("network", [Net, Tied])
def test_the_saved_weights_are_the_trained_ones(network, samples, tmp_path):
    net, restored = network(), network()
    fit(net, Head(), samples, tmp_path, checkpoint_seconds=0)  # a checkpoint after every step
    files.load_weights(restored, tmp_path)
    assert_same_state(net, restored)
