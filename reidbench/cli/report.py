"""``reidbench report``: finished runs as tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reidbench.cli.flags import DataRoot, Results, option, path_argument, path_option
from reidbench.cli.output import echo, print_errors
from reidbench.errors import OptionError

_PLACES = "Run folders, records, folders above them, or suites.  [default: all results]"
_PICTURES = "Copy images of real datasets into page and figures too; mind their licences."
_ROWS = "Write a row for each run (with --section: the rows of these) to a file or, with -, to stdout, as"


def report(
    places: Annotated[list[Path] | None, path_argument(_PLACES, "[RUN|FOLDER|SUITE]...")] = None,
    section: Annotated[list[str] | None, option("Sections to show.")] = None,
    html: Annotated[Path | None, path_option("Write a self-contained page.", "FILE")] = None,
    plots: Annotated[Path | None, path_option("Write PNG and SVG figures.", "DIR")] = None,
    pictures: Annotated[bool, typer.Option("--pictures", help=_PICTURES)] = False,
    csv: Annotated[Path | None, path_option(f"{_ROWS} CSV", "FILE|-")] = None,
    json: Annotated[Path | None, path_option(f"{_ROWS} JSON", "FILE|-")] = None,
    results: Results = None,
    data_root: DataRoot = None,
) -> None:
    """Report finished runs: tables in the terminal, a page, figures, or a row for each run."""
    from reidbench.reports.report import read_runs
    from reidbench.reports.report import report as report_runs
    from reidbench.reports.sections import render
    from reidbench.reports.text_formats import rows_to_csv, rows_to_json, to_csv, to_json
    from reidbench.utils.atomic import write_atomic

    if csv == json == Path("-"):
        raise OptionError("--csv and --json: each prints the report; use one of them")
    runs = read_runs(places or (), section, results)
    only_rows = (csv or json) and not (html or plots)  # of runs, which need no section
    sections = section or ([] if only_rows else None)
    parts = report_runs(
        runs, sections=sections, html=html, plots=plots, pictures=pictures, results=results, data_root=data_root
    )
    if not (csv or json or html or plots):
        echo(str(parts))
    for file, to_text, of_rows in ((csv, to_csv, rows_to_csv), (json, to_json, rows_to_json)):
        text = "" if not file else render(parts, to_text) if section else of_rows(runs.rows())
        if file == Path("-"):
            echo(text, nl=False)
        elif file:
            write_atomic(file, text)
    for file in (csv, json, html, plots):
        if file and file != Path("-"):
            echo(f"wrote {file}", err=True)
    print_errors(parts)
    if parts and all(part.error for part in parts):
        raise typer.Exit(1)
