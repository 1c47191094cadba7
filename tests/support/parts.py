"""Parts of reports in tests: one section built, and a table's printed columns."""

from reidbench import RunFiles, Table
from reidbench.reports.sections import build_sections
from reidbench.utils.machine import local_machine


def build_part(section, records, files=None):
    """Return the part of one section that must not fail."""
    (part,) = build_sections([section], records, files or RunFiles([], local_machine()))
    assert not part.error
    return part


def headings(table: Table) -> list[str]:
    """Return a table's headings."""
    return [column.heading for column in table.columns]


def printed(table: Table, heading: str) -> list[str]:
    """Return the printed cells of one column, by its heading."""
    return [row[headings(table).index(heading)] for row in table.cells()]
