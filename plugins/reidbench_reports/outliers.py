"""Outliers as in the paper's Figure 3: images farthest from the other images of their own identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from reidbench import Column, IntArray, Part, RunFiles, RunRecord, Samples, Table, hookimpl, unit_rows
from reidbench_reports.combinations import add_runs, best_first
from reidbench_reports.drawing import WRONG, canvas, name_of, show_image

BESIDE = 4
COLUMNS = [
    Column("image"),
    Column("identity", "", "number"),
    Column("camera", "", "number"),
    Column("distance", "", "number", ".3g"),
    Column("ratio", "× the identity's median", "number", ".2f"),
]


class Outliers:
    """The test images farthest from their own identity: odd views, two people in a box, wrong labels.

    Options:
        outliers: how many are shown.
        pictures: whether to show the images; without, the report holds no image of a person.
        most: how many runs are shown, those with the highest primary score first.
    """

    def __init__(self, *, outliers: int = 8, pictures: bool = True, most: int = 2) -> None:
        self.outliers = outliers
        self.pictures = pictures
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: a table and a figure for each run."""
        part = Part(title="Outliers")

        def add(record: RunRecord, name: str) -> None:
            gallery = files.split(record).gallery
            embeddings = files.embeddings(record, gallery)
            rows = (unit_rows(embeddings) if record.evaluation.normalize else embeddings).double().numpy()
            distances, median = own_distances(rows, gallery.pids)
            order = np.argsort(-np.nan_to_num(distances / median, nan=-1.0), kind="stable")[: self.outliers]
            order = order[np.isfinite(distances[order])]
            if self.pictures and len(order):
                part.figures.append(draw(f"Outliers: {name}", gallery, order, distances, median))
            cells = [
                {
                    "image": name_of(gallery, unit),
                    "identity": int(gallery.pids[unit]),
                    "camera": int(gallery.cams[unit]),
                    "distance": float(distances[unit]),
                    "ratio": float(distances[unit] / median[unit]),
                }
                for unit in order
            ]
            part.tables.append(Table(cells, COLUMNS, f"{name}: distance to the mean of the identity's other images"))

        add_runs(part, best_first(records), self.most, add)
        if part.figures:
            part.notes.append(
                f"Red: the outlier; beside it the {BESIDE} images of the identity closest to their mean. "
                "Distances are Euclidean; the ratio is to the identity's median distance."
            )
        return part


def own_distances(rows: np.ndarray, pids: IntArray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's distance to the mean of its identity's other rows [n], and the identity's median of them [n].

    ``rows`` [n, D] float64; nan for junk and distractors, and for identities with fewer than 3 rows.
    """
    distances, median = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for pid in np.unique(pids[pids > 0]):
        own = np.flatnonzero(pids == pid)
        if len(own) < 3:
            continue
        others = (rows[own].sum(axis=0) - rows[own]) / (len(own) - 1)
        distances[own] = np.linalg.norm(rows[own] - others, axis=1)
        median[own] = np.median(distances[own])
    return distances, median


def draw(title: str, gallery: Samples, units: IntArray, distances: np.ndarray, median: np.ndarray) -> Figure:
    """Return the figure of outliers, two in a row, each beside its identity's most typical images."""
    columns, across = 1 + BESIDE, 2
    rows = -(-len(units) // across)
    figure = canvas(title, width=0.78 * columns * across + 0.6, height=1.62 * rows + 0.2)
    widths = [*[1] * columns, 0.4, *[1] * columns]
    grid = figure.subplots(rows, columns * across + 1, squeeze=False, width_ratios=widths)
    for axes in grid.ravel():
        axes.set_axis_off()
    for number, unit in enumerate(units):
        row, first = grid[number // across], (number % across) * (columns + 1)
        same = np.flatnonzero((gallery.pids == gallery.pids[unit]) & (np.arange(len(gallery)) != unit))
        closest = same[np.argsort(distances[same], kind="stable")][:BESIDE]
        ratio = f"{distances[unit] / median[unit]:.1f} ×"
        show_image(row[first], gallery, int(unit), [f"{distances[unit]:.3g}", ratio], WRONG)
        for axes, other in zip(row[first + 1 : first + columns], closest, strict=False):
            show_image(axes, gallery, int(other), [f"{distances[other]:.3g}"])
    return figure


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Outliers]]:
    return {"outliers": Outliers}
