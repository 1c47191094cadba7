"""Pages from templates: a report, and the rendering of tables that leaderboards' pages use too.

Every text is escaped. Style and script are inside the page, and its policy lets nothing else run and requests nothing.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

import reidbench
from reidbench.reports.charts import Chart, method_colours, series_styles
from reidbench.reports.figures import title_of, to_img
from reidbench.reports.sections import Part
from reidbench.reports.table import Column, Table, one_line

OWN_FILES = ("style.css", "table.js")
NO_FILTERS: Mapping[str, str] = MappingProxyType({})


def to_html(parts: Sequence[Part], title: str, about: str, opened: int | None = None) -> str:
    """Return parts as one page of HTML, of which the first ``opened`` (by default all) are unfolded.

    Equal parts give equal bytes.
    """
    colours = method_colours(chart for part in parts for chart in part.charts)
    shown = [_part(part, f"p{number}", colours) for number, part in enumerate(parts, start=1)]
    texts = {"title": one_line(title), "about": one_line(about), "version": reidbench.__version__}
    return render("report.html.j2", charts=any(part.charts for part in parts), parts=shown, opened=opened, **texts)


def chart_view(chart: Chart, colours: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``chart`` of ``charts.html.j2`` shows; ``colours`` are those of the methods of the page's charts."""
    return {"chart": chart, "styles": list(series_styles(chart, colours))}


def table_view(
    table: Table,
    caption: str,
    ids: Sequence[str],
    *,
    filters: Mapping[str, str] = NO_FILTERS,
) -> dict[str, Any]:
    """Return what ``tables.sortable`` of ``tables.html.j2`` shows.

    ``caption`` is the table's name for screen readers; ``ids`` are the rows' permanent links, unique in the page;
    ``filters`` are keys of the rows with the label of a choice above the table; those with one text are left out.
    """
    cells = table.cells()
    texts = {key: [one_line(str(row[key])) for row in table.rows] for key in filters}
    texts = {key: each for key, each in texts.items() if len(set(each)) > 1}
    entries = [
        {
            "id": ids[number],
            "cells": [
                _cell(column, text, column.sort_value(row), (number, column.key) in table.best)
                for column, text in zip(table.columns, printed, strict=True)
            ],
            "filters": {key: each[number] for key, each in texts.items()},
        }
        for number, (row, printed) in enumerate(zip(table.rows, cells, strict=True))
    ]
    choices = [
        {"name": key, "label": filters[key].capitalize(), "options": list(dict.fromkeys(each))}
        for key, each in texts.items()
    ]
    return {"caption": caption, "columns": table.columns, "entries": entries, "filters": choices}


def _cell(column: Column, text: str, value: float | None, best: bool) -> dict[str, Any]:
    """Return a cell; what follows a number's ± is printed small."""
    number, sign, spread = text.partition(" ±") if column.kind == "number" else (text, "", "")
    return {"text": number, "note": f"{sign}{spread}".strip(), "value": value, "best": best}


def render(
    template: str | Template, *, files: Sequence[str] = OWN_FILES, charts: bool = False, **values: object
) -> str:
    """Return a page as HTML.

    ``template`` is a file of ``templates`` that extends ``base.html.j2``; ``files`` are style sheets and scripts beside
    this module; ``charts`` says whether the page has some; ``values`` are what the template names, texts not yet
    escaped. The page's policy allows the style sheet and the scripts by their digests, images in ``data:`` addresses,
    and nothing else.
    """
    folder = importlib.resources.files("reidbench.reports")
    names = (*files, *(("vendor/vega.js", "charts.js") if charts else ()))
    texts = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in names}
    style = "\n".join(text for name, text in texts.items() if name.endswith(".css"))
    scripts = [text for name, text in texts.items() if name.endswith(".js")]
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {' '.join(map(_digest, scripts))}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    # The files come with the package, and their digests are of the bytes between the tags.
    return environment().get_template(template).render(
        **values, page_style=Markup(style), page_scripts=[*map(Markup, scripts)], page_policy=policy
    )  # fmt: skip


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@functools.cache
def environment() -> Environment:
    """Return the environment of the templates."""
    environment = Environment(
        loader=PackageLoader("reidbench.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"one_line": one_line, "base64": lambda content: base64.b64encode(content).decode()}
    return environment


def _part(part: Part, prefix: str, colours: Mapping[str, str]) -> dict[str, Any]:
    tables = [_table(part, table, f"{prefix}t{number}") for number, table in enumerate(part.tables, start=1)]
    figures = [{"title": title_of(figure), "image": Markup(to_img(figure))} for figure in part.figures]
    texts = {"title": one_line(part.title), "error": one_line(part.error), "notes": list(map(one_line, part.notes))}
    texts["commands"] = "\n".join(map(one_line, part.commands))
    charts = [chart_view(chart, colours) for chart in part.charts]
    return {"id": prefix, "tables": tables, "charts": charts, "figures": figures, "pictures": part.pictures} | texts


def _table(part: Part, table: Table, prefix: str) -> dict[str, Any]:
    # Two tables of a page need two names for screen readers.
    caption = f"{one_line(table.title or part.title)} (table {prefix[1:].replace('t', '.')})"
    folded = len(table.rows) > 1
    shown = table.without(table.constant()) if folded else table
    view = table_view(shown, caption, [f"{prefix}r{row}" for row in range(len(table.rows))])
    return {"title": one_line(table.title), "constant": table.constant_line() if folded else "", "table": view}
