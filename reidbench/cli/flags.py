"""Flags that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def path(text: str) -> Path:
    """Return the path that an option names; an empty text, as of a variable that is not set, is no present folder."""
    if not text:
        raise typer.BadParameter('expected a path, got an empty text; the present folder is "."')
    return Path(text)


DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="FOLDER",
        help="Folder of the data sets.  [env: REIDBENCH_DATA]",
        show_default=False,
        parser=path,
    ),
]
Results = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="FOLDER",
        help="Folder of the results.  [env: REIDBENCH_RESULTS]  [default: results]",
        show_default=False,
        parser=path,
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="FOLDER",
        help="Folder of the caches.  [env: REIDBENCH_CACHE]",
        show_default=False,
        parser=path,
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[
    int, typer.Option("--threads", metavar="NUMBER", help="CPU threads; 0 is as many as there are cores.")
]
AllowPartial = Annotated[
    bool, typer.Option("--allow-partial", help="Go on with a data set whose counts are wrong; the record says so.")
]
