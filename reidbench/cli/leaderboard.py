"""``reidbench leaderboard``: rows that can be made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Publish runs as rows of a CSV.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    pass


@app.command("add")
def add(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, records, or folders above them.")],
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="The leaderboards folder.  [default: leaderboards]", show_default=False),
    ] = None,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Take runs of a checkout with uncommitted changes.")
    ] = False,
) -> None:
    """Add finished runs to PROTOCOL.csv, or to PROTOCOL.standin.csv where the data are a stand-in."""
    from reidbench.leaderboard import add as add_runs
    from reidbench.store import Store

    added = add_runs(Store(Path()).records(runs), folder or Path("leaderboards"), allow_dirty=allow_dirty)
    typer.echo(str(added))
