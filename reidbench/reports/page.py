"""Deprecated: the tables of leaderboards' pages, until these use ``reidbench.reports.table``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reidbench.reports.html import render


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


__all__ = ["Cell", "Column", "Entry", "Filter", "Table", "render"]
