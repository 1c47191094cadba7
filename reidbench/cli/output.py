"""Streams that never fail; plain tables and texts on the terminal, for verbs without a report."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from rich.console import Console

    from reidbench.reports.sections import Part


class _Output(io.FileIO):
    """Writes to a descriptor; after the first write that the system refuses, everything is dropped.

    ``error``: why that write was refused.
    """

    error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            if self.error is None:
                os.set_blocking(self.fileno(), True)  # another program may have changed a terminal that it shares
                return super().write(data) or 0
        except OSError as error:
            self.error = error
        return memoryview(data).nbytes


class _Stream(io.TextIOWrapper):
    """A text stream in the place of another, or of one that was closed, that never fails and stays open."""

    def __init__(self, stream: TextIO | None) -> None:
        # The null device takes the number of a closed stream, so that no other file does.
        self.stream = stream or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        self.output = _Output(self.stream.fileno(), "wb", closefd=False)
        in_lines = bool(self.stream.line_buffering)
        super().__init__(io.BufferedWriter(self.output), self.stream.encoding, "replace", line_buffering=in_lines)

    def close(self) -> None:
        self.flush()


@contextmanager
def safe_streams() -> Iterator[None]:
    """Replace stdout and stderr in the block by streams that never raise: a lost line must not cost a result.

    Characters that the encoding lacks are replaced, and what cannot be written is dropped. That the reader has closed
    the pipe is no error; another reason, such as a full disk, is named on stderr at the end and turns exit code 0 to 1.
    """
    before = sys.stdout, sys.stderr
    streams = sys.stdout, sys.stderr = _Stream(sys.stdout), _Stream(sys.stderr)
    code: object = None
    try:
        yield
    except SystemExit as ended:
        code = ended.code
        raise
    finally:
        lost = False
        for name, stream in zip(("stdout", "stderr"), streams, strict=True):
            stream.flush()
            if (error := stream.output.error) and error.errno != errno.EPIPE:
                lost = True
                streams[1].write(f"reidbench: {name}: {error.strerror}; what was to be printed is lost\n")
        sys.stdout, sys.stderr = before
        if lost and not code:
            sys.exit(1)


def echo(text: str, *, nl: bool = True, err: bool = False) -> None:
    """Write a text, and with ``nl`` a line end, to a stream as it is: click's own function turns ASCII into UTF-8."""
    (sys.stderr if err else sys.stdout).write(text + "\n" * nl)


def print_rows(
    headings: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[str] = (), console: Console | None = None
) -> None:
    """Print a table as reports do, by default to stdout; columns in ``numbers`` are right-aligned."""
    from rich import console as rich

    from reidbench.reports.table import Column, Table
    from reidbench.reports.text_formats import print_table

    columns = [Column(heading, kind="number" if heading in numbers else "text") for heading in headings]
    table = Table([dict(zip(headings, row, strict=True)) for row in rows], columns)
    print_table(table, console or rich.Console(highlight=False), first=console is None)


def print_report(parts: list[Part]) -> bool:
    """Print parts to stdout, and to stderr why sections failed; return whether any did."""
    from reidbench.reports.sections import render
    from reidbench.reports.text_formats import to_terminal

    echo(render(parts, to_terminal), nl=False)
    return print_errors(parts)


def print_errors(parts: Iterable[Part]) -> bool:
    """Print to stderr why sections of a report failed, and return whether any did."""
    from reidbench.reports.table import one_line

    errors = [f"reidbench: {one_line(part.error)}\n" for part in parts if part.error]
    sys.stderr.writelines(errors)
    return bool(errors)
