"""Flags that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reidbench.errors import OptionError
from reidbench.utils.machine import Settings, default_cache, default_data, default_results

MOST_THREADS = 256  # thousands bring a machine down before they bring a result


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


def settings_of(
    data: Path | None = None,
    results: Path | None = None,
    cache: Path | None = None,
    device: str = "auto",
    threads: int = 0,
    checkpoint_seconds: float = Settings.checkpoint_seconds,
    allow_partial: bool = False,
    pixels: str = Settings.pixels,
) -> Settings:
    """Return the machine's settings: flags first, then the environment, then the platform's folders."""
    if not 0 <= threads <= MOST_THREADS:
        raise OptionError(f"--threads: expected 0 to {MOST_THREADS}, got {threads}")
    if not checkpoint_seconds >= 0:
        raise OptionError(f"--checkpoint-seconds: expected 0 or more, got {checkpoint_seconds}")
    return Settings(
        data=data or default_data(),
        results=results or default_results(),
        cache=cache or default_cache(),
        device=device,
        threads=threads,
        checkpoint_seconds=checkpoint_seconds,
        allow_partial=allow_partial,
        pixels=pixels,
    )
