"""Outliers as in the paper's Figure 3: images farthest from the other images of their own identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from reidbench import Column, IntArray, Part, PictureGrid, RunFiles, RunRecord, Samples, Table, hookimpl, unit_rows
from reidbench_reports.combinations import add_runs, best_first
from reidbench_reports.drawing import PictureRow, allows_pictures, name_of, picture

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
            if self.pictures and len(order) and allows_pictures(record, files, part):
                rows = [_pictures(gallery, int(unit), distances, median) for unit in order]
                part.pictures.append(PictureGrid(f"Outliers: {name}", rows))

        add_runs(part, best_first(records), self.most, add)
        if part.pictures:
            part.notes.append(
                f"Beside each outlier are the {BESIDE} images of the identity closest to their mean. "
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


def _pictures(gallery: Samples, unit: int, distances: np.ndarray, median: np.ndarray) -> PictureRow:
    """Return the pictures of an outlier and of its identity's most typical images."""
    same = np.flatnonzero((gallery.pids == gallery.pids[unit]) & (np.arange(len(gallery)) != unit))
    closest = same[np.argsort(distances[same], kind="stable")][:BESIDE]
    ratio = distances[unit] / median[unit]
    return {
        "outlier": [picture(gallery, unit, f"{distances[unit]:.3g}, {ratio:.1f} ×")],
        "typical images": [picture(gallery, int(other), f"{distances[other]:.3g}") for other in closest],
    }


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Outliers]]:
    return {"outliers": Outliers}
