"""``reidbench data``: draw trees of images in a data set's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make data sets.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    pass


@app.command("synthesize")
def synthesize(
    name: Annotated[str, typer.Argument(help='A synthesizer, e.g. "csv_list(identities=20)"; see reidbench plugins.')],
    directory: Annotated[Path, typer.Argument(help="The folder to write.")],
) -> None:
    """Draw people and write them in a data set's own layout."""
    from reidbench.plugins import load
    from reidbench.progress import progress

    steps = iter(load().resolve("synthesizer", name).build(directory))
    done, total = next(steps, (0, 0))
    with progress("drawing images", total, done) as update:
        for done, _ in steps:
            update(done, "")
    typer.echo(f"{done} of {total} images in {directory}")
