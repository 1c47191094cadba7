"""Paths and files from outside: only regular files, of a limited size; UTF-8 text, and JSON all readers read alike."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from reidbench.errors import DataError

TEXT_BYTES = 2**26  # of a record, a suite or a leaderboard: a thousand times more than any of them takes
LIST_BYTES = 2**30  # of a list of images: ten million names
ARRAY_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2  # of arrays or weights: half of the memory


def kind_of(path: Path) -> str:
    """Return what is at ``path`` in words, "" for a regular file and for nothing; links are followed if they can be."""
    try:
        mode = path.stat().st_mode
        return "a folder" if stat.S_ISDIR(mode) else "" if stat.S_ISREG(mode) else "a named pipe or a device"
    except OSError as error:
        with suppress(OSError):  # it is no link
            return f"a link to {path.readlink()} ({error.strerror})"
    except ValueError:  # a path with a null byte
        pass
    return ""


def real_path(path: Path) -> Path:
    """Return the absolute path without links; of a link that leads to itself the path of the link."""
    return Path(os.path.realpath(path))  # ``Path.resolve`` raises RuntimeError for such a link


@contextmanager
def open_regular(file: Path, most: int | None = None) -> Iterator[BufferedReader]:
    """Open a regular file of at most ``most`` bytes for reading while the block runs; nothing else is waited for.

    Raises DataError where it is a folder, a named pipe or a device, is larger, or cannot be read, also in the block.
    """
    try:
        # A named pipe without a writer would wait here for one.
        with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{file}: is no regular file but a named pipe or a device; save its content as a file")
            if most is not None and status.st_size > most:
                raise DataError(f"{file}: has {status.st_size:,} bytes, more than the {most:,} that are read")
            yield opened
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise DataError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def file_digest(file: Path, most: int = ARRAY_BYTES) -> str:
    """Return the sha256 (hex) of a file from outside; raises DataError as ``open_regular``."""
    with open_regular(file, most) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_text(file: Path, most: int = TEXT_BYTES) -> str:
    """Return the UTF-8 text of a file from outside, with its line ends and without a byte order mark.

    Raises DataError as ``open_regular``, and where it is no UTF-8.
    """
    with open_regular(file, most) as opened:
        content = opened.read(most + 1)
    if len(content) > most:  # files of /proc have no size
        raise DataError(f"{file}: has more than the {most:,} bytes that are read")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is no UTF-8 text: byte {error.start} ({error.reason}); save it as UTF-8") from None


def parse_json(text: str, source: str) -> Any:
    """Return the value of a JSON text from outside; ``source`` names it in errors.

    Raises DataError where it is no JSON, nested too deeply, or ambiguous: a repeated key, NaN or infinity, a number
    beyond 64 bits, half of a surrogate pair (which cannot be written again).
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_int=lambda digits: int(np.int64(digits)))
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{source}: is not valid JSON: {error}") from None
    return value


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {repeated!r:.80} is repeated")
    return values
