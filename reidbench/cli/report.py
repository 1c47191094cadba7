"""``reidbench report``: finished runs as tables and drawings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reidbench.cli.flags import DataRoot, Results, path
from reidbench.errors import DataError, OptionError

if TYPE_CHECKING:
    from reidbench.runs.record import RunRecord
    from reidbench.runs.store import Store


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|FOLDER|SUITE]...",
            help="Run folders, records, folders above them, or suites.  [default: all results]",
            show_default=False,
        ),
    ] = None,
    section: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="Sections to show.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one page that needs no network.", show_default=False, parser=path),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the drawings as PNG and SVG.", show_default=False, parser=path),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the tables as CSV.")] = False,
    results: Results = None,
    data_root: DataRoot = None,
) -> None:
    """Show finished runs: in the terminal, as one page, as files."""
    from rich.console import Console

    from reidbench.plugins.catalogue import command_defaults
    from reidbench.reports.figures import write_plots
    from reidbench.reports.html import to_html
    from reidbench.reports.render import render_terminal, to_csv, to_markdown
    from reidbench.reports.sections import build_sections
    from reidbench.runs.artifacts import RunFiles
    from reidbench.runs.store import Store
    from reidbench.utils.atomic import write_atomic
    from reidbench.utils.machine import local_machine

    if markdown and csv:
        raise OptionError("--markdown and --csv: both print the tables; ask for one, and for the other once more")
    machine = local_machine(data=data_root, results=results)
    store = Store(machine.results)
    found = _records(store, runs or [])
    if not found:
        raise DataError(f"{store.folder}: holds no finished run; make one with: reidbench run")
    sections = section or command_defaults()["page_sections" if html else "sections"]
    parts = build_sections(sections, [record for _, record in found], RunFiles(found, machine))
    if markdown or csv:
        typer.echo("\n".join((to_markdown if markdown else to_csv)(part) for part in parts), nl=False)
    elif not html:
        render_terminal(parts, Console(highlight=False))
    if html:
        about = f"{len(found)} runs, shown by reidbench report."
        write_atomic(html, to_html(parts, "Report of reidbench", about))
        typer.echo(f"wrote {html}", err=True)
    if plots:
        figures = [figure for part in parts for figure in part.figures]
        if not figures:
            raise OptionError(f"--plots {plots}: section {', '.join(sections)} draws nothing here")
        for file in write_plots(figures, plots):
            typer.echo(f"wrote {file}", err=True)


def _records(store: Store, places: list[str]) -> list[tuple[Path, RunRecord]]:
    """Return the runs of each place: a folder or record by its path, else a suite's own among the results."""
    from reidbench.runs.suite import find_suite, load_suite

    if not places:
        return store.records()
    found: list[tuple[Path, RunRecord]] = []
    for place in places:
        there = Path(place)
        if there.exists() and there.suffix != ".toml":
            found += store.records([there])
            continue
        jobs = set(load_suite(find_suite(place)).every_scale())
        own = [(folder, record) for folder, record in store.records() if record.job in jobs]
        if not own:
            raise DataError(f"{store.folder}: holds no run of suite {place}; make them with: reidbench run {place}")
        found += own
    return found
