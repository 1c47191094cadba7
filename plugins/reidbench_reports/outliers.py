"""Outliers as in the paper's Figure 3: images that lie farthest from the other images of their own identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reidbench import DataError, IntArray, Part, RunFiles, RunRecord, Samples, hookimpl, unit_rows
from reidbench_reports.combinations import lacking, names, newest
from reidbench_reports.drawing import WRONG, canvas
from reidbench_reports.pictures import name_of, show

BESIDE = 4


class Outliers:
    """The test images that lie farthest from their own identity: odd views, two people in a box, wrong labels.

    Options:
        outliers: how many are shown.
        pictures: whether to show the images; without, the report holds no picture of a person.
        most: how many runs are shown.
    """

    def __init__(self, *, outliers: int = 8, pictures: bool = True, most: int = 2) -> None:
        self.outliers = outliers
        self.pictures = pictures
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: for every run a table and a drawing."""
        part = Part(title="Outliers")
        runs = [record for record in newest(records)[0] if record.scored]
        if len(runs) > self.most:
            part.notes.append(f"{len(runs)} runs, of which the first {self.most} are shown.")
        unseen: list[tuple[str, object]] = []
        for record, name in zip(runs[: self.most], names(runs), strict=False):
            try:
                gallery = files.split(record).gallery
                embeddings = files.embeddings(record, gallery)
                rows = (unit_rows(embeddings) if record.evaluation.normalize else embeddings).double().numpy()
                distances, usual = own_distances(rows, gallery.pids)
                order = np.argsort(-np.nan_to_num(distances / usual, nan=-1.0), kind="stable")[: self.outliers]
                order = order[np.isfinite(distances[order])]
                frame = pd.DataFrame(
                    {
                        "image": [name_of(gallery, unit) for unit in order],
                        "identity": [str(gallery.pids[unit]) for unit in order],
                        "camera": [str(gallery.cams[unit]) for unit in order],
                        "distance": [f"{distances[unit]:.3g}" for unit in order],
                        "times the usual": [f"{distances[unit] / usual[unit]:.2f}" for unit in order],
                    }
                )
                frame.attrs["title"] = f"{name}: distance to the mean of the identity's other images"
                part.tables.append(frame)
                if self.pictures and len(order):
                    part.figures.append(draw(f"Outliers: {name}", gallery, order, distances, usual))
            except DataError as error:
                unseen.append((name, error))
        part.notes.extend(lacking(unseen))
        if part.figures:
            part.notes.append(
                f"Red: the outlier; beside it the {BESIDE} images of the identity that lie closest to their mean. "
                "Distances are Euclidean; the usual one is the identity's median."
            )
        return part


def own_distances(rows: np.ndarray, pids: IntArray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's distance to the mean of its identity's other rows [n], and the identity's median of them [n].

    ``rows`` [n, D] float64; nan for junk and distractors, and for identities with fewer than 3 rows.
    """
    distances, usual = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for pid in np.unique(pids[pids > 0]):
        own = np.flatnonzero(pids == pid)
        if len(own) < 3:
            continue
        others = (rows[own].sum(axis=0) - rows[own]) / (len(own) - 1)
        distances[own] = np.linalg.norm(rows[own] - others, axis=1)
        usual[own] = np.median(distances[own])
    return distances, usual


def draw(title: str, gallery: Samples, units: IntArray, distances: np.ndarray, usual: np.ndarray) -> Figure:
    """Return the drawing of outliers, two in a row, each beside its identity's most usual images."""
    columns, across = 1 + BESIDE, 2
    rows = -(-len(units) // across)
    figure = canvas(title, width=0.78 * columns * across + 0.6, height=1.62 * rows + 0.2)
    grid = figure.subplots(
        rows, columns * across + 1, squeeze=False, width_ratios=[*[1] * columns, 0.4, *[1] * columns]
    )
    for axes in grid.ravel():
        axes.set_axis_off()
    for number, unit in enumerate(units):
        row, first = grid[number // across], (number % across) * (columns + 1)
        same = np.flatnonzero((gallery.pids == gallery.pids[unit]) & (np.arange(len(gallery)) != unit))
        closest = same[np.argsort(distances[same], kind="stable")][:BESIDE]
        for axes, each in zip(row[first : first + columns], [unit, *closest], strict=False):
            axes.set_axis_on()
            below = [f"{distances[each]:.3g}", f"{distances[each] / usual[each]:.1f} ×"] if each == unit else [
                f"{distances[each]:.3g}"
            ]  # fmt: skip
            show(axes, gallery, int(each), below, WRONG if each == unit else "")
    return figure


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Outliers]]:
    return {"outliers": Outliers}
