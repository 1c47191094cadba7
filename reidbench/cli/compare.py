"""``reidbench compare``: whether one combination is significantly better than another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reidbench.cli.flags import Results, path_argument
from reidbench.cli.output import echo

_PLACE = "A run folder, its record, a folder with the seeds of one combination, or the start of a run's id."
_SEEDS = "Include all seeds of A and B that are stored beside them."


def compare(
    a: Annotated[Path, path_argument(_PLACE, "A")],
    b: Annotated[Path, path_argument(_PLACE, "B")],
    seeds: Annotated[bool, typer.Option("--seeds", help=_SEEDS)] = False,
    results: Results = None,
) -> None:
    """Compare two runs, or two combinations over their seeds, with 95 % intervals of the differences."""
    from reidbench.reports.compare_runs import compare as compare_places

    echo(str(compare_places(a, b, seeds=seeds, results=results)))
