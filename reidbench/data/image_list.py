"""CSV lists of images: where their images are, and every mistake of a list with its line."""

from __future__ import annotations

import csv
import io
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from reidbench.errors import DataError, did_you_mean
from reidbench.utils.untrusted_files import LIST_BYTES, read_text, real_path

T = TypeVar("T")

SHOWN_MISTAKES = 10
_ELSEWHERE = "where images are elsewhere, name their folder with --data-root"
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class ListColumns(Generic[T]):
    """The columns of a list, and what a line of it is.

    Fields:
        required: columns that the header must have.
        optional: columns that it may have; None allows any.
        read_row: function of the line's cells by column, its image below the root and its number; a ValueError of it is
            a mistake in that line.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] | None
    read_row: Callable[[Mapping[str, str], str, int], T]


def read_image_list(file: Path, data_root: Path, choose: Callable[[list[str]], ListColumns[T]]) -> tuple[Path, list[T]]:
    """Return the folder that holds a list's images, and what ``read_row`` makes of each line.

    ``choose`` returns the columns for a header. The column ``path`` is relative to the list's folder, or to
    ``data_root`` where the first image is there and not in the list's folder; an absolute path must lie below that
    folder. Raises DataError, with up to ten mistakes at once, where the list or a line of it cannot be used.
    """
    lines = _lines(file)
    _, header = next(lines, (0, []))
    columns = choose(header)
    _check_header(file, header, columns)
    paths: _Paths | None = None
    rows: list[T] = []
    mistakes: list[str] = []
    for line, fields in lines:
        try:
            if len(fields) != len(header):
                raise ValueError(f"has {len(fields)} fields, the header has {len(header)}")
            cells = dict(zip(header, fields, strict=True))
            paths = paths or _find(cells["path"], file.absolute().parent, data_root.absolute())
            rows.append(columns.read_row(cells, paths.name(cells["path"]), line))
        except ValueError as error:
            mistakes.append(f"line {line}: {error}")
            if len(mistakes) == SHOWN_MISTAKES:
                mistakes.append(f"reading stopped after {SHOWN_MISTAKES} mistakes")
                break
    if mistakes:
        raise DataError(f"{file}: invalid list:\n  " + "\n  ".join(mistakes))
    return paths.folder if paths else file.absolute().parent, rows


def whole_number(text: str, column: str) -> int:
    """Return the number in a cell; raises ValueError where it is no whole number of at most 18 digits."""
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError(f"{column} {text!r} is not a whole number of at most 18 digits")
    return int(text)


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of every line that is not blank."""
    reader = csv.reader(io.StringIO(read_text(file, LIST_BYTES), newline=""), strict=True)
    line = 0
    try:
        for fields in reader:
            line = reader.line_num
            if fields:
                yield line, fields
    except csv.Error as error:
        raise DataError(f"{file}: line {line + 1}: not valid CSV: {error}") from None


def _check_header(file: Path, header: list[str], columns: ListColumns[T]) -> None:
    optional = columns.optional or ()
    expected = f"expected {', '.join(columns.required)}" + f", optionally {', '.join(optional)}" * bool(optional)
    if not header:
        raise DataError(f"{file}: is empty; {expected} in its first line")
    for separator, words in OTHER_SEPARATORS.items():
        if len(header) == 1 and separator in header[0]:
            raise DataError(f"{file}: line 1: its columns are separated by {words}; save it with commas")
    missing = [name for name in columns.required if name not in header]
    unknown = [name for name in dict.fromkeys(header) if name not in {*columns.required, *optional}]
    absent = [name for name in (*columns.required, *optional) if name not in header]
    problems = [f"lacks the column {' and '.join(missing)}"] if missing else []
    if columns.optional is not None or missing:
        problems += [
            f"has an unknown column {name!r}{did_you_mean(name, absent, repr, 0.5) or '; remove it'}"
            for name in unknown
        ]
    if len(set(header)) < len(header):
        problems.append("repeats a column")
    if problems:
        raise DataError(f"{file}: line 1 {', '.join(problems)}: {expected}; found {', '.join(map(repr, header))}")


def _find(first: str, *folders: Path) -> _Paths:
    """Return the paths below the first of ``folders`` that holds the image ``first``, else below the first folder."""
    for folder in folders:
        with suppress(ValueError):
            (paths := _Paths(folder)).name(first)
            return paths
    return _Paths(folders[0])


class _Paths:
    """Checks image paths below a folder, which links may not leave, with one call to the disk for a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.real = real_path(folder)
        self.real_parents: dict[PurePosixPath, Path] = {}

    def name(self, text: str) -> str:
        """Return the path relative to the folder; raises ValueError where it is no file below it."""
        name = PurePosixPath(text)
        if name.is_absolute():
            below = [name.relative_to(folder) for folder in (self.folder, self.real) if name.is_relative_to(folder)]
            name = below[0] if below else name
        if not text or "\0" in text or name.is_absolute() or ".." in name.parts:
            raise ValueError(f"path {text!r} must be below {self.folder}, without ..; {_ELSEWHERE}")
        if name.parent not in self.real_parents:
            self.real_parents[name.parent] = real_path(self.real / name.parent)
        file = self.real_parents[name.parent] / name.name
        try:
            if stat.S_ISLNK(file.lstat().st_mode):
                file = real_path(file)
            if not stat.S_ISREG(file.lstat().st_mode):
                raise ValueError(f"path {text!r} is not a file")
        except OSError as error:
            reason = f"cannot be read below {self.folder}: {error.strerror}"
            raise ValueError(f"path {text!r} {reason}; {_ELSEWHERE}") from None
        if not file.is_relative_to(self.real):
            raise ValueError(f"path {text!r} is a link to {file}, outside {self.folder}; copy it there; {_ELSEWHERE}")
        return str(name)
