"""How much a combination differs from another one, with an interval: the numbers of ``reidbench compare``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import reidbench
from reidbench import DataError, Ranking, RunFiles, RunRecord
from reidbench_reports.combinations import Combination

if TYPE_CHECKING:
    from reidbench import Difference


def differences(rows: Sequence[Combination], baseline: str, files: RunFiles) -> Iterator[tuple[RunRecord, Difference]]:
    """Yield each row's first run and its difference to the baseline: the row of the track whose loss is ``baseline``.

    Rows without a baseline are left out. Raises DataError where rankings are missing or are not of the same queries
    and positives.
    """
    rankings: dict[str, list[Ranking]] = {}
    for each in rows:
        same = [row for row in rows if row.scored and row.first.track == each.first.track]
        base = next((row for row in same if row.first.items["loss"].short == baseline), each)
        if base is each or not each.scored:
            continue
        for row in (each, base):
            if row.first.group not in rankings:
                rankings[row.first.group] = [files.ranking(run) for run in row.scored]
        pair = rankings[each.first.group], rankings[base.first.group]
        first = pair[0][0]
        if not all(reidbench.same_matches(first, ranking) for side in pair for ranking in side):
            raise DataError("the rankings are not of the same queries and positives")
        identities = reidbench.identities_of(first)
        yield each.first, reidbench.difference(*pair, identities, each.first.evaluation.primary)
