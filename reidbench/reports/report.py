"""Report runs: sections as text, in a notebook, as a page, and as figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reidbench.errors import OptionError
from reidbench.plugins.catalogue import command_defaults, load
from reidbench.reports.artifacts import RunFiles
from reidbench.reports.figures import to_files
from reidbench.reports.html import to_html
from reidbench.reports.sections import Part, all_figures, build_sections, render
from reidbench.reports.text_formats import to_terminal
from reidbench.runs.records import Records, records
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import local_machine, user_path


class Report(list[Part]):
    """The parts of a report; prints as the command ``reidbench report`` does."""

    def __repr__(self) -> str:
        return render(self, to_terminal).removesuffix("\n")

    def _repr_html_(self) -> str:
        return "\n".join(render(self, lambda parts: [part._repr_html_() for part in parts]))


def read_runs(places: Sequence[str | Path], sections: str | Sequence[str] | None, results: Path | None) -> Records:
    """Return the records at places, as ``records``; without places none, where no section (a spec) needs runs.

    Raises OptionError and DataError.
    """
    named = [sections] if isinstance(sections, str) else sections or []
    items = [load().resolve("section", text).plugin_items[0] for text in named]
    if places or not items or any(getattr(item.factory, "needs_runs", True) for item in items):
        return records(*places, results=results)
    return Records([])


def report(
    runs: Records | str | Path | Sequence[str | Path] = (),
    *,
    sections: str | Sequence[str] | None = None,
    html: str | Path | None = None,
    plots: str | Path | None = None,
    pictures: bool = False,
    results: str | Path | None = None,
    data_root: str | Path | None = None,
) -> Report:
    """Return a report of runs, and write it as a page ``html`` and as figures in the folder ``plots``.

    ``runs`` are records as ``run`` and ``records`` return them, or places as for ``records``, by default all of
    ``results``, or none where no section needs them. ``sections`` are specs, by default those of the command line for
    a terminal, or for a page. Images of real datasets are copied only with ``pictures``. A section that fails is a part
    with its error. Raises DataError where there is no run, and OptionError where a section does not exist or there is
    no figure for ``plots``.
    """
    machine = local_machine(data=data_root, results=results)
    if not isinstance(runs, Records):
        runs = read_runs([runs] if isinstance(runs, str | Path) else runs, sections, machine.results)
    with_figures, defaults = bool(html or plots), command_defaults()
    by_default = sections is None
    folded = defaults["page_folded"] if with_figures and by_default else []
    if sections is None:
        sections = defaults[("run_sections" if len(runs) == 1 else "page_sections") if with_figures else "sections"]
    opened = [sections] if isinstance(sections, str) else sections
    files = RunFiles(list(zip(runs.folders, runs, strict=True)), machine, figures=with_figures, pictures=pictures)
    shown = [part for part in build_sections(opened, runs, files) if part or not by_default]
    for part in shown:
        if not part:
            part.notes.append("These runs have nothing to show here.")
    parts = Report([*shown, *build_sections(folded, runs, files)])
    if html:
        several = f"{len(runs)} runs" if runs else shown[0].title
        title = f"{runs[0].job.loss}, seed {runs[0].job.seed}" if len(runs) == 1 else several
        finished = f", finished {max(run.finished for run in runs)[:10]}" if runs else ""
        page = render(parts, lambda parts: to_html(parts, title, f"Report of reidbench{finished}.", len(shown)))
        write_atomic(user_path(html), page)
    if plots:
        figures = render(parts, lambda parts: to_files(all_figures(parts)))
        if not figures and not any(part.error for part in parts):
            raise OptionError(f"--plots {plots}: no figure in sections {', '.join([*opened, *folded])} for these runs")
        for name, data in figures.items():
            write_atomic(user_path(plots) / name, data)
    return parts
