"""Signals become a request; only a second Ctrl-C ends a process at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from reidbench.training.stop_signals import SIGNALS, stop_signal

TWICE = """
import os, signal, sys
from reidbench.training.stop_signals import stop_signal
with stop_signal() as stop:
    for name in sys.argv[1:]:
        os.kill(os.getpid(), getattr(signal, name))
    print(stop.requested, stop.reason)
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_request(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with stop_signal() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        assert ("SIGUSR1" in stop.reason) == (number == signal.SIGUSR1)
    assert [signal.getsignal(each) for each in SIGNALS] == before


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["SIGINT", "SIGINT"], 130),
        (["SIGTERM", "SIGINT"], 130),
        # A launcher that passes on what reached us too, and a cluster that ends what it has warned.
        (["SIGINT", "SIGTERM"], 0),
        (["SIGUSR1", "SIGTERM", "SIGTERM"], 0),
    ],
)
def test_only_a_second_ctrl_c_ends_at_once(names: list[str], code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", TWICE, *names], capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    assert ended.stdout.startswith("True") == (code == 0)


def test_another_thread_leaves_signals_to_its_caller() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with stop_signal() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
