"""``reidbench report``: finished runs as tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reidbench.cli.flags import DataRoot, Results, option, path, path_option
from reidbench.cli.output import echo, print_errors
from reidbench.errors import DataError, OptionError

if TYPE_CHECKING:
    from reidbench.runs.record import RunRecord
    from reidbench.runs.store import Store

_PLACES = "Run folders, records, folders above them, or suites.  [default: all results]"
_ROWS = "Write a row for each run (with --section: the rows of these) to a file or, with -, to stdout, as"


def report(
    places: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN|FOLDER|SUITE]...", help=_PLACES, parser=path)
    ] = None,
    section: Annotated[list[str] | None, option("Sections to show.")] = None,
    html: Annotated[Path | None, path_option("Write a self-contained page.", "FILE")] = None,
    plots: Annotated[Path | None, path_option("Write PNG and SVG figures.", "DIR")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    csv: Annotated[Path | None, path_option(f"{_ROWS} CSV", "FILE|-")] = None,
    json: Annotated[Path | None, path_option(f"{_ROWS} JSON", "FILE|-")] = None,
    results: Results = None,
    data_root: DataRoot = None,
) -> None:
    """Report finished runs: tables in the terminal, a page, figures, Markdown, or a row for each run."""
    from reidbench.plugins.catalogue import command_defaults
    from reidbench.reports.artifacts import RunFiles
    from reidbench.reports.figures import to_files
    from reidbench.reports.html import to_html
    from reidbench.reports.sections import build_sections, render
    from reidbench.reports.text_formats import rows_to_csv, rows_to_json, to_csv, to_json, to_markdown, to_terminal
    from reidbench.runs.execute import Records
    from reidbench.runs.store import Store
    from reidbench.utils.atomic import write_atomic
    from reidbench.utils.machine import local_machine

    written = {"--markdown": Path("-") if markdown else None, "--csv": csv, "--json": json}
    if (printed := [flag for flag, file in written.items() if file == Path("-")])[1:]:
        raise OptionError(f"{', '.join(printed)}: each prints the report; use one of them")
    machine = local_machine(data=data_root, results=results)
    store = Store(machine.results)
    runs = _records(store, places or [])
    if not runs:
        raise DataError(f"{store.folder}: holds no finished run; make one with: reidbench run")
    # Files of runs need no section.
    key = "page_sections" if html or plots else "" if (csv or json) and not markdown else "sections"
    sections = section or (command_defaults()[key] if key else [])
    files = RunFiles(runs, machine, figures=bool(html or plots))
    parts = build_sections(sections, [record for _, record in runs], files)
    if markdown or not (csv or json or html or plots):
        echo(render(parts, to_markdown if markdown else to_terminal), nl=False)
    rows = Records(record for _, record in runs).rows()
    for file, to_text, of_rows in ((csv, to_csv, rows_to_csv), (json, to_json, rows_to_json)):
        text = "" if not file else render(parts, to_text) if section else of_rows(rows)
        if file == Path("-"):
            echo(text, nl=False)
        elif file:
            write_atomic(file, text)
            echo(f"wrote {file}", err=True)
    if html:
        about = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}, by reidbench report."
        write_atomic(html, render(parts, lambda parts: to_html(parts, "Report of reidbench", about)))
        echo(f"wrote {html}", err=True)
    if plots:
        figures = render(parts, lambda parts: to_files(figure for part in parts for figure in part.figures))
        if not figures and not any(part.error for part in parts):
            raise OptionError(f"--plots {plots}: no figure in sections {', '.join(sections)} for these runs")
        for name, data in figures.items():
            write_atomic(plots / name, data)
            echo(f"wrote {plots / name}", err=True)
    print_errors(parts)
    if parts and all(part.error for part in parts):
        raise typer.Exit(1)


def _records(store: Store, places: list[Path]) -> list[tuple[Path, RunRecord]]:
    """Return the runs of each place: a folder or record by its path, else a suite's runs in the results."""
    from reidbench.runs.suite import find_suite, load_suite

    if not places:
        return store.records()
    runs: list[tuple[Path, RunRecord]] = []
    for place in places:
        if place.exists() and place.suffix != ".toml":
            runs += store.records([place])
            continue
        try:
            suite = find_suite(str(place))
        except OptionError as error:
            raise OptionError(f"{place}: there is no such file or folder, and {error}") from None
        jobs = set(load_suite(suite).every_scale())
        runs_of_suite = [(folder, record) for folder, record in store.records() if record.job in jobs]
        if not runs_of_suite:
            raise DataError(f"{store.folder}: holds no run of suite {place}; make them with: reidbench run {place}")
        runs += runs_of_suite
    return runs
