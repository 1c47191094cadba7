"""A lock file: one process at a time, of all that share a folder, uses it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from reidbench.errors import Busy, DataError
from reidbench.utils.atomic import NOT_OFFERED, check_writes, if_offered, write_error
from reidbench.utils.untrusted_files import real_path

EXPIRY_SECONDS = 60.0  # a holder on another host whose heartbeat is older counts as ended
BEAT_SECONDS = 10.0
NEW = "a process that has just taken the lock"
SETTLE_SECONDS = 0.5  # longer than a contender takes from reading the file to writing to it
_POLL_SECONDS = (0.05, 1.0)  # between two tries, at first and after a while

# File systems of this host, where the kernel's own lock is seen by every process. Others may not share it.
_LOCAL = {"bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs3", "overlay"}
_LOCAL |= {"ramfs", "tmpfs", "vfat", "xfs", "zfs"}


@dataclass(frozen=True)
class _Holder:
    """The line in a lock file.

    host: name of the host.
    kernel: boot id and namespace of process ids, within which ``pid`` and ``started`` identify a process.
    pid: id of the process.
    started: its start in clock ticks after the boot.
    token: random text, new for each lock.
    since: time at which it took the lock, as ISO text.
    purpose: what it does.
    """

    host: str
    kernel: str
    pid: int
    started: int | None
    token: str
    since: str
    purpose: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since} ({self.purpose})"


@contextmanager
def lock(path: Path, purpose: str, wait: float = 0.0, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` for this process (and this thread) alone while the block runs.

    A holder keeps the lock while it is alive on this host or, on another host, has touched the file within the last 60
    seconds, which it does every 10: whatever the kernel's lock says, which network file systems may not share or offer.
    A holder of this host that has died is replaced at once. The file is never deleted and is empty while the lock is
    free. ``wait`` is the number of seconds to wait for another holder; ``waiting`` is called once with a description of
    it. A forked child inherits the kernel's lock and releases nothing.

    A process that was stopped or cut off for more than 60 seconds may lose the lock to one on another host. From then
    on ``atomic_file`` refuses to replace a file below the folder of ``path``, so that only one of them writes there.

    Raises Busy, naming the holder, after ``wait`` seconds, and DataError where the file cannot be written.
    """
    pid, now = os.getpid(), datetime.now(UTC).isoformat(timespec="seconds")
    own = _Holder(socket.gethostname(), _kernel(), pid, _start_of(pid), secrets.token_hex(8), now, purpose)
    deadline, (pause, longest) = time.monotonic() + wait, _POLL_SECONDS
    while (descriptor := _try_lock(path, own)) is None:
        holder = describe_holder(path) or NEW
        if waiting is not None:
            waiting(holder)
            waiting = None
        if time.monotonic() >= deadline:
            rest = f"killed on another host, it keeps the folder for {EXPIRY_SECONDS:.0f} seconds"
            raise Busy(f"{path.parent}: is in use by {holder}; wait until it ends, or stop it ({rest})")
        time.sleep(pause)
        pause = min(1.1 * pause, longest)
    released = threading.Event()
    heartbeat = threading.Thread(target=_beat, args=(path, own, released), daemon=True)
    try:
        heartbeat.start()
        with check_writes(path.parent, lambda: _check(path, own)):
            yield
    finally:
        if os.getpid() == own.pid:
            released.set()
            heartbeat.join()
            _release(path, own, descriptor)


def _try_lock(path: Path, own: _Holder) -> int | None:
    """Return the descriptor of the lock file with the line of ``own`` in it, None where another holder keeps it."""
    descriptor = -1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with if_offered():  # every user who may write to the folder may lock it
            os.fchmod(descriptor, path.parent.stat().st_mode & 0o666)
        if _contend(path, own, descriptor):
            return descriptor
        os.close(descriptor)
    except BaseException as error:
        if descriptor >= 0:
            _release(path, own, descriptor)
        if isinstance(error, OSError):
            raise write_error(path, "the lock could not be taken", error) from None
        raise
    return None


