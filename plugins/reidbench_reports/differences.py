"""How much a combination differs from another one, with an interval: the numbers of ``reidbench compare``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reidbench import DataError, Ranking, RunFiles, difference, identities_of, same_matches
from reidbench_reports.combinations import Combination

SEEDS = 3  # on both sides, from which on an interval is over seeds too


@dataclass(frozen=True)
class Difference:
    """A difference, as a fraction, with its interval, and whether that is over seeds or of these checkpoints alone."""

    value: float
    interval: tuple[float, float] | None
    over_seeds: bool


def differences(rows: Sequence[Combination], baseline: str, files: RunFiles) -> list[Difference | None]:
    """Return, for each row, its AP (market) less that of the baseline of its track, with its interval.

    The baseline is the row of the track whose loss is ``baseline``, as short text. None for the baseline itself and
    where there is none. Raises DataError where rankings are not here or do not have the same queries and matches.
    """
    found: list[Difference | None] = []
    rankings: dict[int, list[Ranking]] = {}
    for each in rows:
        others = [
            row
            for row in rows
            if row.first.items["loss"].short == baseline and row.first.track == each.first.track and row.scored
        ]
        if not others or others[0] is each or not each.scored:
            found.append(None)
            continue
        for row in (each, others[0]):
            if id(row) not in rankings:
                rankings[id(row)] = [files.ranking(run) for run in row.scored]
        pair = rankings[id(each)], rankings[id(others[0])]
        first = pair[0][0]
        if not all(same_matches(first, ranking) for side in pair for ranking in side):
            raise DataError("the rankings have other queries or matches than each other")
        gap = difference(*pair, identities_of(first), "map_market")
        found.append(Difference(gap.difference, gap.interval, min(map(len, pair)) >= SEEDS))
    return found


def said(difference: Difference) -> dict[str, str]:
    """Return a difference in points and its interval, as they are printed."""
    interval = difference.interval
    within = "–" if interval is None else f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"
    return {"difference": f"{100 * difference.value:+.2f}", "95 % interval": within}
