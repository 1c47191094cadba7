"""Scores for each pair of cameras: how well a query of one finds its identity in each of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reidbench import HEADLINE, Part, RunFiles, RunRecord, hookimpl, shown_scores
from reidbench_reports.combinations import names, newest
from reidbench_reports.drawing import canvas

SCORES = {name: shown_scores()[name].label for name in HEADLINE}
NOTHING = "–"


class CameraPairs:
    """The official camera matrix of every run: rows are the query's camera, columns the other one, in percent.

    Options:
        most: how many runs are shown.
    """

    def __init__(self, *, most: int = 6) -> None:
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: for every run two matrices as tables, and a drawing of both."""
        part = Part(title="Camera pairs")
        runs = [record for record in newest(records)[0] if record.scored]
        if len(runs) > self.most:
            part.notes.append(f"{len(runs)} runs, of which the first {self.most} are shown.")
        for record, name in zip(runs[: self.most], names(runs), strict=False):
            if not record.cameras.cameras:
                part.notes.append(f"{name}: its record has no camera matrix")
                continue
            cameras = [str(camera) for camera in record.cameras.cameras]
            matrices = {score: _percent(getattr(record.cameras, score)) for score in SCORES}
            for score, heading in SCORES.items():
                texts = [[NOTHING if np.isnan(value) else f"{value:.2f}" for value in row] for row in matrices[score]]
                frame = pd.DataFrame(texts, columns=[f"camera {camera}" for camera in cameras])
                frame.insert(0, "query in", [f"camera {camera}" for camera in cameras])
                frame.attrs["title"] = f"{heading} by camera pair, in percent: {name}"
                part.tables.append(frame)
            part.figures.append(draw(f"Camera pairs: {name}", cameras, matrices))
        if part.tables:
            part.notes.append(
                "Rows: the query's camera, columns: the camera it is looked for in, the other cameras' images of the "
                "identity left out; a dash where no query has a match there."
            )
        return part


def _percent(matrix: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    return np.array([[np.nan if value is None else 100 * value for value in row] for row in matrix])


def draw(title: str, cameras: Sequence[str], matrices: Mapping[str, NDArray[np.float64]]) -> Figure:
    """Return the drawing of both matrices, each cell with its number."""
    figure = canvas(title, width=8.4, height=1.2 + 0.5 * len(cameras))
    for axes, (score, heading) in zip(figure.subplots(1, len(SCORES), squeeze=False)[0], SCORES.items(), strict=True):
        axes.patch.set_alpha(0.0)
        axes.imshow(matrices[score], cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for (row, column), value in np.ndenumerate(matrices[score]):
            if np.isfinite(value):
                # Cells have a colour of their own, so the text on them does not follow the page's.
                colour = "#ffffff" if value > 60 else "#1b1f24"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
        axes.set_title(heading, loc="left", fontsize=10)
        axes.set_xticks(range(len(cameras)), cameras, fontsize=8)
        axes.set_yticks(range(len(cameras)), cameras, fontsize=8)
        axes.set_xlabel("looked for in camera", fontsize=9)
        axes.set_ylabel("query in camera", fontsize=9)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


@hookimpl
def register_sections() -> Mapping[str, Callable[..., CameraPairs]]:
    return {"camera_pairs": CameraPairs}
