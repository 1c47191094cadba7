"""Parts of a report in a terminal, as CSV and as JSON; figures are for pages and files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import rich.table
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.containers import Lines
from rich.measure import Measurement
from rich.padding import Padding
from rich.text import Text

from reidbench.reports.sections import Part
from reidbench.reports.table import Row, Table, is_missing, one_line


def render_terminal(parts: Sequence[Part], console: Console) -> None:
    """Print parts; where a table is too wide, columns with one text in every row move to a line above it."""
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(Text(one_line(part.title), style="bold"))
        if part.error:
            console.print(Text(one_line(part.error), style="red"))
        for table in part.tables:
            print_table(table, console)
        if count := len(part.charts) + len(part.figures) + len(part.pictures):
            figures = "1 figure" if count == 1 else f"{count} figures"
            console.print(Text(f"({figures}: --html FILE or --plots FOLDER)"))
        for command in part.commands:
            console.print(Text(one_line(command)), soft_wrap=True)
        for note in part.notes:
            _print_words(one_line(note), console)


def to_terminal(parts: Sequence[Part]) -> str:
    """Return parts as text for the terminal, as ``render_terminal`` prints them."""
    console = Console(highlight=False, force_jupyter=False)  # in notebooks plain text too
    with console.capture() as printed:
        render_terminal(parts, console)
    return printed.get()


def to_csv(parts: Sequence[Part]) -> str:
    """Return the rows of all tables as one CSV: section, table, then every key of the rows, as ``rows_to_csv``."""
    return rows_to_csv(
        {"section": part.title, "table": table.title} | _plain(row)
        for part in parts
        for table in part.tables
        for row in table.rows
    )


def rows_to_csv(rows: Iterable[Row]) -> str:
    """Return rows as CSV with a column for every key; values are unrounded.

    A text that a spreadsheet would run as a formula gets a ``'`` before it.
    """
    rows = list(rows)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_inert, keys))
    writer.writerows([_inert(row.get(key)) for key in keys] for row in rows)
    return text.getvalue()


def to_json(parts: Sequence[Part]) -> str:
    """Return parts as JSON: a list of {title, tables: list of {title, rows}, notes, error}; values are unrounded."""
    shown = []
    for part in parts:
        tables = [{"title": table.title, "rows": list(map(_plain, table.rows))} for table in part.tables]
        shown.append({"title": part.title, "tables": tables, "notes": part.notes, "error": part.error})
    return rows_to_json(shown)


def rows_to_json(rows: Sequence[Row]) -> str:
    """Return rows as a JSON list of objects."""
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"


def _plain(row: Row) -> dict[str, Any]:
    """Return a row with Python's own numbers, texts and None."""
    present = {key: value for key, value in row.items() if not is_missing(value)}
    plain = {key: value.item() if hasattr(value, "item") else value for key, value in present.items()}
    return dict.fromkeys(row) | plain


def _inert(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    line = one_line(value)
    return f"'{line}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else line


def print_table(table: Table, console: Console, *, first: bool = False) -> None:
    """Print one table as wide as it fits: all columns; without the constant ones, which are named in a line above; with
    spreads on a line of their own; without the minor ones; at last, where words would be broken, as a list.

    An empty line is above it, unless it is the ``first`` to be printed.
    """

    def size(shown: Table, *, several_lines: bool = False) -> Measurement:
        options = console.options.update(width=10_000)
        return Measurement.get(console, options, _rich_table(shown, several_lines=several_lines))

    def fits(shown: Table, *, several_lines: bool = False) -> bool:
        return size(shown, several_lines=several_lines).maximum <= console.width

    if table.title:
        _print_words(one_line(table.title), console)
    constant = [] if fits(table) else table.constant()
    if constant:
        _print_words(table.constant_line(), console)
        table = table.without(constant)
    if table.title or constant or not first:
        console.print()
    shown, hidden = table, list[str]()
    while not fits(shown, several_lines=True) and any(column.minor for column in shown.columns):
        last = max(shown.columns, key=lambda column: column.minor)
        shown = shown.without([last])
        hidden.insert(0, last.heading)
    several_lines = not fits(shown)
    if size(shown, several_lines=several_lines).minimum > console.width:
        _print_list(table, console)
        return
    console.print(_rich_table(shown, several_lines=several_lines))
    console.print()
    if hidden:
        console.print(Text(f"Not shown at this width: {', '.join(hidden)}."))
        console.print()


def _print_list(table: Table, console: Console) -> None:
    """Print a paragraph for each row: its first cell, then every other one behind its heading."""
    for number, row in enumerate(table.cells()):
        _print_words(row[0], console)
        cells = [
            Text.assemble(f"{column.heading}: ", (cell, "bold" if (number, column.key) in table.best else ""))
            for cell, column in zip(row[1:], table.columns[1:], strict=True)
        ]
        console.print(Padding(Text(" · ").join(cells), (0, 0, 0, 2)))
    console.print()


def _print_words(text: str, console: Console) -> None:
    for line in _Cell(text).wrap(console, console.width):
        line.rstrip()
        console.print(line, soft_wrap=True)


class _Cell(Text):
    """A text whose words, where they are too long for a line, are broken behind a punctuation mark."""

    def wrap(self, console: Console, width: int, **options: Any) -> Lines:
        text = re.sub(r"\S+", lambda word: _broken(word.group(), width), self.plain)
        return Text(text, self.style).wrap(console, width, **options)


def _broken(word: str, width: int) -> str:
    """Return a word with line ends behind punctuation marks, where that keeps its parts within ``width``."""
    lines = [""]
    for part in re.findall(r"[^/_(,=*+-]*[/_(,=*+-]*", word) if len(word) > width else [word]:
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _rich_table(table: Table, *, several_lines: bool = False) -> rich.table.Table:
    """Return rich's table; with ``several_lines`` what follows a number (a spread) is printed below it."""
    shown = rich.table.Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1), header_style="bold"
    )
    for place, column in enumerate(table.columns):
        right = place > 0 and column.kind == "number"  # the first column names its row
        # One word on a line keeps columns of numbers narrow.
        heading = re.sub(r"\s+(?!%)", "\n", column.heading) if right else column.heading
        shown.add_column(Text(heading), justify="right" if right else "left", no_wrap=right, overflow="fold")
    for number, row in enumerate(table.cells()):
        cells = []
        for text, column in zip(row, table.columns, strict=True):
            tall = several_lines and column.kind == "number"
            cell = text.replace(" ±", "\n±").replace(" (", "\n(") if tall else text
            cells.append(_Cell(cell, "bold" if (number, column.key) in table.best else ""))
        shown.add_row(*cells)
    for unbroken in (column for column in shown.columns if column.no_wrap):  # rich would count their longest word only
        lines = [line for cell in (unbroken.header, *unbroken.cells) for line in str(cell).splitlines()]
        unbroken.min_width = max(map(cell_len, lines), default=0)
    return shown