def _contend(path: Path, own: _Holder, descriptor: int) -> bool:
    """Write the line of ``own`` unless the lock has a holder; return whether the file then keeps that line."""
    kernel_decides = _file_system(path) in _LOCAL
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
        kernel_decides = False
    holder = _parse(os.pread(descriptor, 10_000, 0))
    if holder and _is_alive(holder, path, os.fstat(descriptor).st_mtime):
        return False
    os.ftruncate(descriptor, os.pwrite(descriptor, (json.dumps(asdict(own)) + "\n").encode(), 0))
    if not kernel_decides:
        # All contenders that found the file free have written to it when the pause ends: the last one takes the lock.
        with if_offered():
            os.fsync(descriptor)
        time.sleep(SETTLE_SECONDS)
    return _is_held(path, own)


def _release(path: Path, own: _Holder, descriptor: int) -> None:
    """Empty the file where it holds the line of ``own``, and close it."""
    if _is_held(path, own):
        with suppress(OSError):  # the line is that of a dead process soon
            os.ftruncate(descriptor, 0)
    os.close(descriptor)


def _beat(path: Path, own: _Holder, released: threading.Event) -> None:
    """Touch the lock file every 10 seconds until it is released or lost."""
    while not released.wait(BEAT_SECONDS) and _is_held(path, own):
        with suppress(OSError):
            os.utime(path)


def _check(path: Path, own: _Holder) -> None:
    """Raise DataError where another process has taken the lock of ``own``."""
    if path.exists() and not _is_held(path, own):
        reason = f"as happens to one that is stopped for more than {EXPIRY_SECONDS:.0f} seconds"
        loss = f"this process lost its lock to {describe_holder(path) or NEW}, {reason}"
        raise DataError(f"{path.parent}: {loss}; it writes nothing more there; let the other one end")


def _is_held(path: Path, own: _Holder) -> bool:
    """Return whether the lock file holds the line of ``own``; it is opened anew, since a network may cache it."""
    try:
        holder = _parse(path.read_bytes())
    except PermissionError:  # SMB: where the kernel's lock keeps other descriptors from reading, it is shared
        return True
    except OSError:
        return False
    return holder is not None and holder.token == own.token


def describe_holder(path: Path) -> str:
    """Return which process holds a lock file, or an empty text; the lock is not taken."""
    with suppress(OSError):
        if (holder := _parse(path.read_bytes())) and _is_alive(holder, path, path.stat().st_mtime):
            return str(holder)
    return ""


def _parse(content: bytes) -> _Holder | None:
    """Return the holder in the first line of a lock file, None for a free lock and for anything else."""
    try:
        return _Holder(**json.loads(content.partition(b"\n")[0]))
    except (ValueError, TypeError):
        return None


def _is_alive(holder: _Holder, path: Path, touched: float) -> bool:
    """Return whether a holder keeps the lock; ``touched`` is the time of its last heartbeat."""
    if holder.kernel == _kernel():
        return holder.started is not None and holder.started == _start_of(holder.pid)
    # The clock of the file system, since those of two hosts differ.
    probe = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        probe.touch()
        return abs(probe.stat().st_mtime - touched) < EXPIRY_SECONDS
    finally:
        probe.unlink(missing_ok=True)


def _kernel() -> str:
    """Return the boot id of this kernel and the namespace of this process's id."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _start_of(pid: int) -> int | None:
    """Return the start of a process in clock ticks after the boot, None where it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if state in b"ZX" else int(fields[18])


def _file_system(path: Path) -> str:
    """Return the type of the file system of ``path``, such as "ext4" or "nfs4"."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    mounts = [line.replace("\\040", "\0").split(" ") for line in reversed(lines)]  # the last one hides those below it
    file = real_path(path)
    inside = [(point.replace("\0", " "), kind) for _, point, kind, *_ in mounts]
    return max((mount for mount in inside if file.is_relative_to(mount[0])), key=lambda mount: len(mount[0]))[1]
