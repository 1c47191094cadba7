"""Parts of a report in a terminal, as Markdown, as CSV and as JSON; figures are for pages and files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import rich.table
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

from reidbench.reports.sections import Part
from reidbench.reports.table import Row, Table, is_missing, one_line

_MARKDOWN = re.compile(r"[\\`*\[\]<>|&~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def render_terminal(parts: Sequence[Part], console: Console) -> None:
    """Print parts; where a table is too wide, columns with one text in every row move to a line above it."""
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(Text(one_line(part.title), style="bold"))
        if part.error:
            console.print(Text(one_line(part.error), style="red"))
        for table in part.tables:
            _print_table(table, console)
        if part.figures:
            figures = "1 figure" if len(part.figures) == 1 else f"{len(part.figures)} figures"
            console.print(Text(f"({figures}: --html FILE or --plots FOLDER)"))
        for note in part.notes:
            console.print(Text(one_line(note)))


def to_markdown(parts: Sequence[Part]) -> str:
    """Return parts as GitHub's Markdown, ending with a line end."""
    return "\n".join(_markdown(part) for part in parts)


def to_csv(parts: Sequence[Part]) -> str:
    """Return the rows of all tables as one CSV: section, table, then every key of the rows.

    Values are unrounded. A text that a spreadsheet would run as a formula gets a ``'`` before it.
    """
    rows = [
        {"section": part.title, "table": table.title} | dict(row)
        for part in parts
        for table in part.tables
        for row in table.rows
    ]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_inert, keys))
    writer.writerows([_inert(_plain(row.get(key))) for key in keys] for row in rows)
    return text.getvalue()


def to_json(parts: Sequence[Part]) -> str:
    """Return parts as JSON: a list of {title, tables: list of {title, rows}, notes, error}; values are unrounded."""
    return json.dumps([_json(part) for part in parts], ensure_ascii=False, indent=1) + "\n"


def _json(part: Part) -> dict[str, Any]:
    tables = [{"title": table.title, "rows": [_plain_row(row) for row in table.rows]} for table in part.tables]
    return {"title": part.title, "tables": tables, "notes": part.notes, "error": part.error}


def _plain_row(row: Row) -> dict[str, Any]:
    return {key: _plain(value) for key, value in row.items()}


def _plain(value: Any) -> Any:
    """Return a value as Python's own number, text or None."""
    if is_missing(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _inert(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    line = one_line(value)
    return f"'{line}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else line


def _markdown(part: Part) -> str:
    blocks = [f"## {_escaped(part.title)}", *([_escaped(part.error)] if part.error else [])]
    for table in part.tables:
        if table.title:
            blocks.append(_escaped(table.title))
        rows = [[_escaped(cell) for cell in row] for row in table.cells()]
        for number, row in enumerate(rows):
            for place, column in enumerate(table.columns):
                if (number, column.key) in table.best:
                    row[place] = f"**{row[place]}**"
        headings = [_escaped(column.heading) for column in table.columns]
        rules = ["---:" if column.kind == "number" else "---" for column in table.columns]
        blocks.append("\n".join(f"| {' | '.join(line)} |" for line in (headings, rules, *rows)))
    if part.notes:
        blocks.append("\n".join(f"- {_escaped(note)}" for note in part.notes))
    return "\n\n".join(blocks) + "\n"


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(lambda match: "\\" + match.group(), one_line(text))


@dataclass(frozen=True)
class _Shown:
    """A column as a terminal prints it.

    ``heading``: its heading.
    ``cells``: its printed cells.
    ``bold``: which of them are bold.
    ``number``: whether it holds numbers.
    ``minor``: as in ``Column``.
    """

    heading: str
    cells: Sequence[str]
    bold: Sequence[bool]
    number: bool
    minor: int = 0


def _print_table(table: Table, console: Console) -> None:
    """Print one table as wide as it fits: all columns; without the constant ones, which are named in a line above; with
    spreads on a line of their own; without the minor ones; at last with all texts of a row in one column.
    """
    columns = _shown(table)

    def size(shown: Sequence[_Shown], *, several_lines: bool = False) -> Measurement:
        options = console.options.update(width=10_000)
        return Measurement.get(console, options, _rich_table(shown, several_lines=several_lines))

    def fits(shown: Sequence[_Shown], *, several_lines: bool = False) -> bool:
        return size(shown, several_lines=several_lines).maximum <= console.width

    if table.title:
        console.print(Text(one_line(table.title)))
    if not fits(columns) and (constant := table.constant()):
        columns = _shown(replace(table, columns=[column for column in table.columns if column not in constant]))
        console.print(Text(" · ".join(f"{column.heading} {column.cell(table.rows[0])}" for column in constant)))
    hidden: list[str] = []
    while not fits(columns) and not fits(columns, several_lines=True):
        last = max(columns, key=lambda column: column.minor)
        if not last.minor:
            break
        columns.remove(last)
        hidden.insert(0, last.heading)
    several_lines = not fits(columns)
    if size(columns, several_lines=several_lines).minimum > console.width:
        columns = _joined(columns)
    console.print()
    console.print(_rich_table(columns, several_lines=several_lines))
    console.print()
    if hidden:
        console.print(Text(f"Not shown at this width: {', '.join(hidden)}."))
        console.print()


def _shown(table: Table) -> list[_Shown]:
    cells = table.cells()
    return [
        _Shown(
            column.heading,
            [row[place] for row in cells],
            [(number, column.key) in table.best for number in range(len(cells))],
            column.kind == "number",
            column.minor,
        )
        for place, column in enumerate(table.columns)
    ]


def _joined(columns: Sequence[_Shown]) -> list[_Shown]:
    """Return the columns with all texts of a row in the first one."""
    texts = [column for number, column in enumerate(columns) if number == 0 or not column.number]
    cells = [", ".join(row) for row in zip(*(column.cells for column in texts), strict=True)]
    first = _Shown(", ".join(column.heading for column in texts), cells, [False] * len(cells), number=False)
    return [first, *(column for column in columns if column not in texts)]


def _rich_table(columns: Sequence[_Shown], *, several_lines: bool = False) -> rich.table.Table:
    """Return rich's table; with ``several_lines`` what follows a number (a spread) is printed below it."""
    table = rich.table.Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1), header_style="bold"
    )
    for place, column in enumerate(columns):
        right = place > 0 and column.number  # the first column names its row
        # One word on a line keeps columns of numbers narrow.
        heading = re.sub(r"\s+(?!%)", "\n", column.heading.strip()) if right else column.heading.strip()
        table.add_column(Text(heading), justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in zip(*(zip(column.cells, column.bold, strict=True) for column in columns), strict=True):
        cells = []
        for (cell, bold), column in zip(row, columns, strict=True):
            text = cell.replace(" ±", "\n±").replace(" (", "\n(") if several_lines and column.number else cell
            cells.append(Text(text, "bold" if bold else ""))
        table.add_row(*cells)
    return table
