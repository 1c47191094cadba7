"""Files that are whole or not there, and folders that one process at a time writes to."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from reidbench.errors import DataError
from reidbench.utils.atomic import refused

_POLL_SECONDS = 0.05


@contextmanager
def lock(path: Path, purpose: str, wait: float = 0.0, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the file ``path`` for this process (and this thread) alone while the block runs.

    The kernel lets go when the process ends, however it ends. The file says who holds it, since when and for what
    ``purpose``, and is removed with the lock. ``wait`` is how long to wait for another holder, in seconds;
    ``waiting`` is told once who that is. Raises DataError where another one still holds it, and names it.
    """
    deadline = time.monotonic() + wait
    while (descriptor := _try_lock(path)) is None:
        if waiting is not None:
            waiting(_holder(path))
            waiting = None
        if time.monotonic() >= deadline:
            raise DataError(f"{path.parent}: is in use by {_holder(path)}; wait until it is done, or stop it")
        time.sleep(_POLL_SECONDS)
    try:
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "purpose": purpose,
        }
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, (json.dumps(holder) + "\n").encode(), 0)
        except OSError as error:
            raise refused(path, "the lock could not be written", error) from None
        yield
    finally:
        # Removed while it is still held: who opened it before finds it gone and opens the next one.
        if _names(path, descriptor):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """Return the descriptor of the locked file, or None where another process (or thread) holds it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise refused(path, "the lock could not be made", error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise refused(path, "the lock could not be taken", error) from None
        if _names(path, descriptor):
            return descriptor
        os.close(descriptor)


def _names(path: Path, descriptor: int) -> bool:
    """Whether ``path`` still is the opened file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """Return in words who holds a lock, as far as its file says."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']} ({holder['purpose']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has only just taken it"
