"""Streams that never fail; plain tables and texts on the terminal, for verbs without a report."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from reidbench.reports.sections import Part


class _Output(io.FileIO):
    """Writes to a copy of a descriptor; after the first write that the system refuses, everything is dropped.

    ``error``: why that write was refused.
    """

    error: OSError | None = None

    def __init__(self, descriptor: int) -> None:
        self._copy = os.dup(descriptor)  # whatever a plugin does with the descriptor itself
        super().__init__(self._copy, "wb", closefd=False)

    def write(self, data: ReadableBuffer, /) -> int:
        while self.error is None:
            try:
                if (count := super().write(data)) is not None:
                    return count
                select.select([], [self], [])  # another program has made the terminal, which it shares, non-blocking
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes

    def __del__(self) -> None:
        os.close(self._copy)  # without the warning of a file that nobody closed


class _Stream(io.TextIOWrapper):
    """A text stream that stays open where a plugin closes it."""

    def close(self) -> None:
        self.flush()


@contextmanager
def safe_streams() -> Iterator[None]:
    """Replace stdout and stderr in the block by streams that never raise: a lost line must not cost a result.

    Characters that the encoding lacks are replaced, and what cannot be written is dropped. That the reader has closed
    the pipe is no error; another reason, such as a full disk, is named on stderr at the end and turns exit code 0 to 1.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # no file may take the place of a closed stream
        pass
    os.close(descriptor)
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    streams, outputs = {}, {}
    for number, (name, stream) in enumerate(before.items(), start=1):
        outputs[name] = _Output(stream.fileno() if stream else number)
        streams[name] = _Stream(
            io.BufferedWriter(outputs[name]),
            encoding=stream.encoding if stream else "utf-8",
            errors="replace",
            line_buffering=not stream or stream.line_buffering,
        )
        setattr(sys, name, streams[name])
    code: object = None
    try:
        yield
    except SystemExit as ended:
        code = ended.code
        raise
    finally:
        lost = False
        for name, stream in streams.items():
            stream.flush()
            error = outputs[name].error
            if error and error.errno != errno.EPIPE:
                lost = True
                streams["stderr"].write(f"reidbench: {name}: {error.strerror}; what was to be printed is lost\n")
        for name, stream in before.items():
            setattr(sys, name, stream)
        if lost and not code:
            sys.exit(1)


def echo(text: str, *, nl: bool = True, err: bool = False) -> None:
    """Write a text, and with ``nl`` a line end, to a stream as it is: click's own function turns ASCII into UTF-8."""
    (sys.stderr if err else sys.stdout).write(text + "\n" * nl)


def print_rows(headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str] = ()) -> None:
    """Print a table to stdout as reports do; columns in ``numbers`` are right-aligned."""
    from rich.console import Console

    from reidbench.reports.table import Column, Table
    from reidbench.reports.text_formats import print_table

    columns = [Column(heading, kind="number" if heading in numbers else "text") for heading in headings]
    table = Table([dict(zip(headings, row, strict=True)) for row in rows], columns)
    print_table(table, Console(highlight=False), first=True)


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
