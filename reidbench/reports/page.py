"""Pages from templates: every text escaped, style and script inside, and a policy that lets nothing else run."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@dataclass(frozen=True)
class Column:
    """A heading of a table; ``title`` says what it means. Numbers stand right, and sort from the highest at first."""

    label: str
    kind: Literal["text", "number"] = "text"
    title: str = ""


@dataclass(frozen=True)
class Filter:
    """A choice above a table: a row is shown where its ``filters[name]`` is the chosen one of ``options``."""

    name: str
    label: str
    options: Sequence[str]


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, and ``value``, what it sorts by in a column of numbers; ``note`` stands small behind."""

    text: str
    value: float | None = None
    note: str = ""
    best: bool = False


@dataclass(frozen=True)
class Entry:
    """A row; ``id`` (unique in the page) is its permanent link, ``details`` (label, text) are what it opens to."""

    id: str
    cells: Sequence[Cell]
    filters: Mapping[str, str] = field(default_factory=dict)
    details: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Table:
    """What ``tables.sortable`` of ``tables.html.j2`` shows; ``caption`` is its name for those who do not see it."""

    caption: str
    columns: Sequence[Column]
    entries: Sequence[Entry]
    filters: Sequence[Filter] = ()


def render(template: str, **values: object) -> str:
    """Return a page as HTML.

    ``template`` is a file of ``templates`` that extends ``base.html.j2``; ``values`` are what it names, texts as they
    are (they are escaped here). The style sheet and the script for tables are inside, and the page's policy allows
    these two by their digests and pictures in ``data:`` addresses: no other script or style, and no request.
    """
    style, script = (
        importlib.resources.files("reidbench.reports").joinpath(name).read_text(encoding="utf-8")
        for name in ("style.css", "table.js")
    )
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    # The two files are our own, and their digests are of the bytes between the tags.
    return _environment().get_template(template).render(
        **values, page_style=Markup(style), page_script=Markup(script), page_policy=policy
    )  # fmt: skip


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("reidbench.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


__all__ = ["Cell", "Column", "Entry", "Filter", "Table", "render"]
