"""How much a combination differs from another one, with an interval: the numbers of ``reidbench compare``."""

from __future__ import annotations

from collections.abc import Sequence

from reidbench import DataError, Difference, Ranking, RunFiles, difference, identities_of, same_matches
from reidbench_reports.combinations import Combination


def differences(rows: Sequence[Combination], baseline: str, files: RunFiles) -> list[Difference | None]:
    """Return, for each row, the difference of its mAP (market) to that of the baseline of its track.

    The baseline is the row of the track whose loss is ``baseline``, as short text. None for the baseline itself and
    where there is none. Raises DataError where rankings are missing or do not have the same queries and positives.
    """
    results: list[Difference | None] = []
    rankings: dict[int, list[Ranking]] = {}
    for each in rows:
        others = [
            row
            for row in rows
            if row.first.items["loss"].short == baseline and row.first.track == each.first.track and row.scored
        ]
        if not others or others[0] is each or not each.scored:
            results.append(None)
            continue
        for row in (each, others[0]):
            if id(row) not in rankings:
                rankings[id(row)] = [files.ranking(run) for run in row.scored]
        pair = rankings[id(each)], rankings[id(others[0])]
        first = pair[0][0]
        if not all(same_matches(first, ranking) for side in pair for ranking in side):
            raise DataError("the rankings are not of the same queries and positives")
        results.append(difference(*pair, identities_of(first), "map_market"))
    return results
