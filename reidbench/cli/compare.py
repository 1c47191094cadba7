"""``reidbench compare``: is the one better than the other by more than chance?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from reidbench.reports.compare_runs import Comparison
    from reidbench.runs.record import RunRecord

_PLACE = "A run folder, its record, or a folder with the seeds of one combination."


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help=_PLACE, show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help=_PLACE, show_default=False)],
    seeds: Annotated[
        bool, typer.Option("--seeds", help="Take all seeds of the same combinations from the folders beside A and B.")
    ] = False,
) -> None:
    """Compare two runs query by query, with 95 % intervals from a paired bootstrap over identities."""
    from reidbench.reports.compare_runs import compare as compare_runs

    sides = [_side(place, seeds) for place in (a, b)]
    for line in _lines(compare_runs(*sides), [side[0][1] for side in sides]):
        typer.echo(line)


def _side(place: Path, seeds: bool) -> list[tuple[Path, RunRecord]]:
    from reidbench.runs.store import Store

    found = Store(Path()).records([place])
    if not seeds:
        return found
    groups = {record.group for _, record in found}
    beside = Store(Path()).records([(place.parent if place.is_file() else place).absolute().parent])
    return [(path, record) for path, record in beside if record.group in groups and record.scored]


def _lines(comparison: Comparison, firsts: list[RunRecord]) -> list[str]:
    from reidbench.plugins.spec import printable

    lines = []
    for name, record, seeds in zip("AB", firsts, comparison.seeds, strict=True):
        of = f"seed {record.job.seed}" if seeds == 1 else f"{seeds} seeds"
        lines.append(f"{name}  " + printable(f"{record.items['loss'].short}, {record.items['backbone'].short}, {of}"))
    lines += ["", f"{'in percent':12}{'A':>8}{'B':>8}{'A - B':>9}   95 % interval"]
    for row in comparison.differences:
        interval = "–" if row.interval is None else f"{100 * row.interval[0]:+.2f} to {100 * row.interval[1]:+.2f}"
        numbers = f"{100 * row.a:8.2f}{100 * row.b:8.2f}{100 * row.difference:+9.2f}"
        lines.append(f"{row.score:12}{numbers}   {interval}")
    lines += ["", _verdict(comparison)]
    lines.append(
        f"Intervals: paired bootstrap over {comparison.identities} identities of {comparison.queries} queries."
    )
    if comparison.others:
        lines += ["", "What else differs (A | B):", *(f"  {printable(other)}" for other in comparison.others)]
    return lines


def _verdict(comparison: Comparison) -> str:
    from reidbench.ranking.scores import named_score

    primary = comparison.differences[0]
    if comparison.over_seeds:
        whom = f"Over {comparison.seeds[0]} and {comparison.seeds[1]} seeds"
        limits = "."
    else:
        whom = "Of these checkpoints"
        limits = ".\nWith fewer than three seeds on a side this says nothing of the losses themselves."
    if primary.interval is None:
        return f"{whom}: one identity alone says nothing about chance{limits}"
    if not primary.more_than_chance:
        return f"{whom}: the difference in {primary.score} is NOT more than chance (the interval holds 0){limits}"
    a_is_better = (primary.difference > 0) == named_score(primary.score).higher_is_better
    better, worse = ("A", "B") if a_is_better else ("B", "A")
    return f"{whom}: {better} is better than {worse} in {primary.score} by more than chance{limits}"
