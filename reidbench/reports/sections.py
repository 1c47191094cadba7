"""The contract of report sections, and the parts that they return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from reidbench.errors import PluginError, ReidbenchError
from reidbench.plugins.catalogue import load
from reidbench.reports.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reidbench.reports.artifacts import RunFiles
    from reidbench.runs.record import RunRecord


@dataclass(frozen=True)
class Part:
    """What a section adds to a report; the core renders it for terminal, page and files.

    ``title``: its heading.
    ``tables``: tables of plain values.
    ``figures``: matplotlib figures; a figure's label is its caption and its accessible name.
    ``notes``: sentences below the tables.
    ``error``: why the section failed; empty if it did not.
    """

    title: str
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""


class Section(Protocol):
    """One part of a report."""

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part for these records; ``files`` opens what is stored beside them.

        What a record lacks (rankings, a training log, its dataset on this machine) is named in a note.
        """
        ...


def build_sections(sections: Sequence[str], records: Sequence[RunRecord], files: RunFiles) -> list[Part]:
    """Return the parts that the sections (specs) make of the records, in the order of the sections.

    A section that fails on the records becomes a part with its ``error``. Raises OptionError for a spec that cannot be
    used and PluginError for a section that cannot be constructed.
    """
    resolved = [load().resolve("section", text) for text in sections]
    built = [(str(section.plugin_items[0]), section.build()) for section in resolved]
    return [_part(owner, section, records, files) for owner, section in built]


def _part(owner: str, section: Section, records: Sequence[RunRecord], files: RunFiles) -> Part:
    try:
        part = section.build(records, files)
        if not isinstance(part, Part):
            raise PluginError(f"build must return a Part, got {type(part).__name__}")
        for table in part.tables:
            if not isinstance(table, Table):
                raise PluginError(f"tables must be reidbench.Table, got {type(table).__name__}")
            table.cells()  # so that a format that fails, fails here
    except Exception as error:  # a broken section must not cost the others
        reason = str(error) if isinstance(error, ReidbenchError) else f"{type(error).__name__}: {error}"
        return Part(owner, error=f"{owner} failed: {reason}")
    return part
