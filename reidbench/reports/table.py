"""A report's tables as texts.

A part's tables are data frames. Four entries of a frame's ``attrs`` are read: ``title``, a line above the table;
``best``, {column: [row, …]} with the rows (0-based) whose cells are set in bold; ``values``, {column: [number, …]},
what a page sorts a column by whose texts do not begin with comparable numbers ("2 min"); ``minor``, [column, …], what a
narrow terminal leaves out, the last first. All texts are strangers': they are shown as they are, never as markup.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pandas as pd

_DASH = "–"
NUMBER = re.compile(rf"[-+−]?[.]?[0-9].*|{_DASH}?")
_LEADING = re.compile(r"[-+−]?[0-9][0-9,]*(?:[.][0-9]+)?(?:e[-+]?[0-9]+)?")


def rows_of(frame: pd.DataFrame) -> list[list[str]]:
    """Return every cell as it is printed."""
    return [[cell_of(value) for value in row] for row in frame.itertuples(index=False, name=None)]


def column_of(frame: pd.DataFrame, place: int) -> list[str]:
    """Return one column as it is printed."""
    return [cell_of(value) for value in frame.iloc[:, place].tolist()]


def cell_of(value: object) -> str:
    """Return a value as it is printed: on one line, nothing for what is missing."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:g}" if isinstance(value, float) else one_line(str(value))


def is_numeric(cells: Sequence[str]) -> bool:
    """Whether every cell begins with a number, or says nothing."""
    return all(NUMBER.fullmatch(cell) for cell in cells)


def best_of(frame: pd.DataFrame) -> list[tuple[int, int]]:
    """Return (row, column) of the cells to set in bold."""
    columns = list(frame.columns)
    marked: dict[str, list[int]] = frame.attrs.get("best", {})
    return [(row, columns.index(column)) for column, rows in marked.items() for row in rows]


def title_of(frame: pd.DataFrame) -> str:
    """Return the line above a table, or nothing."""
    return one_line(str(frame.attrs.get("title", "")))


def one_line(text: str) -> str:
    """Return a text on one line, with every character that could steer a terminal replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))


def values_of(frame: pd.DataFrame, place: int) -> list[float | None]:
    """Return what the cells of a column sort by: the frame's own values, or the number that a cell begins with."""
    own = frame.attrs.get("values", {}).get(frame.columns[place])
    if own is not None:
        return [None if value is None else float(value) for value in own]
    found = [_LEADING.match(cell) for cell in column_of(frame, place)]
    return [float(match.group().replace(",", "").replace("−", "-")) if match else None for match in found]
