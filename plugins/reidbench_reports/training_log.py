"""The training log as figures, as in the paper's Figures 6 to 9."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reidbench import Column, Part, RunFiles, RunRecord, Table, hookimpl
from reidbench_reports.combinations import TRAINING, add_runs, trainings
from reidbench_reports.drawing import COLOURS, bare, canvas, legend

CLOUD, MEAN, LOWEST = "#9aa3ad", "#3b82c4", "#8b6fd1"
BANDS = ((0, 100, 0.16), (5, 95, 0.30))
_MOST_BINS = 400
_CLOUD_ROWS = 80
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
    """Per-sample loss, active terms, embedding norms, distances and learning rate of every training, by step.

    Options:
        most: how many trainings are drawn.
    """

    def __init__(self, *, most: int = 12) -> None:
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: one figure for each training, and one table of their last steps."""
        part = Part(title="Training logs")
        rows: list[dict[str, Any]] = []

        def add(record: RunRecord, name: str) -> None:
            log = files.log(record)
            part.figures.append(draw(f"Training log: {name}", log))
            rows.append(_row(name, record, log))

        add_runs(part, trainings(records), self.most, add, TRAINING)
        if rows:
            part.tables.append(Table(rows, COLUMNS, "The last step: medians over its batch"))
            part.notes.append(
                "Bands: 0, 5, 50, 95 and 100 percentile of a batch. Active terms: share of loss terms above 1e-5. "
                f"Longer trainings are drawn in {_MOST_BINS} groups of steps: the mean of each, "
                "and the extremes of its 0 and 100 percentile."
            )
        return part


def draw(title: str, log: Log) -> Figure:
    """Return the figure of one log, after Supplementary F of Hermans et al. (2017)."""
    figure = canvas(title, width=8.4, height=7.6)
    grid = figure.add_gridspec(4, 2, height_ratios=(1.25, 1, 1, 1))
    step = np.asarray(log["step"], dtype=np.float64)
    cloud = bare(figure.add_subplot(grid[0, :]), "per-sample loss")
    _cloud(cloud, step, log["items"])
    loss = bare(figure.add_subplot(grid[1, 0]), "loss: mean and 5 percentile")
    for column, colour, name in (("item_mean", MEAN, "mean"), ("item_5", LOWEST, "5 percentile")):
        loss.plot(*_grouped(step, log[column]), color=colour, linewidth=1.3, label=name)
    legend(loss)
    active = bare(figure.add_subplot(grid[1, 1]), "active terms, %")
    active.plot(*_grouped(step, 100 * log["active"]), color=COLOURS[1], linewidth=1.1)
    active.set_ylim(-3, 103)
    titles = {"norm": "embedding norm", "entry": "embedding entries", "distance": "pairwise distance"}
    for place, (name, heading) in enumerate(titles.items()):
        axes = bare(figure.add_subplot(grid[2 + place // 2, place % 2]), heading)
        _bands(axes, step, log, name)
    rate = bare(figure.add_subplot(grid[3, 1]), "learning rate")
    rate.plot(*_grouped(step, log["learning_rate"]), color=COLOURS[4], linewidth=1.3)
    if (log["learning_rate"] > 0).all():
        rate.set_yscale("log")
    for axes in figure.axes:
        last = axes.get_subplotspec().is_last_row()  # type: ignore[union-attr]
        axes.set_xlim(0, max(float(step[-1]), 1.0))
        axes.tick_params(labelbottom=last)
        axes.set_xlabel("iteration" if last else "", fontsize=9)
    return figure


def _cloud(axes: Axes, step: NDArray[Any], items: NDArray[Any]) -> None:
    """Draw the loss terms [steps, terms] as the histogram of each step: a page cannot hold millions of dots."""
    values = items.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return
    low, high = min(float(values[finite].min()), 0.0), float(values[finite].max())
    high = high if high > low else low + 1.0
    rows = np.broadcast_to(np.arange(len(step))[:, None], values.shape)
    bins, extent = (min(len(step), _MOST_BINS), _CLOUD_ROWS), (float(step[0]), float(step[-1]) + 1, low, high)
    counts, _, _ = np.histogram2d(rows[finite], values[finite], bins=bins, range=((0, len(step)), (low, high)))
    fade = LinearSegmentedColormap.from_list("cloud", [(0.0, (CLOUD, 0.0)), (1e-6, (CLOUD, 0.4)), (1.0, (CLOUD, 1.0))])
    share = np.log1p(counts.T) / np.log1p(counts.max())
    axes.imshow(share, cmap=fade, origin="lower", aspect="auto", extent=extent, interpolation="nearest", zorder=1.5)
    axes.set_ylim(low - 0.02 * (high - low), high + 0.02 * (high - low))


def _bands(axes: Axes, step: NDArray[Any], log: Log, what: str) -> None:
    for low, high, alpha in BANDS:
        x, bottom = _grouped(step, log[f"{what}_{low}"], np.nanmin if low == 0 else np.nanmean)
        _, top = _grouped(step, log[f"{what}_{high}"], np.nanmax if high == 100 else np.nanmean)
        axes.fill_between(x, bottom, top, color=COLOURS[0], alpha=alpha, linewidth=0)
    axes.plot(*_grouped(step, log[f"{what}_50"]), color=COLOURS[0], linewidth=1.4)


def _grouped(
    step: NDArray[Any], values: NDArray[Any], summary: Callable[..., Any] = np.nanmean
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return steps and values in at most 400 groups of neighbours, each group's values as one."""
    if len(step) <= _MOST_BINS:
        return step, np.asarray(values, dtype=np.float64)
    parts = np.array_split(np.asarray(values, dtype=np.float64), _MOST_BINS)
    middles = np.array([part.mean() for part in np.array_split(step, _MOST_BINS)])
    return middles, np.array([summary(part) if np.isfinite(part).any() else np.nan for part in parts])


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
