"""Reports: asks the sections for their parts and shows these in a terminal, as Markdown or as CSV.

Drawings are for pages and files (``figures``); a terminal says that they are there.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from reidbench.reports.sections import Part
from reidbench.reports.table import NUMBER, best_of, column_of, is_numeric, one_line, rows_of, title_of

_MARKDOWN = re.compile(r"[\\`*\[\]<>|&~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def render_terminal(parts: Sequence[Part], console: Console) -> None:
    """Print parts; where a table is too wide, columns that say the same in every row move to a line above it."""
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(Text(one_line(part.title), style="bold"))
        for frame in part.tables:
            _print_frame(frame, console)
        if part.figures:
            drawings = "a drawing" if len(part.figures) == 1 else f"{len(part.figures)} drawings"
            console.print(Text(f"({drawings}, seen with --html FILE or --plots FOLDER)"))
        for note in part.notes:
            console.print(Text(one_line(note)))


def to_markdown(part: Part) -> str:
    """Return a part as GitHub's Markdown, ending with a line end."""
    blocks = [f"## {_escaped(part.title)}"]
    for frame in part.tables:
        if title_of(frame):
            blocks.append(_escaped(title_of(frame)))
        columns = [str(column) for column in frame.columns]
        rules = ["---:" if is_numeric(column_of(frame, place)) else "---" for place in range(len(columns))]
        rows = [[_escaped(cell) for cell in row] for row in rows_of(frame)]
        for row, place in best_of(frame):
            rows[row][place] = f"**{rows[row][place]}**"
        lines = [[_escaped(column) for column in columns], rules, *rows]
        blocks.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    if part.notes:
        blocks.append("\n".join(f"- {_escaped(note)}" for note in part.notes))
    return "\n\n".join(blocks) + "\n"


def to_csv(part: Part) -> str:
    """Return a part's tables as CSV, an empty line between two of them.

    A text that a spreadsheet would run as a formula gets a ``'`` before it.
    """
    tables = []
    for frame in part.tables:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([_inert(cell) for cell in row] for row in [[str(c) for c in frame.columns], *rows_of(frame)])
        tables.append(text.getvalue())
    return "\n".join(tables)


def _print_frame(frame: pd.DataFrame, console: Console) -> None:
    """Print one table: as it is if it fits, else without its constant columns, on several lines a row, then without the
    columns that the section calls ``minor`` in ``frame.attrs``, the last ones first. Where words would be broken even
    so, its texts stand in one column.
    """
    columns = list(range(len(frame.columns)))
    constant = [place for place in columns[1:] if _is_constant(column_of(frame, place))]
    varying = [place for place in columns if place not in constant]

    def wide(table: Table) -> Measurement:
        return Measurement.get(console, console.options.update(width=10_000), table)

    def fits(table: Table) -> bool:
        return wide(table).maximum <= console.width

    if title_of(frame):
        console.print(Text(title_of(frame)))
    if not fits(_table(frame, columns)) and constant:
        said = (f"{one_line(str(frame.columns[place]))} {column_of(frame, place)[0]}" for place in constant)
        console.print(Text(" · ".join(said)))
    shown = columns if fits(_table(frame, columns)) else varying
    minor = [list(frame.columns).index(name) for name in frame.attrs.get("minor", ())]
    dropped: list[str] = []
    while minor and not fits(_table(frame, shown)) and not fits(_table(frame, shown, several_lines=True)):
        shown = [place for place in shown if place != minor[-1]]
        dropped.insert(0, one_line(str(frame.columns[minor.pop()])))
    table = _table(frame, shown)
    if not fits(table):
        table = _table(frame, shown, several_lines=True)
    if wide(table).minimum > console.width:
        table = _table(_joined(frame, shown), several_lines=True)
    console.print()
    console.print(table)
    console.print()
    if dropped:
        console.print(Text(f"Not shown at this width: {', '.join(dropped)}."))
        console.print()


def _joined(frame: pd.DataFrame, columns: Sequence[int]) -> pd.DataFrame:
    """Return the given columns with all texts of a row in the first one."""
    texts = [place for place in columns if place == 0 or not is_numeric(column_of(frame, place))]
    joined = frame.iloc[:, [place for place in columns if place not in texts]].copy()
    joined.insert(
        0,
        ", ".join(map(str, frame.columns[texts])),
        [", ".join(row[place] for place in texts) for row in rows_of(frame)],
    )
    joined.attrs = dict(frame.attrs)
    return joined


def _table(frame: pd.DataFrame, columns: Sequence[int] | None = None, *, several_lines: bool = False) -> Table:
    """Return a table of the given columns, or all; with ``several_lines`` a spread stands below its mean."""
    columns = range(len(frame.columns)) if columns is None else columns
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1), header_style="bold")
    for place in columns:
        right = place > 0 and is_numeric(column_of(frame, place))  # the first column names its row
        heading = one_line(str(frame.columns[place])).strip()
        if right:  # one word a line keeps columns of numbers narrow
            heading = re.sub(r"\s+(?!%)", "\n", heading)
        table.add_column(Text(heading), justify="right" if right else "left", no_wrap=right, overflow="fold")
    best = set(best_of(frame))
    for number, row in enumerate(rows_of(frame)):
        cells = [_several_lines(row[place]) if several_lines else row[place] for place in columns]
        styles = ["bold" if (number, place) in best else "" for place in columns]
        table.add_row(*(Text(cell, style) for cell, style in zip(cells, styles, strict=True)))
    return table


def _several_lines(cell: str) -> str:
    """Return a number with its spread, and what stands in brackets behind it, on lines of their own."""
    return cell.replace(" ±", "\n±").replace(" (", "\n(") if NUMBER.fullmatch(cell) else cell


def _is_constant(cells: Sequence[str]) -> bool:
    return len(set(cells)) == 1 and not is_numeric(cells)


def _escaped(text: str) -> str:
    escape: Callable[[re.Match[str]], str] = lambda match: "\\" + match.group()  # noqa: E731
    return _MARKDOWN.sub(escape, one_line(text))


def _inert(cell: str) -> str:
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) and not NUMBER.fullmatch(cell) else one_line(cell)
