"""What is wrong with a leaderboard, and where: file, line and column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is wrong. ``line`` is 1-based (0: the whole file), ``column`` a CSV column or a record's field."""

    file: Path
    line: int
    column: str
    what: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {self.column} {self.what}" if self.column else f"{place}: {self.what}"


def in_record(file: Path, field: str, what: str) -> Finding:
    """Return a finding about a field of a record, "scores.r1", with the line on which it stands."""
    return Finding(file, _line_of(file, field), field, what)


def _line_of(file: Path, field: str) -> int:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return 0
    place = 0
    for depth, key in enumerate(field.split("."), start=1):
        found = re.compile(rf'^ {{{depth}}}"{re.escape(key)}":', re.MULTILINE).search(text, place)
        if found is None:  # a field that is not there: the line of what should hold it
            break
        place = found.start()
    return text.count("\n", 0, place) + 1
