"""How much a combination differs from another one, with an interval: a paired bootstrap over query identities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reidbench import DataError, RunFiles, average_precision, paired_difference
from reidbench_reports.combinations import Combination

Difference = tuple[float, tuple[float, float] | None]


def differences(rows: Sequence[Combination], baseline: str, files: RunFiles) -> list[Difference | None]:
    """Return, for each row, its AP (market) less that of the baseline of its track, as fractions, and the interval.

    The baseline is the row of the track whose loss is ``baseline``, as short text; a query's value is the mean over
    seeds. None for the baseline itself and where there is none. Raises DataError where rankings or data are not here.
    """
    found: list[Difference | None] = []
    values: dict[int, NDArray[np.float64]] = {}
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
            if id(row) not in values:
                values[id(row)] = _per_query(row, files)
        pids = files.split(each.first).query.pids
        one, other = values[id(each)], values[id(others[0])]
        if not len(one) == len(other) == len(pids):
            raise DataError(f"rankings of {len(one)} and {len(other)} queries for {len(pids)} of the data here")
        found.append(paired_difference(one, other, pids))
    return found


def _per_query(row: Combination, files: RunFiles) -> NDArray[np.float64]:
    """Return the mean over seeds of each query's AP (market)."""
    qualities = [average_precision(files.ranking(run), "market") for run in row.scored]
    if len({len(quality) for quality in qualities}) > 1:
        raise DataError("the rankings of one combination's seeds have different numbers of queries")
    return np.mean(qualities, axis=0, dtype=np.float64)


def said(difference: Difference) -> dict[str, str]:
    """Return a difference in points and its interval, as they are printed."""
    value, interval = difference
    within = "–" if interval is None else f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"
    return {"difference": f"{100 * value:+.2f}", "95 % interval": within}
