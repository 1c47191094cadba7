"""A report as one page: it needs no network, sorts and filters, and is readable on light and dark."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

import reidbench
from reidbench.reports.figures import title_of as figure_title
from reidbench.reports.figures import to_svg
from reidbench.reports.page import Cell, Column, Entry, Table, render
from reidbench.reports.sections import Part
from reidbench.reports.table import best_of, column_of, is_numeric, one_line, rows_of, title_of, values_of


def to_html(parts: Sequence[Part], title: str, about: str) -> str:
    """Return parts as one page of HTML; equal parts give equal bytes."""
    shown = []
    for number, part in enumerate(parts, start=1):
        tables = [
            {"title": title_of(frame), "table": _table(part, place, f"p{number}t{place}")}
            for place, frame in enumerate(part.tables, start=1)
        ]
        figures = [
            # What ElementTree writes is escaped.
            {"title": figure_title(figure), "svg": Markup(to_svg(figure, f"p{number}f{place}"))}
            for place, figure in enumerate(part.figures, start=1)
        ]
        notes = [one_line(note) for note in part.notes]
        shown.append(
            {"id": f"p{number}", "title": one_line(part.title), "tables": tables, "figures": figures, "notes": notes}
        )
    return render(
        "report.html.j2", title=one_line(title), about=one_line(about), parts=shown, version=reidbench.__version__
    )


def _table(part: Part, place: int, prefix: str) -> Table:
    frame = part.tables[place - 1]
    caption = title_of(frame) or one_line(part.title)
    sorted_by = frame.attrs.get("values", {})
    numeric = [
        column > 0 and (name in sorted_by or is_numeric(column_of(frame, column)))
        for column, name in enumerate(frame.columns)
    ]
    values = [values_of(frame, column) if numeric[column] else [None] * len(frame) for column in range(len(numeric))]
    best = set(best_of(frame))
    entries = [
        Entry(
            id=f"{prefix}r{row}",
            cells=[
                Cell(text, value=values[column][row], best=(row, column) in best) for column, text in enumerate(texts)
            ],
        )
        for row, texts in enumerate(rows_of(frame))
    ]
    columns = [
        Column(one_line(str(name)), "number" if number else "text")
        for name, number in zip(frame.columns, numeric, strict=True)
    ]
    # Two tables of a page need two names for those who do not see them.
    return Table(caption=f"{caption} (table {prefix[1:].replace('t', '.')})", columns=columns, entries=entries)
