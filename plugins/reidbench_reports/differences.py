"""How much a combination differs from another one, with an interval: the numbers of ``reidbench compare``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reidbench import DataError, Ranking, RunFiles, difference, identities_of
from reidbench_reports.combinations import Combination

Difference = tuple[float, tuple[float, float] | None]


def differences(rows: Sequence[Combination], baseline: str, files: RunFiles) -> list[Difference | None]:
    """Return, for each row, its AP (market) less that of the baseline of its track, as fractions, and the interval.

    The baseline is the row of the track whose loss is ``baseline``, as short text. None for the baseline itself and
    where there is none. Raises DataError where rankings are not here or do not have the same queries.
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
        people = [identities_of(ranking) for side in pair for ranking in side]
        if not all(np.array_equal(people[0], other) for other in people):
            raise DataError("the rankings have other queries or matches than each other")
        gap = difference(*pair, people[0], "map_market")
        found.append((gap.difference, gap.interval))
    return found


def said(difference: Difference) -> dict[str, str]:
    """Return a difference in points and its interval, as they are printed."""
    value, interval = difference
    within = "–" if interval is None else f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"
    return {"difference": f"{100 * value:+.2f}", "95 % interval": within}
