"""A lock file: one process at a time uses a folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from reidbench.errors import DataError
from reidbench.utils.atomic import write_error

_POLL_SECONDS = 0.05


@contextmanager
def lock(path: Path, purpose: str, wait: float = 0.0, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` exclusively for this process (and this thread) while the block runs.

    The kernel releases it when the process ends, however it ends. The file holds the process, host, start and
    ``purpose``; it is deleted when the lock is released. ``wait`` is the number of seconds to wait for another holder;
    ``waiting`` is called once with a description of it. Raises DataError, naming the holder, after that time.
    """
    deadline = time.monotonic() + wait
    while (descriptor := _try_lock(path)) is None:
        if waiting is not None:
            waiting(_holder(path))
            waiting = None
        if time.monotonic() >= deadline:
            raise DataError(f"{path.parent}: is in use by {_holder(path)}; wait until it ends, or stop it")
        time.sleep(_POLL_SECONDS)
    try:
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "purpose": purpose,
        }
        with suppress(OSError):  # on a full disk the holder has no name, but it holds the lock
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, (json.dumps(holder) + "\n").encode(), 0)
        yield
    finally:
        # Deleted before it is released: a process that has opened it already notices and opens the next one.
        if _is_open_file(path, descriptor):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """Return the descriptor of the locked file, or None where another process (or thread) holds the lock."""
    while True:
        descriptor = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            raise write_error(path, "the lock could not be taken", error) from None
        if _is_open_file(path, descriptor):
            return descriptor
        os.close(descriptor)


def _is_open_file(path: Path, descriptor: int) -> bool:
    """Whether ``path`` is still the file that was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """Return a description of the lock's holder, as far as the file tells."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']} ({holder['purpose']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has just taken the lock"
