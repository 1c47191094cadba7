"""The table of a report: rows of plain values, and columns that tell how to print them.

Sections return tables; the terminal, HTML, CSV and JSON renderers read them. Texts may come from anywhere:
they are printed as they are, on one line, never as markup.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from numbers import Real
from typing import Any, Literal

MISSING = "–"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One printed column of a table.

    ``key``: the key of its values in the rows.
    ``label``: its heading; the key if empty.
    ``kind``: "number" columns are right-aligned and sort by value, "text" columns sort alphabetically.
    ``format``: a format specification for the values, such as ".2f", or a function of a row that returns the cell.
    ``minor``: a narrow terminal leaves columns with a number above 0 out, the greatest first.
    ``description``: what the heading means, shown on pages.
    """

    key: str
    label: str = ""
    kind: Literal["text", "number"] = "text"
    format: str | Callable[[Row], str] = ""
    minor: int = 0
    description: str = ""

    @property
    def heading(self) -> str:
        """Return the heading on one line."""
        return one_line(self.label or self.key)

    def cell(self, row: Row) -> str:
        """Return the printed cell of a row: a missing number is a dash, a missing text is empty."""
        if callable(self.format):
            return one_line(self.format(row))
        value = row.get(self.key)
        if is_missing(value):
            return MISSING if self.kind == "number" else ""
        if _is_number(value):
            return format(value, self.format or ("g" if isinstance(value, float) else ""))
        return one_line(str(value))

    def sort_value(self, row: Row) -> float | None:
        """Return what a column of numbers sorts by: the value if it is a number."""
        value: Any = row.get(self.key)
        return float(value) if self.kind == "number" and _is_number(value) and not is_missing(value) else None


@dataclass(frozen=True)
class Table:
    """A table of a report.

    ``rows``: one mapping from key to text, number or None for each row; CSV and JSON hold every key.
    ``columns``: the printed columns in order; by default one for each key, of numbers where every value is one.
    ``title``: a line above the table.
    ``best``: (row from 0, column key) of the cells to print in bold.
    """

    rows: Sequence[Row]
    columns: Sequence[Column] = ()
    title: str = ""
    best: Collection[tuple[int, str]] = ()

    def __post_init__(self) -> None:
        if not self.columns:
            keys = dict.fromkeys(key for row in self.rows for key in row)
            object.__setattr__(self, "columns", [Column(key, kind=_kind(self.rows, key)) for key in keys])

    def constant(self) -> list[Column]:
        """Return the columns, other than the first, that hold one and the same text in every row."""
        texts = [column for column in self.columns[1:] if column.kind == "text"]
        return [column for column in texts if len({column.cell(row) for row in self.rows}) == 1]

    def constant_line(self) -> str:
        """Return the constant columns with their text, as one line."""
        return " · ".join(f"{column.heading} {column.cell(self.rows[0])}" for column in self.constant())

    def without(self, columns: Collection[Column]) -> Table:
        """Return the table without some of its columns."""
        return replace(self, columns=[column for column in self.columns if column not in columns])

    def cells(self) -> list[list[str]]:
        """Return the printed cells, row by row."""
        return [[column.cell(row) for column in self.columns] for row in self.rows]

    def _repr_html_(self) -> str:
        headings = "".join(f"<th>{escape(column.heading)}</th>" for column in self.columns)
        rows = ("".join(self._html_cell(number, each) for each in self.columns) for number in range(len(self.rows)))
        lines = "".join(f"<tr>{row}</tr>" for row in (headings, *rows))
        return f"<table><caption>{escape(one_line(self.title))}</caption>{lines}</table>"

    def _html_cell(self, row: int, column: Column) -> str:
        text = escape(column.cell(self.rows[row]))
        return f"<td><b>{text}</b></td>" if (row, column.key) in self.best else f"<td>{text}</td>"


def one_line(text: str) -> str:
    """Return a text on one line, with every character that could control a terminal replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))


def is_missing(value: object) -> bool:
    """Return whether a value is None or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _kind(rows: Sequence[Row], key: str) -> Literal["text", "number"]:
    values = [row.get(key) for row in rows]
    numeric = all(value is None or _is_number(value) for value in values) and any(map(_is_number, values))
    return "number" if numeric else "text"
