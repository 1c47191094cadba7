"""The contract of report sections, and the parts that they return."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from reidbench.errors import PluginError, ReidbenchError, check_fields, describe_error
from reidbench.plugins.catalogue import ResolvedSpec, command_defaults, load
from reidbench.reports.charts import Chart, check_chart, method_colours
from reidbench.reports.pictures import PictureGrid
from reidbench.reports.table import Table, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reidbench.reports.artifacts import RunFiles
    from reidbench.runs.record import RunRecord
else:
    Figure = Any  # sections that draw import matplotlib, which takes a second

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """What a section adds to a report; the core renders it for terminal, page and files.

    ``title``: its heading.
    ``tables``: tables of plain values.
    ``charts``: charts that pages draw interactively, and files with matplotlib.
    ``figures``: matplotlib figures; a figure's label is its caption and its accessible name.
    ``pictures``: images in rows, which pages embed.
    ``commands``: lines of a shell, printed so that they can be pasted back.
    ``notes``: sentences below the tables.
    ``error``: why the section failed; empty if it did not.
    """

    title: str
    tables: list[Table] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    pictures: list[PictureGrid] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""

    def __bool__(self) -> bool:
        """Return whether there is anything below the heading."""
        return any((self.tables, self.charts, self.figures, self.pictures, self.commands, self.notes, self.error))

    def _repr_html_(self) -> str:
        from reidbench.reports.figures import to_img  # noqa: PLC0415 - imports matplotlib

        texts = (f"<p>{escape(one_line(text))}</p>" for text in (self.error, *self.notes) if text)
        shown = (*map(to_img, all_figures([self])), *(table._repr_html_() for table in self.tables), *texts)
        return "\n".join([f"<h3>{escape(one_line(self.title))}</h3>", *shown])


class Section(Protocol):
    """One part of a report.

    A class with ``needs_runs = False`` is shown where there are no runs too.
    """

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part for these records; ``files`` opens what is stored beside them.

        What a record lacks (rankings, a training log, its dataset on this machine) is named in a note.
        """
        ...


def all_figures(parts: Sequence[Part]) -> Iterator[Figure]:
    """Yield the charts of parts as figures, their figures, and their pictures as figures, part by part."""
    from reidbench.reports.chart_figures import chart_figure  # noqa: PLC0415 - imports matplotlib

    colours = method_colours(chart for part in parts for chart in part.charts)
    for part in parts:
        yield from (chart_figure(chart, colours) for chart in part.charts)
        yield from part.figures
        yield from (grid.to_figure() for grid in part.pictures)


def build_sections(sections: Sequence[str], records: Sequence[RunRecord], files: RunFiles) -> list[Part]:
    """Return the parts that the sections (specs) make of the records, in the order of the sections.

    A section that fails becomes a part with its ``error``. Raises OptionError for a spec that cannot be used.
    """
    resolved = [load().resolve("section", text) for text in sections]
    return [build_part(section, records, files) for section in resolved]


def default_parts(key: str, records: Sequence[RunRecord], files: RunFiles) -> list[Part]:
    """Return the parts of the sections that ``defaults.toml`` lists; one that cannot be used is a part with the error.

    So a plugin that fails to load hides no result. Empty parts are left out.
    """
    parts: list[Part] = []
    for section in command_defaults()[key]:
        try:
            parts += (part for part in build_sections([section], records, files) if part)
        except ReidbenchError as error:
            parts.append(_failed(section, error))
    return parts


def render(parts: list[Part], renderer: Callable[[Sequence[Part]], T]) -> T:
    """Return what a renderer makes of parts; each that it fails on is replaced in ``parts`` by one with the error."""
    try:
        return renderer(parts)
    except Exception:  # a part that cannot be rendered must not cost the others
        for number, part in enumerate(parts):
            try:
                renderer([part])
            except Exception as error:
                parts[number] = _failed(f"section {part.title!r}", error)
        return renderer(parts)


def build_part(section: ResolvedSpec, records: Sequence[RunRecord], files: RunFiles) -> Part:
    """Return the part that a section makes of the records, or one with its ``error``."""
    owner = str(section.plugin_items[0])
    try:
        built: Section = section.build()
    except PluginError as error:
        return _failed(owner, error)
    try:
        part = built.build(records, files)
        _check(owner, part)
    except (Exception, SystemExit) as error:  # a broken section must not cost the others
        return _failed(owner, error)
    return part


def _failed(what: str, error: BaseException) -> Part:
    return Part(what, error=f"{what} failed: {describe_error(error)}")


def _check(owner: str, part: object) -> None:
    """Raise PluginError where a section returns anything but texts, figures, and tables of texts and numbers."""
    if not isinstance(part, Part):
        raise PluginError(f"build must return a Part, got {type(part).__name__}")
    check_fields(owner, part)
    for table in part.tables:
        for row in table.rows:
            for key, value in row.items():
                if not (value is None or isinstance(value, str | Real | np.bool_)):
                    raise PluginError(f"{key} in a row must be a text, a number or None, got {type(value).__name__}")
        table.cells()  # so that a format that fails, fails here
    for chart in part.charts:
        check_chart(owner, chart)
    for figure in part.figures:
        if not hasattr(figure, "savefig"):
            raise PluginError(f"figures must be of matplotlib, got {type(figure).__name__}")
