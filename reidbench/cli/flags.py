"""Flags that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reidbench.utils.machine import user_path


def path(text: str) -> Path:
    """Return the path that an argument or option names, with ``~`` expanded; an empty text, as of an unset variable, is
    refused.
    """
    if not text:
        raise typer.BadParameter('expected a path, got an empty text; the current folder is "."')
    return user_path(text)


def _folder(help_text: str) -> Any:
    return typer.Option(metavar="FOLDER", help=help_text, parser=path)


DataRoot = Annotated[Path | None, _folder("Folder of the datasets.  [env: REIDBENCH_DATA]")]
Results = Annotated[Path | None, _folder("Folder of the results.  [env: REIDBENCH_RESULTS]  [default: results]")]
Cache = Annotated[Path | None, _folder("Folder of the caches.  [env: REIDBENCH_CACHE]")]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int, typer.Option("--threads", metavar="NUMBER", help="CPU threads; 0 is one for each core.")]
AllowPartial = Annotated[
    bool, typer.Option("--allow-partial", help="Use a dataset whose counts are wrong; the record says so.")
]
