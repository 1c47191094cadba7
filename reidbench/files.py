"""Files that are whole or not there, and folders that one process at a time writes to."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from reidbench.errors import DataError

_POLL_SECONDS = 0.05

_ADVICE = {
    errno.ENOSPC: "free some space there, or name another folder",
    errno.EDQUOT: "your quota is used up: free some space there, or name another folder",
    errno.EFBIG: "the limit on file sizes is too low there (ulimit -f), or name another folder",
    errno.EROFS: "name a folder that can be written to",
    errno.EACCES: "make the folder writable, or name another one",
    errno.EPERM: "make the folder writable, or name another one",
    errno.ENOTDIR: "a part of that path is a file: name another folder",
    errno.EEXIST: "a part of that path is a file: name another folder",
    errno.ENOLCK: "its file system offers no locks: name a folder on another one",
}


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write ``data`` (text as UTF-8) to ``path`` such that a reader, or a crash, meets the old file or the new one.

    Missing folders are made. Raises DataError, and leaves no temporary file behind, where the folder cannot be written
    to or is full.
    """
    if not path.name or path.is_dir():
        raise DataError(f"{path}: is a folder; name a file in it")
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise refused(path, f"{path.name} ({len(content):,} bytes) could not be written", error) from None


@contextmanager
def reserved(path: Path, size: int) -> Iterator[Path]:
    """Yield the file ``aside(path)`` of ``size`` bytes, its room on the disk taken, that becomes ``path`` at the end.

    For large files: a full disk is noticed before the work. What a process left there that was killed, or whose block
    ended with an error, is yielded as it is, so that its work can go on; hold the lock that guards it, and write in
    ``preparing``. Missing folders are made. Raises DataError as ``write_atomic``.
    """
    beside = aside(path)
    with preparing(path, f"{path.name} ({size:,} bytes) could not be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("ab") as file:
            if file.tell() != size:
                file.truncate(0)
            os.posix_fallocate(file.fileno(), 0, size)
    yield beside
    with preparing(path, f"{path.name} could not be put in place"):
        with beside.open("r+b") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)


@contextmanager
def preparing(path: Path, what: str) -> Iterator[None]:
    """Where the system refuses what the block does to ``aside(path)``, leave nothing of it and raise as ``refused``.

    So a full disk is not left full.
    """
    try:
        yield
    except OSError as error:
        with suppress(OSError):
            aside(path).unlink()
        raise refused(path, what, error) from None


def aside(path: Path) -> Path:
    """Return where ``reserved`` prepares a file."""
    return path.with_name(f".{path.name}.part")


def sweep(folder: Path, name: str = "*") -> None:
    """Delete the temporary files for ``name`` that a killed process left in ``folder``; hold the lock that guards them.

    A ``name`` of "*" stands for all.
    """
    for file in folder.glob(f".{name}.*.tmp"):
        file.unlink(missing_ok=True)


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


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refused(path: Path, what: str, error: OSError) -> DataError:
    """Return what to raise where the system refuses ``path``: ``what`` could not be done, why, and what helps."""
    advice = _ADVICE.get(error.errno or 0, "mend that, or name another folder")
    return DataError(f"{path.parent}: {what}: {error.strerror}; {advice}")
