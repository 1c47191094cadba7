"""The training logs as charts, what the paper's Figures 6 to 9 show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidbench import Chart, Column, Part, RunFiles, RunRecord, Series, Table, headline_scores, hookimpl, named_score
from reidbench_reports.combinations import TRAINING, add_runs, trainings

MOST_POINTS = 100
RATE = "learning rate"
# The log's columns by quantity: middle, ends of the band, factor.
QUANTITIES = {
    "per-sample loss": ("item_mean", "item_5", "item_95", 1),
    "active terms, %": ("active", "", "", 100),
    "embedding norm": ("norm_50", "norm_5", "norm_95", 1),
    "embedding entries": ("entry_50", "entry_5", "entry_95", 1),
    "pairwise distance": ("distance_50", "distance_5", "distance_95", 1),
    RATE: ("learning_rate", "", "", 1),
}
Log = Mapping[str, NDArray[Any]]

COLUMNS = [
    Column("training"),
    Column("steps", "", "number", ",d"),
    Column("loss", "", "number", ".4g"),
    Column("active_percent", "active terms, %", "number", ".1f"),
    Column("embedding_norm", "embedding norm", "number", "#.3g"),
    Column("distance", "", "number", "#.3g"),
    Column("collapsed_steps", "collapsed steps", "number", ",d"),
    Column("verdict"),
]


class TrainingLog:
    """Per-sample loss, active terms, embeddings, distances, learning rate and validation scores by step.

    Options:
        most: how many trainings are shown.
    """

    def __init__(self, *, most: int = 8) -> None:
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: a chart of each quantity with a line for each training, and a table of their last steps."""
        part = Part(title="Training logs")
        rows: list[dict[str, Any]] = []
        lines: dict[str, list[Series]] = {heading: [] for heading in QUANTITIES}
        validation = "validation."  # what the columns of scores at some of the steps begin with

        def add(record: RunRecord, name: str) -> None:
            log = files.log(record)
            scores = {column.removeprefix(validation) for column in log if column.startswith(validation)}
            quantities = QUANTITIES | {
                f"validation {named_score(score).label}, %": (f"{validation}{score}", "", "", 100)
                for score in headline_scores(scores, record.evaluation.primary)
            }
            for heading, (middle, low, high, factor) in quantities.items():
                measured = np.isfinite(log[middle]) if middle in log else np.zeros(0)
                if measured.any():
                    values = {"x": "step", "y": middle} | ({"low": low, "high": high} if low else {})
                    groups = {axis: _grouped(log[column][measured]) for axis, column in values.items()}
                    groups["y"] *= factor
                    lines.setdefault(heading, []).append(Series(name, **groups, method=record.items["loss"].short))
            rows.append(_row(name, record, log))

        add_runs(part, trainings(records), self.most, add, TRAINING)
        for heading, series in lines.items():
            positive = all(y is not None and y > 0 for each in series for y in each.y)
            if series:
                part.charts.append(
                    Chart("line", heading, series, "step", heading, "y" * (heading == RATE and positive))
                )
        if rows:
            part.tables.append(Table(rows, COLUMNS, "The last step: medians over its batch"))
            part.notes.append(
                "Bands: 5 to 95 percentile of a batch. Active terms: share of loss terms above 1e-5. "
                f"Of longer trainings each point is the mean of a group of steps, {MOST_POINTS} in all."
            )
        return part


def _grouped(values: NDArray[Any]) -> NDArray[Any]:
    """Return values [steps] in at most ``MOST_POINTS`` groups of neighbours, each the mean of those that are finite."""
    parts = np.array_split(np.asarray(values, dtype=np.float64), min(len(values), MOST_POINTS))
    finite = [part[np.isfinite(part)] for part in parts]
    return np.array([part.mean() if len(part) else np.nan for part in finite])


def _row(name: str, record: RunRecord, log: Log) -> dict[str, Any]:
    return {
        "training": name,
        "steps": len(log["step"]),
        "loss": float(log["loss"][-1]),
        "active_percent": float(100 * log["active"][-1]),
        "embedding_norm": float(log["norm_50"][-1]),
        "distance": float(log["distance_50"][-1]),
        "collapsed_steps": record.observed.packed_steps,
        "verdict": record.observed.verdict or "–",
    }


@hookimpl
def register_sections() -> Mapping[str, Callable[..., TrainingLog]]:
    return {"training_log": TrainingLog}
