"""``reidbench compare``: whether one combination is significantly better than another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reidbench.cli.flags import Results, path
from reidbench.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reidbench.reports.compare_runs import Comparison
    from reidbench.runs.record import RunRecord

_PLACE = "A run folder, its record, a folder with the seeds of one combination, or the start of a run's id."
_SEEDS = "Include all seeds of A and B that are stored beside them."


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help=_PLACE, parser=path)],
    b: Annotated[Path, typer.Argument(metavar="B", help=_PLACE, parser=path)],
    seeds: Annotated[bool, typer.Option("--seeds", help=_SEEDS)] = False,
    results: Results = None,
) -> None:
    """Compare two runs, or two combinations over their seeds, with 95 % intervals of the differences."""
    from rich.console import Console

    from reidbench.ranking.scores import named_score
    from reidbench.reports.compare_runs import compare_combinations
    from reidbench.reports.sections import Part
    from reidbench.reports.table import Column, Table
    from reidbench.reports.text_formats import render_terminal
    from reidbench.utils.machine import local_machine
    from reidbench.utils.untrusted_files import real_path

    folder = local_machine(results=results).results
    sides = [_side(place if place.exists() else _run_of_id(str(place), folder), seeds) for place in (a, b)]
    if {real_path(folder) for folder, _ in sides[0]} == {real_path(folder) for folder, _ in sides[1]}:
        raise OptionError(f"{a} and {b}: are the same runs; name two that differ")
    comparison = compare_combinations(*sides)
    rows = []
    for each in comparison.differences:
        row = {"a": 100 * each.a, "b": 100 * each.b, "gap": 100 * each.difference}
        interval = "–" if each.interval is None else "{:+.2f} to {:+.2f}".format(*(100 * end for end in each.interval))
        rows.append({"score": named_score(each.score).label} | row | {"interval": interval})
    columns = [Column("score", "score, %"), Column("a", "A", "number", ".2f"), Column("b", "B", "number", ".2f")]
    columns += [Column("gap", "A−B", "number", "+.2f"), Column("interval", "95 % CI", "number")]
    notes = [*_notes(comparison, rows[0]["score"]), *(f"Also different, A | B: {each}" for each in comparison.others)]
    title = " · ".join(f"{name}: {_name(side)}" for name, side in zip("AB", sides, strict=True))
    render_terminal([Part(title, tables=[Table(rows, columns)], notes=notes)], Console(highlight=False))


def _run_of_id(text: str, results: Path) -> Path:
    """Return the folder of the one run whose id begins with ``text``, or whose folder has this name."""
    from reidbench.runs.store import Store

    runs = Store(results).records()
    folders = [folder for folder, record in runs if text and (record.id.startswith(text) or folder.name == text)]
    if len(folders) != 1:
        names = "".join(f"\n  {folder.name}" for folder in folders) or "none"
        raise OptionError(f"{text}: expected a folder, a record, or the start of one id in {results}; runs: {names}")
    return folders[0]


def _side(place: Path, seeds: bool) -> list[tuple[Path, RunRecord]]:
    """Return the runs at a place; with ``seeds`` all scored runs beside it that differ from it in the seed only."""
    from reidbench.runs.store import Store

    runs = Store(Path()).records([place])
    if not seeds:
        return runs
    groups = {record.group for _, record in runs}
    beside = Store(Path()).records([(place.parent if place.is_file() else place).absolute().parent])
    return [(path, record) for path, record in beside if record.group in groups and record.scored]


def _name(side: list[tuple[Path, RunRecord]]) -> str:
    record = side[0][1]
    seeds = f"seed {record.job.seed}" if len(side) == 1 else f"{len(side)} seeds"
    return f"{record.items['loss'].short}, {record.items['backbone'].short}, {seeds}"


def _notes(comparison: Comparison, label: object) -> Iterator[str]:
    """Yield the verdict on the score that the protocol ranks by, and what its interval covers."""
    primary = comparison.differences[0]
    if primary.interval is None:
        yield f"No interval: all queries are of one identity, so the difference in {label} cannot be tested."
    elif primary.significant:
        higher = "A" if primary.difference > 0 else "B"
        yield f"{higher}'s {label} is significantly higher: the 95 % CI of the difference excludes 0."
    else:
        yield f"No significant difference in {label}: the 95 % CI includes 0."
    covers = "; covers the choice of queries, not training noise (use 3 or more seeds on both sides)."
    if primary.over_seeds:
        covers = f", plus the variance between {comparison.seeds[0]} and {comparison.seeds[1]} seeds."
    yield f"95 % CI: paired bootstrap over {comparison.identities} identities of {comparison.queries} queries{covers}"
