"""Write files atomically: after a crash a file is the old or the new one, never a part; JSON that checks itself."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from reidbench.errors import DataError
from reidbench.utils.untrusted_files import kind_of, real_path

_ADVICE = {
    errno.ENOSPC: "free some space there, or name another folder",
    errno.EDQUOT: "your quota is used up: free some space there, or name another folder",
    errno.EFBIG: "the limit on file sizes is too low there (ulimit -f), or name another folder",
    errno.EROFS: "name a folder that can be written to",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "make the folder writable, or name another one"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a part of that path is a file: name another folder"),
}

# What calls answer that a file system does not offer; some also answer that they are not permitted.
NOT_OFFERED = {errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}

_checks: list[tuple[Path, Callable[[], None]]] = []


@contextmanager
def if_offered() -> Iterator[None]:
    """Run a block of calls that a file can do without: skip the rest where the file system does not offer one."""
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise


@contextmanager
def check_writes(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """While the block runs, call ``check`` before any file below ``folder`` is replaced; it raises to refuse that."""
    entry = (folder, check)
    _checks.append(entry)
    try:
        yield
    finally:
        _checks.remove(entry)


def output_file(path: Path) -> Path:
    """Return the file that a write to ``path`` replaces: where it is a link, the one that it leads to.

    Raises DataError where that is a folder, a device, a named pipe, or a link that leads to itself.
    """
    file = real_path(path) if os.path.islink(path) else path  # noqa: PTH114, pathlib raises for a forbidden folder
    # /dev/stdout is a link to a name that may not exist although the link leads to a pipe.
    kind = kind_of(path if os.path.exists(path) else file) if path.name else "a folder"  # noqa: PTH110
    if kind:
        raise DataError(f"{path}: is {kind}; name a file{' in it' * (kind == 'a folder')}")
    return file


@contextmanager
def atomic_file(path: Path, size: int) -> Iterator[BinaryIO]:
    """Yield a temporary file to be written, which becomes ``path`` at the end of the block: old or new, never partial.

    ``size`` bytes are reserved first, so that a full disk is noticed before the work. Missing folders are made. After
    an error the temporary file is deleted. Raises DataError as ``output_file``, and where the system refuses to write.
    """
    named, path = path, output_file(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                if size:
                    with if_offered():
                        os.posix_fallocate(file.fileno(), 0, size)
                yield file
                file.flush()
                with if_offered():
                    os.fsync(file.fileno())
            for folder, check in tuple(_checks):
                if named.is_relative_to(folder):
                    check()
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, f"{path.name} ({size:,} bytes) could not be written", error) from None


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write ``data`` (text as UTF-8) to ``path`` as ``atomic_file``.

    Raises DataError also where the text holds what has no UTF-8: a part of a file's name that is no text.
    """
    try:
        content = data.encode() if isinstance(data, str) else data
    except UnicodeEncodeError as error:
        part = error.object[max(error.start - 20, 0) : error.end + 20]
        raise DataError(f"{path}: cannot be written as UTF-8: {part!a} holds half of a surrogate pair") from None
    with atomic_file(path, len(content)) as file:
        file.write(content)


def sweep(folder: Path, name: str = "*") -> None:
    """Delete the temporary files that killed processes left in ``folder`` for the file ``name``, by default for any.

    The caller holds the lock of the folder.
    """
    for file in folder.glob(f".{name}.*.tmp"):
        with suppress(OSError):
            file.unlink()


def set_aside(file: Path, reason: str) -> Path:
    """Rename ``file`` to its name and ".REASON", in place of an earlier one; return the new path."""
    return file.replace(file.with_name(f"{file.name}.{reason}"))


_CHECKSUM = re.compile(r'^ "checksum": "([0-9a-f]{64})"', re.MULTILINE)


def sealed_json(content: Mapping[str, Any]) -> str:
    """Return ``content`` as JSON text with sorted keys, and as "checksum" the sha256 of the text without it."""
    fields = {**content, "checksum": ""}
    text = json.dumps(fields, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return text.replace('\n "checksum": "', f'\n "checksum": "{digest}', 1)


def check_seal(text: str, source: str) -> None:
    """Raise DataError, which names the ``source`` of ``text``, where it is not what ``sealed_json`` returned."""
    found = _CHECKSUM.search(text)
    whole = found and text[: found.start(1)] + text[found.end(1) :]
    if not found or hashlib.sha256(str(whole).encode(errors="surrogatepass")).hexdigest() != found[1]:
        raise DataError(f"{source}: is damaged or was edited: its checksum does not fit its content")


def _sync_folder(folder: Path) -> None:
    """Write the folder's entries to the disk, so that a rename survives a loss of power."""
    with if_offered():
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_error(path: Path, what: str, error: OSError) -> DataError:
    """Return the error where the system refuses to write ``path``: ``what`` failed, the reason, and what to do."""
    for folder in path.parents:
        if (kind := kind_of(folder)).startswith("a link"):
            return DataError(f"{folder}: is {kind}: {what}; make that folder, or name another one")
    advice = _ADVICE.get(error.errno or 0, "repair that, or name another folder")
    return DataError(f"{path.parent}: {what}: {error.strerror}; {advice}")
