"""``reidbench leaderboard``: rows that can be made again, and looked at by anyone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reidbench.cli.flags import DataRoot, path

app = typer.Typer(help="Publish runs as rows of a CSV, and check those of others.", no_args_is_help=True)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="FOLDER",
        help="The leaderboards folder.  [default: leaderboards]",
        show_default=False,
        parser=path,
    ),
]


def _folder(given: Path | None) -> Path:
    return given or Path("leaderboards")


@app.command("add")
def add(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, records, or folders above them.")],
    folder: Folder = None,
    again: Annotated[
        bool, typer.Option("--again", help="The runs were made again from records that are kept here already.")
    ] = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Take runs of a checkout with uncommitted changes.")
    ] = False,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Take seeds of one row that were made by different code.")
    ] = False,
) -> None:
    """Add finished runs to PROTOCOL.csv, or to PROTOCOL.standin.csv where the data are a stand-in."""
    from reidbench.leaderboard.publish import add as add_runs
    from reidbench.runs.store import Store

    records = Store(Path()).records(runs)
    added = add_runs(records, _folder(folder), allow_dirty=allow_dirty, allow_mixed=allow_mixed, again=again)
    typer.echo(str(added))


@app.command("merge")
def merge(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Other leaderboards folders.  [default: none]", show_default=False)
    ] = None,
    folder: Folder = None,
) -> None:
    """Join other people's leaderboards into these, and make every PROTOCOL.csv anew from the records."""
    from reidbench.leaderboard.publish import merge as merge_boards

    typer.echo(str(merge_boards(sources or [], _folder(folder))))


@app.command("check")
def check(folder: Folder = None) -> None:
    """Say everything that is wrong with the leaderboards; needs no data. Exit code 1 where something is."""
    from reidbench.leaderboard.check_board import check as check_boards

    findings = check_boards(_folder(folder))
    for finding in findings:
        typer.echo(str(finding))
    if findings:
        raise typer.Exit(1)
    typer.echo("nothing is wrong")


@app.command("verify")
def verify(folder: Folder = None, data_root: DataRoot = None) -> None:
    """Check, and compute every score again from the rankings and these from the data sets' lists; show each row's tier.

    Exit code 1 where something is wrong.
    """
    from reidbench.leaderboard.verify import verify as verify_boards
    from reidbench.plugins.catalogue import load
    from reidbench.runs.prepare import Planner
    from reidbench.utils.machine import local_machine

    found = verify_boards(_folder(folder), Planner(load(), local_machine(data=data_root)))
    for finding in found.findings:
        typer.echo(str(finding))
    for note in found.notes:
        typer.echo(f"note: {note}")
    for group, tier in sorted(found.tiers.items()):
        typer.echo(f"{group[:12]}  {tier}")
    if found.findings:
        raise typer.Exit(1)


@app.command("html")
def html(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the site; it is made.", parser=path)],
    folder: Folder = None,
    data_root: DataRoot = None,
) -> None:
    """Build the site: a page for each protocol, with what each row has shown."""
    from reidbench.leaderboard.site import build_site
    from reidbench.plugins.catalogue import load
    from reidbench.runs.prepare import Planner
    from reidbench.utils.machine import local_machine

    for file in build_site(_folder(folder), target, Planner(load(), local_machine(data=data_root))):
        typer.echo(f"wrote {file}")
