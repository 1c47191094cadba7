"""Reports: asks the sections for their parts and shows these in a terminal, as Markdown or as CSV.

Drawings are for pages and files (``figures``); a terminal says that they are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from reidbench.errors import PluginError, ReidbenchError
from reidbench.plugins.catalogue import load

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from reidbench.runs.artifacts import RunFiles
    from reidbench.runs.record import RunRecord


def build_sections(sections: Sequence[str], records: Sequence[RunRecord], files: RunFiles) -> list[Part]:
    """Return the parts that the sections (specs) make of the records, in the order of the sections.

    Raises OptionError where a spec cannot be used, PluginError where a section fails or returns something else.
    """
    resolved = [load().resolve("section", text) for text in sections]
    parts = []
    for section in resolved:
        owner = section.plugin_items[0]
        try:
            part = section.build().build(records, files)
        except ReidbenchError:
            raise
        except Exception as error:
            raise PluginError(f"{owner}: could not be made: {type(error).__name__}: {error}") from error
        if not isinstance(part, Part):
            raise PluginError(f"{owner}: build must return a Part, got {type(part).__name__}")
        parts.append(part)
    return parts


@dataclass(frozen=True)
class Part:
    """One part of a report: a title, tables, figures and notes; the core renders it for terminal, page and files.

    A figure's label says what it shows: it stands above the drawing and is its accessible name.
    """

    title: str
    tables: list[pd.DataFrame] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Section(Protocol):
    """One part of a report."""

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part for these records; ``files`` opens what lies beside them.

        What a record lacks (no ranking, no log, other data here) is said in a note and stops no report.
        """
        ...
