import os
import signal
import subprocess
import sys
import threading

import pytest
import torch

from reidbench.errors import OptionError
from reidbench.training.distributed import gather
from reidbench.utils.machine import local_machine
from reidbench.utils.processes import ALONE, SIGNALS, World, join, stop_signal
from tests.support.cases import cases


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_parts_make_up_the_batch(size):
    for count in range(size, 30):
        parts = [list(range(count))[World(rank, size).batch_part(count)] for rank in range(size)]
        assert [place for part in parts for place in part] == list(range(count))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if size > 1:
        with pytest.raises(OptionError, match=f"{size - 1} images .* {size} processes"):
            World(0, size).batch_part(size - 1)


def test_each_process_gets_a_gpu_and_its_share_of_the_cores(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    world = World(5, 8)
    machine = local_machine(device="cuda", world=world)
    assert machine.device == torch.device("cuda:1")
    assert machine.threads == max(1, len(os.sched_getaffinity(0)) // 2)
    machine = local_machine(device="cpu", threads=3, world=world)
    assert (machine.device, machine.threads) == (torch.device("cpu"), 3)
    assert local_machine(device="cuda").device == torch.device("cuda")
    with pytest.raises(OptionError, match="cuda:0: 8 processes"):
        local_machine(device="cuda:0", world=world)


def test_one_process_communicates_with_none(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")  # some clusters set it for programs that torchrun has not started
    assert join() is ALONE
    tensor = torch.ones(3, 2)
    assert gather(ALONE, tensor, 3) is tensor
    assert ALONE.any(True, False) == (True, False)
    assert ALONE.from_first(lambda: 5) == ALONE.in_turn(lambda: 5) == 5


TWICE = """
import os, signal, sys
from reidbench.utils.processes import stop_signal
with stop_signal() as stop:
    for name in sys.argv[1:]:
        os.kill(os.getpid(), getattr(signal, name))
    print(stop.requested, stop.reason)
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_request(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    with stop_signal() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        assert ("SIGUSR1" in stop.reason) == (number == signal.SIGUSR1)
    assert [signal.getsignal(each) for each in SIGNALS] == before


@pytest.mark.parametrize(("names", "code"), cases(__file__, "only_a_second_ctrl_c_ends_at_once"))
def test_only_a_second_ctrl_c_ends_at_once(names, code):
    ended = subprocess.run([sys.executable, "-c", TWICE, *names], capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    assert ended.stdout.startswith("True") == (code == 0)


def test_another_thread_leaves_signals_to_its_caller():
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work():
        with stop_signal() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
