"""What the training of each system, or the metric that it learns, adds: the difference to its control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import reidbench
from reidbench import Column, DataError, Job, Part, RunFiles, RunRecord, Table, hookimpl
from reidbench_reports.combinations import PRIMARY, Combination, combinations, newest, percent_column
from reidbench_reports.published import published_numbers, stand_ins

SYSTEMS = 2  # the table of the paper that names them
EUCLIDEAN = "euclidean(normalize=false)"


class Controls:
    """The difference in mAP (market) of each combination to its control, with its 95 % interval.

    The control of a trained network is the same network before the training: loss none, and the same data, views, pool,
    metric and re-ranker; a learned metric is fitted likewise. That of a network without parameters is the Euclidean
    distance of the same embeddings. Combinations without a control among the runs are left out.
    """

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: one row for each combination that has a control, those of the paper in its order."""
        rows = [row for row in combinations(newest(records)[0]) if row.scored]
        controls = {_key(row.first): row for row in rows}
        pairs = [(row, control) for row in rows if (control := controls.get(_key_of_control(row.first)))]
        places = _places()
        part = Part(title="Systems and their controls")
        cells = []
        for row, control in pairs:
            try:
                cells.append(_row(row, control, places, files))
            except DataError as error:
                part.notes.append(f"{row.first.items['loss'].short}, {row.first.items['backbone'].short}: {error}")
        cells.sort(key=lambda cell: cell["order"])
        columns = [Column("system"), Column("data"), Column("queries", "", "number", ",d", minor=1)]
        columns += [percent_column(PRIMARY), percent_column("control", "control"), percent_column("difference", "Δ")]
        columns.append(Column("difference_low", "95 % CI", "number", _interval))
        part.tables.append(
            Table(cells, columns, "mAP (market) in percent, and the difference to the control in points")
        )
        if not pairs:
            part.notes.append("No combination has its control among these runs; the suites of the systems have both.")
        part.notes.append(
            "Control: the same network, input, views, pool, metric and re-ranker with the loss none; of hand-made "
            "features the Euclidean distance. 95 % CI: paired bootstrap over query identities, no training noise."
        )
        return part


def _key(run: RunRecord) -> tuple[str, ...]:
    """Return what a combination and its control share, and then their loss and metric."""
    shared = tuple(run.items[kind].spec for kind in ("protocol", "backbone", "rerank"))
    pool = run.evaluation.pool if "pool=" in shared[0] else ""  # without that option units are single images
    return (*shared, pool, run.dataset.digest, run.items["loss"].spec, run.items["metric"].spec)


def _key_of_control(run: RunRecord) -> tuple[str, ...] | None:
    """Return the key of a run's control, None for a control."""
    *shared, loss, metric = _key(run)
    if loss != "none":
        return (*shared, "none", metric)
    return (*shared, "none", EUCLIDEAN) if not run.network.parameters and metric != EUCLIDEAN else None


def _places() -> dict[Job, tuple[int, str, str]]:
    """Return place, row and column in the paper of each of its jobs (seed 0) and of each of these at other scales."""
    places: dict[Job, tuple[int, str, str]] = {}
    for number in published_numbers(SYSTEMS):
        if number.job is not None:
            places.setdefault(number.job, (len(places), number.row, number.column))
    scaled = stand_ins(SYSTEMS).items()
    return places | {
        small: (*places[job][:2], f"{places[job][2]}, {scale}") for small, (job, scale) in scaled if job in places
    }


def _row(
    row: Combination, control: Combination, places: Mapping[Job, tuple[int, str, str]], files: RunFiles
) -> dict[str, Any]:
    """Return the cells of a combination; raises DataError where rankings are missing or of other queries."""
    run = row.first
    sides = [[files.ranking(each) for each in side.scored] for side in (row, control)]
    if not all(reidbench.same_matches(sides[0][0], ranking) for side in sides for ranking in side):
        raise DataError("its control has other queries or positives")
    identities = reidbench.identities_of(sides[0][0])
    gap = reidbench.difference(sides[0], sides[1], identities, PRIMARY)
    name = f"{run.items['loss'].short}, {run.items['backbone'].short}"
    other = (len(places), name, run.items["protocol"].short)
    order, system, data = places.get(replace(run.job, seed=0), other)
    low, high = gap.interval or (None, None)
    return {"order": order, "system": system, "data": data, "queries": len(identities), PRIMARY: gap.a} | {
        "control": gap.b,
        "difference": gap.difference,
        "difference_low": low,
        "difference_high": high,
    }


def _interval(row: Mapping[str, Any]) -> str:
    low, high = row["difference_low"], row["difference_high"]
    return "–" if low is None else f"{100 * low:+.2f} to {100 * high:+.2f}"


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Controls]]:
    return {"controls": Controls}
