"""One holder at a time, whatever the other processes and the file system do."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from unittest.mock import Mock

import pytest

from reidbench.errors import DataError
from reidbench.utils import lock as lock_module
from reidbench.utils.atomic import write_atomic
from reidbench.utils.lock import lock

# Takes the locks that it is told, one after the other, and gives each back at the next line.
CONTEND = """
import sys, time
from pathlib import Path
from reidbench.errors import DataError
from reidbench.utils.lock import lock
for line in sys.stdin:
    try:
        with lock(Path(sys.argv[1]) / line.strip(), "training lunet"):
            print("held", flush=True)
            sys.stdin.readline()
    except DataError:
        print("refused", flush=True)
        sys.stdin.readline()
"""


def contender(folder):
    command = [sys.executable, "-c", CONTEND, folder]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


@contextmanager
def hold(path):
    """A process that holds ``path`` and is killed at the end."""
    with contender(path.parent) as holder:
        holder.stdin.write(f"{path.name}\n")
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            holder.kill()


def is_free(path):
    try:
        with lock(path, "testing"):
            return True
    except DataError:
        return False


def write_holder(path, **changes):
    """Write the line that this process would write as the holder, with ``changes``."""
    path.unlink(missing_ok=True)
    with lock(path, "another run"):
        line = json.loads(path.read_text())
    path.write_text(json.dumps(line | changes))


def refusal(code):
    return Mock(side_effect=OSError(code, os.strerror(code)))


@pytest.fixture
def no_flock(monkeypatch):
    """A file system without locks, on which contenders need not wait long for each other."""
    monkeypatch.setattr(fcntl, "flock", refusal(errno.ENOSYS))
    monkeypatch.setattr(lock_module, "SETTLE_SECONDS", 0.05)


def test_holder_is_named_and_replaced_after_kill_9(tmp_path):
    path = tmp_path / "run" / "lock"
    with hold(path) as holder:
        since = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
        host = re.escape(os.uname().nodename)
        expected = rf"run: .*process {holder.pid} on {host} since {since} \(training lunet\)"
        with pytest.raises(DataError, match=expected), lock(path, "testing"):
            pass
        holder.send_signal(signal.SIGKILL)
    with lock(path, "testing"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert path.read_text() == "", "it stays, empty"


def test_lock_is_released_after_an_error(tmp_path):
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), lock(path, "one"):
        _ = 1 / 0
    with lock(path, "two"):
        assert '"purpose": "two"' in path.read_text()


def test_waiting_ends_with_the_lock_or_in_time(tmp_path):
    path = tmp_path / "lock"
    with lock(path, "first"):
        began = time.monotonic()
        with pytest.raises(DataError, match=r"\(first\)"), lock(path, "second", wait=0.3):
            pass
        assert time.monotonic() - began >= 0.3
        order: list[str] = []

        def second():
            with lock(path, "second", wait=30):
                order.append("second")

        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.2)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize(("kernel_locks", "threads", "rounds"), [(True, 8, 10), (False, 3, 1)])
def test_threads_hold_it_one_at_a_time(tmp_path, request, monkeypatch, kernel_locks, threads, rounds):
    path, inside, most = tmp_path / "lock", [0], [0]
    if not kernel_locks:
        request.getfixturevalue("no_flock")
        monkeypatch.setattr(lock_module, "SETTLE_SECONDS", 0.3)

    def work():
        for _ in range(rounds):
            with lock(path, "counting", wait=60):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    crew = [threading.Thread(target=work) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert most == [1]
    assert path.read_text() == ""


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL])
@pytest.mark.usefixtures("no_flock")
def test_without_kernel_locks_a_live_holder_refuses(tmp_path, monkeypatch, code):
    monkeypatch.setattr(fcntl, "flock", refusal(code))
    path = tmp_path / "lock"
    with lock(path, "first"):
        assert not is_free(path)
    assert is_free(path)


@pytest.mark.usefixtures("no_flock")
def test_process_without_kernel_locks_refuses_until_it_is_killed(tmp_path):
    path = tmp_path / "lock"
    with hold(path) as holder:
        os.kill(holder.pid, signal.SIGSTOP)
        assert not is_free(path), "stopped on this host, it is alive"
        holder.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # a zombie is dead, too
        assert is_free(path)


@pytest.mark.usefixtures("no_flock")
def test_contender_that_writes_last_takes_it(tmp_path, monkeypatch):
    path = tmp_path / "lock"

    def write_later(seconds):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"token": "x", "purpose": "wrote later"}))

    monkeypatch.setattr(time, "sleep", write_later)
    with pytest.raises(DataError, match="wrote later"), lock(path, "testing"):
        pass


def test_pid_of_another_process_by_now_is_free(tmp_path):
    path = tmp_path / "lock"
    write_holder(path)
    assert not is_free(path), "this process is alive, whatever the kernel's lock says"
    write_holder(path, started=1)
    assert is_free(path)


def test_holder_on_another_host_keeps_it_for_60_seconds(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    write_holder(path, kernel="another", host="node7")
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the clock of the file system counts
    now = path.stat().st_mtime
    for age, free in ((0, False), (50, False), (-50, False), (70, True)):
        os.utime(path, (now, now - age))
        assert is_free(path) == free, age
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


def test_held_lock_is_touched(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    monkeypatch.setattr(lock_module, "BEAT_SECONDS", 0.01)
    with lock(path, "testing"):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 30
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0


def test_nothing_is_written_after_the_lock_is_lost(tmp_path):
    path, record = tmp_path / "run" / "lock", tmp_path / "run" / "part" / "record.json"
    with lock(path, "slept for an hour"):
        write_atomic(record, "before")
        taken = json.dumps(json.loads(path.read_text()) | {"token": "x", "purpose": "woke up earlier"})
        path.write_text(taken)
        with pytest.raises(DataError, match=r"run: .*lost its lock.*woke up earlier"):
            write_atomic(record, "after")
        write_atomic(tmp_path / "elsewhere", "x")
    assert path.read_text() == taken, "the other process keeps it"
    assert record.read_text() == "before"
    assert [file.name for file in record.parent.iterdir()] == ["record.json"]
    path.unlink()
    with lock(path, "testing"):
        path.unlink()  # by hand: nobody else holds it
        write_atomic(record, "after")


def test_forked_child_releases_nothing(tmp_path):
    path = tmp_path / "lock"
    script = """
