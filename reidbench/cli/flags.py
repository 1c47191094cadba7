"""Flags that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reidbench.utils.machine import user_path


def path(text: str) -> Path:
    """Return the path that an argument or option names, with ``~`` expanded; an empty text, as of an unset variable, is
    refused.
    """
    if not text:
        raise typer.BadParameter('expected a path, got an empty text; the current folder is "."')
    return user_path(text)


DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="FOLDER",
        help="Folder of the datasets.  [env: REIDBENCH_DATA]",
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
Threads = Annotated[int, typer.Option("--threads", metavar="NUMBER", help="CPU threads; 0 is one for each core.")]
AllowPartial = Annotated[
    bool, typer.Option("--allow-partial", help="Use a dataset whose counts are wrong; the record says so.")
]
