"""One holder at a time, whatever the other processes do."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from reidbench.errors import DataError
from reidbench.utils.lock import lock

HOLD = """
import sys, time
from pathlib import Path
from reidbench.utils.lock import lock
with lock(Path(sys.argv[1]), "training lunet"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_holder_is_named_and_kill_9_releases_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    command = [sys.executable, "-c", HOLD, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            since = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
            host = re.escape(os.uname().nodename)
            expected = rf"run: .*process {holder.pid} on {host} since {since} \(training lunet\)"
            with pytest.raises(DataError, match=expected), lock(path, "testing"):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
    assert path.is_file(), "a killed process cannot delete it"
    with lock(path, "testing"):
        assert f'"pid": {os.getpid()}' in path.read_text()
    assert not path.exists()


def test_lock_is_released_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), lock(path, "one"):
        _ = 1 / 0
    with lock(path, "two"):
        assert '"purpose": "two"' in path.read_text()


def test_waiting_ends_with_the_lock_or_in_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock(path, "first"):
        began = time.monotonic()
        with pytest.raises(DataError, match=r"\(first\)"), lock(path, "second", wait=0.3):
            pass
        assert time.monotonic() - began >= 0.3
        order: list[str] = []

        def second() -> None:
            with lock(path, "second", wait=30):
                order.append("second")

        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.2)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_file_deleted_while_locking_is_locked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flock = tmp_path / "lock", fcntl.flock
    deleted = []

    def flock_after_deletion(descriptor: int, operation: int) -> None:
        if not deleted:  # the previous holder releases it after our open and before our flock
            path.unlink()
            deleted.append(descriptor)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_deletion)
    with lock(path, "first"), pytest.raises(DataError, match=r"\(first\)"), lock(path, "second"):
        pass
    assert deleted


def test_many_threads_hold_it_one_at_a_time(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "lock", [0], [0]

    def work() -> None:
        for _ in range(25):
            with lock(path, "counting", wait=60):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert not path.exists()
