"""Scores for each pair of cameras: how well a query of one finds its identity in each of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reidbench import Column, DataError, Part, RunFiles, RunRecord, Table, hookimpl
from reidbench_reports.combinations import HEADLINE_LABELS, add_runs, best_first, percent_column
from reidbench_reports.drawing import canvas


class CameraPairs:
    """The official camera matrix of the best runs: rows are the query's camera, columns the gallery camera.

    Options:
        most: how many runs are shown, those with the highest primary score first.
    """

    def __init__(self, *, most: int = 6) -> None:
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: two matrices as tables and as a figure for each run."""
        part = Part(title="Camera pairs")

        def add(record: RunRecord, name: str) -> None:
            cameras = [str(camera) for camera in record.cameras.cameras]
            if not cameras:
                raise DataError("the record has no camera matrix")
            matrices = {score: np.array(getattr(record.cameras, score), dtype=np.float64) for score in HEADLINE_LABELS}
            for score, label in HEADLINE_LABELS.items():
                rows = [
                    {"query in": f"camera {camera}"}
                    | {f"camera {other}": value for other, value in zip(cameras, values, strict=True)}
                    for camera, values in zip(cameras, getattr(record.cameras, score), strict=True)
                ]
                columns = [Column("query in"), *(percent_column(f"camera {each}", "") for each in cameras)]
                part.tables.append(Table(rows, columns, f"{label} by camera pair, in percent: {name}"))
            part.figures.append(draw(f"Camera pairs: {name}", cameras, matrices))

        add_runs(part, best_first(records), self.most, add)
        if part.tables:
            part.notes.append("Rows: query camera; columns: gallery camera; a dash: no query has a positive there.")
        return part


def draw(title: str, cameras: Sequence[str], matrices: Mapping[str, NDArray[np.float64]]) -> Figure:
    """Return the figure of both matrices, each cell with its number."""
    figure = canvas(title, width=8.4, height=1.2 + 0.5 * len(cameras))
    grid = figure.subplots(1, len(HEADLINE_LABELS), squeeze=False)[0]
    for axes, (score, label) in zip(grid, HEADLINE_LABELS.items(), strict=True):
        axes.patch.set_alpha(0.0)
        axes.imshow(100 * matrices[score], cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for (row, column), value in np.ndenumerate(100 * matrices[score]):
            if np.isfinite(value):
                # Cells have a colour of their own, so the text on them does not follow the page's.
                colour = "#ffffff" if value > 60 else "#1b1f24"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
        axes.set_title(f"{label}, %", loc="left", fontsize=10)
        axes.set_xticks(range(len(cameras)), cameras, fontsize=8)
        axes.set_yticks(range(len(cameras)), cameras, fontsize=8)
        axes.set_xlabel("gallery camera", fontsize=9)
        axes.set_ylabel("query camera", fontsize=9)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


@hookimpl
def register_sections() -> Mapping[str, Callable[..., CameraPairs]]:
    return {"camera_pairs": CameraPairs}
