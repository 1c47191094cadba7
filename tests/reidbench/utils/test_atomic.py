"""Whole files or none, and one writer at a time, whatever the disk and the other process do."""

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
from reidbench.utils.atomic import write_atomic
from reidbench.utils.lock import lock


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("data", "written"), [("é\r\n", "é\r\n".encode()), (b"\x00\xff", b"\x00\xff"), ("", b"")])
def test_bytes_and_text_arrive_as_they_are_and_folders_are_made(
    tmp_path: Path, data: bytes | str, written: bytes
) -> None:
    file = tmp_path / "a" / "b" / "record.json"
    write_atomic(file, b"before")
    write_atomic(file, data)
    assert file.read_bytes() == written
    assert contents(file.parent) == ["record.json"]


def test_the_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "atomic", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_reader_sees_the_old_or_the_new_but_nothing_between(tmp_path: Path) -> None:
    file, versions = tmp_path / "f", [bytes([n]) * 300_000 for n in range(40)]
    write_atomic(file, versions[0])
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(file.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for version in versions:
        write_atomic(file, version)
    done.set()
    reader.join()
    assert seen <= set(versions)
    assert seen


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("not a folder")
    with pytest.raises(
        DataError, match=r"results/run: record.json \(1 bytes\) could not be written: .*name another folder"
    ):
        write_atomic(tmp_path / "results" / "run" / "record.json", "x")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write_atomic(tmp_path / "f", "old")
    script = """
import resource, sys
from pathlib import Path
from reidbench.errors import DataError
from reidbench.utils.atomic import write_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic(Path(sys.argv[1]), b"x" * 5000)
except DataError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", script, tmp_path / "f"], capture_output=True, text=True, check=True)
    assert f"{tmp_path}: f (5,000 bytes) could not be written: File too large" in said.stdout
    assert (tmp_path / "f").read_text() == "old"
    assert contents(tmp_path) == ["f"]


def in_small_file_system(options: str, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with a tmpfs mounted on ``folder`` in a mount namespace of its own, or skip."""
    probe = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("this machine allows no mount namespaces (unshare -rm), so a full disk cannot be made")
    script = f"mount -t tmpfs -o {options} none {folder} && exec {sys.executable} -c '{command}'"
    return subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)


WRITE = """
from pathlib import Path
from reidbench.errors import DataError
from reidbench.utils.atomic import write_atomic
from reidbench.utils.lock import lock
try:
    {action}
except DataError as error:
    print(error)
print(list(Path("{folder}").iterdir()))
"""


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path) -> None:
    action = f'write_atomic(Path("{tmp_path}/big"), b"x" * 200_000)'
    done = in_small_file_system("size=64k", WRITE.format(action=action, folder=tmp_path), tmp_path)
    assert (
        f"{tmp_path}: big (200,000 bytes) could not be written: No space left on device; free some space" in done.stdout
    )
    assert done.stdout.endswith("[]\n"), done.stderr


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ('write_atomic(Path("{0}/f"), b"x")', "f (1 bytes) could not be written: Read-only file system"),
        ('lock(Path("{0}/lock"), "testing").__enter__()', "the lock could not be made: Read-only file system"),
    ],
)
def test_a_read_only_folder_is_named_with_what_to_do(tmp_path: Path, action: str, said: str) -> None:
    command = WRITE.format(action=action.format(tmp_path), folder=tmp_path)
    done = in_small_file_system("ro", command, tmp_path)
    assert f"{tmp_path}: {said}; name a folder that can be written to" in done.stdout, done.stderr


HOLD = """
import sys, time
from pathlib import Path
from reidbench.utils.lock import lock
with lock(Path(sys.argv[1]), "training lunet"):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_process_learns_who_holds_the_lock_and_kill_9_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    with hold(path) as holder:
        try:
            since = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
            host = re.escape(os.uname().nodename)
            expected = rf"run: is in use by process {holder.pid} on {host} since {since} \(training lunet\); wait"
            with pytest.raises(DataError, match=expected), lock(path, "testing"):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
    assert path.is_file()  # a killed process cannot tidy up; the next one is not stopped by what it left
    with lock(path, "testing"):
        assert f'"pid": {os.getpid()}' in path.read_text()
    assert not path.exists()


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), lock(path, "one"):
        _ = 1 / 0
    with lock(path, "two"):
        assert '"purpose": "two"' in path.read_text()


def test_waiting_takes_the_lock_as_soon_as_it_is_free_and_gives_up_in_time(tmp_path: Path) -> None:
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


def test_a_lock_whose_file_was_removed_while_it_was_taken_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "lock", fcntl.flock
    removed = []

    def flock(descriptor: int, operation: int) -> None:
        if not removed:  # the holder before leaves at the worst moment: after our open, before our flock
            path.unlink()
            removed.append(descriptor)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock(path, "first"), pytest.raises(DataError, match=r"in use .*\(first\)"), lock(path, "second"):
        pass
    assert removed


def test_many_threads_are_never_inside_together_though_the_file_comes_and_goes(tmp_path: Path) -> None:
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
