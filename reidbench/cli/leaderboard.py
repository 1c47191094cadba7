"""``reidbench leaderboard``: add runs to leaderboards; check, verify, merge and show them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reidbench.cli.flags import DataRoot, option, path_argument, path_option
from reidbench.cli.output import echo, print_report

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reidbench.leaderboard.check_record import Problem

app = typer.Typer(help="Publish runs as rows of a CSV, and check published rows.", no_args_is_help=True)

DEFAULT = Path("leaderboards")
_RUNS = "Folders of runs or studies, records, or folders above runs."
_ROWS = "First digits of a config_hash.  [default: all]"
Folder = Annotated[Path, path_option("The leaderboards folder.")]


@app.command("add")
def add(
    runs: Annotated[list[Path], path_argument(_RUNS)],
    folder: Folder = DEFAULT,
    weights: Annotated[bool, typer.Option("--weights", help="Publish the trained weights too.")] = False,
    allow_dirty: Annotated[bool, typer.Option("--allow-dirty", help="Accept runs with uncommitted changes.")] = False,
    external: Annotated[bool, typer.Option("--external", help="Add what evaluate wrote with --json.")] = False,
    method: Annotated[str, option("Name of the method, with --external.", "NAME")] = "",
    code: Annotated[str, option("Address of its code, with --external.", "URL")] = "",
    weights_url: Annotated[str, option("Address of its weights, with --external.", "URL")] = "",
) -> None:
    """Add finished runs to PROTOCOL.csv, or to PROTOCOL.standin.csv where the data are a stand-in."""
    from reidbench.leaderboard import board
    from reidbench.leaderboard.external import add_external
    from reidbench.leaderboard.published_studies import add_study
    from reidbench.runs.store import Store
    from reidbench.studies.study import STUDY_FILE

    if external:
        for file in runs:
            _print_written(add_external(file, folder, method, code, weights_url))
        return
    studies = [place for place in runs if (place / STUDY_FILE).is_file()]
    for study in studies:
        add_study(study, folder, allow_dirty=allow_dirty)
    if studies:
        _print_written(board.merge(folder))
    if runs := [place for place in runs if place not in studies]:
        records = Store(Path()).records(runs)
        _print_written(board.add(records, folder, allow_dirty=allow_dirty, weights=weights))


@app.command("merge")
def merge(folder: Folder = DEFAULT) -> None:
    """Derive every PROTOCOL.csv from the records, as after a merge by git."""
    from reidbench.leaderboard import board

    _print_written(board.merge(folder))


@app.command("check")
def check(folder: Folder = DEFAULT) -> None:
    """Print everything that is wrong with the leaderboards; needs no data. Exit code 1 if anything is."""
    from reidbench.leaderboard import board
    from reidbench.leaderboard.published_studies import TRIALS_NOTE, load_studies

    _report(board.check(folder))
    echo("\n".join(["nothing is wrong", *[TRIALS_NOTE] * bool(load_studies(folder)[0])]))


@app.command("verify")
def verify(
    rows: Annotated[list[str] | None, typer.Argument(metavar="[ROW]...", help=_ROWS)] = None,
    folder: Folder = DEFAULT,
    weights: Annotated[Path | None, path_option("A file, or a folder, of weights or embeddings.", "PATH")] = None,
    train: Annotated[int, option("Train each row with so many new seeds, 3 or more.", "NUMBER")] = 0,
    write: Annotated[bool, typer.Option("--write", help="State beside each CSV what was verified.")] = False,
    data_root: DataRoot = None,
) -> None:
    """Check, compare rankings with the datasets' lists, score published weights, and print what was verified.

    Exit code 1 if anything is wrong.
    """
    from reidbench.leaderboard import verify
    from reidbench.leaderboard.published_studies import TRIALS_NOTE, load_studies
    from reidbench.plugins.catalogue import load
    from reidbench.reports.sections import default_parts
    from reidbench.runs.prepare import Planner
    from reidbench.studies.page import StudyFiles
    from reidbench.utils.machine import local_machine

    planner = Planner(load(), local_machine(data=data_root, log=partial(echo, err=True)))
    verification = verify.verify(folder, planner, rows=rows or [], weights=weights, seeds=train)
    studies = load_studies(folder)[0]
    for note in (*verification.notes, *[TRIALS_NOTE] * bool(studies)):
        echo(f"note: {note}")
    for study in studies if not rows and not verification.problems else ():
        files = StudyFiles(study, planner.machine)
        print_report(default_parts("study_sections", files.records, files))
    for group, statement in sorted(verification.rows.items()):
        echo(f"{group[:12]}  {statement}")
    _report(verification.problems)
    for file in verify.write(folder, verification) if write else []:
        echo(f"wrote {file}")


@app.command("html")
def html(
    target: Annotated[Path, path_argument("Folder to write the site to.", "DIR")],
    folder: Folder = DEFAULT,
    docs: Annotated[str, typer.Option(metavar="URL", help="Folder of the documentation, for a link to it.")] = "",
) -> None:
    """Check, and write a page for each protocol."""
    from reidbench.leaderboard.site import build_site

    for file in build_site(folder, target, docs):
        echo(f"wrote {file}")


def _print_written(files: Sequence[Path]) -> None:
    """Print how many records were added and which leaderboards were written."""
    echo(f"new records: {sum(file.suffix == '.json' for file in files)}")
    for file in files:
        if file.suffix == ".csv":
            echo(f"wrote {file}")


def _report(problems: Iterable[Problem]) -> None:
    """Print problems, and exit with code 1 if there are any."""
    lines = [str(problem) for problem in problems]
    if lines:
        echo("\n".join(lines))
        raise typer.Exit(1)
