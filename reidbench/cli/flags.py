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


def specs(help_text: str) -> typer.models.OptionInfo:
    """Return the declaration of an option that takes specs, and repeats."""
    option: typer.models.OptionInfo = typer.Option(metavar="SPEC", help=help_text, show_default=False)
    return option


Protocols = Annotated[list[str] | None, specs("Data and evaluation.")]
Losses = Annotated[list[str] | None, specs('Loss, e.g. "batch_hard(margin=0.2)", or none.')]
Backbones = Annotated[list[str] | None, specs("Network.")]
Recipes = Annotated[list[str] | None, specs("How it is trained.")]
Metrics = Annotated[list[str] | None, specs("Distance at test time.")]
Rerankers = Annotated[list[str] | None, specs("Re-ranker, or none.")]
Scale = Annotated[
    str | None, typer.Option(metavar="NAME", help="Another size of a suite, e.g. tiny.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan with ids and every option, and stop.")]
Executor = Annotated[
    str | None,
    typer.Option(metavar="SPEC", help='What runs it, e.g. "local(workers=2)" or "slurm(gpus=1)".', show_default=False),
]
CheckpointSeconds = Annotated[float, typer.Option(metavar="SECONDS", help="Time between two checkpoints.")]
Pixels = Annotated[
    str, typer.Option(metavar="NAME", help="Where decoded training images are stored: auto, device or map.")
]
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