import os, sys
from pathlib import Path
from reidbench.utils.lock import lock
with lock(Path(sys.argv[1]), "parent"):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        print(Path(sys.argv[1]).read_text())
"""
    command = [sys.executable, "-W", "ignore", "-c", script, path]
    assert "parent" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert is_free(path)


def test_users_of_a_shared_folder_share_the_lock_file(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o2775)
    assert is_free(tmp_path / "shared" / "lock")
    assert (tmp_path / "shared" / "lock").stat().st_mode & 0o777 == 0o664


# --- two mounts of one folder -----------------------------------------------------------------------------------------


@pytest.fixture
def mounts(tmp_path):
    """Two mounts of one folder, as two hosts have them: the kernel's lock of one is not seen through the other."""
    if not shutil.which("bindfs") or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("a folder cannot be mounted twice: bindfs or /dev/fuse is absent")
    points = [tmp_path / "a", tmp_path / "b"]
    mounted = []
    try:
        for point in points:
            for folder in (tmp_path / "real", point):
                folder.mkdir(exist_ok=True)
            done = subprocess.run(["bindfs", tmp_path / "real", point], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"bindfs cannot mount here: {done.stderr.strip()}")
            mounted.append(point)
        yield points
    finally:
        for point in mounted:
            unmount = ["umount"] if os.getuid() == 0 else [shutil.which("fusermount3") or "fusermount", "-u"]
            subprocess.run([*unmount, point], check=False)


def test_two_mounts_cannot_hold_it_at_once(mounts, tmp_path):
    """Three rounds in which both contend at the same time, then one after the other."""
    crew = [contender(mount) for mount in mounts]
    for number in range(3):
        for process in crew:
            process.stdin.write(f"lock{number}\n")
        assert sorted(process.stdout.readline() for process in crew) == ["held\n", "refused\n"]
        for place in (tmp_path / "real", *mounts):
            assert not is_free(place / f"lock{number}"), place
        for process in crew:
            process.stdin.write("\n")
    for process in crew:
        process.communicate()
    assert is_free(mounts[1] / "lock0")
