"""Scores for each pair of cameras: how well a query of one finds its identity in each of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reidbench import Chart, Column, DataError, Part, RunFiles, RunRecord, Series, Table, hookimpl
from reidbench_reports.combinations import HEADLINE_LABELS, PRIMARY, add_runs, best_trained_first, percent_column


class CameraPairs:
    """The official camera matrix of the best runs: rows are the query's camera, columns the gallery camera.

    Options:
        most: how many runs have tables, those with the highest primary score first; the first has a heat map.
    """

    def __init__(self, *, most: int = 6) -> None:
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: a heat map of the best run, and two matrices as tables for each run."""
        part = Part(title="Camera pairs")

        def add(record: RunRecord, name: str) -> None:
            cameras = [f"camera {camera}" for camera in record.cameras.cameras]
            if not cameras:
                raise DataError("no matrix, as where every image has a camera of its own")
            for score, label in HEADLINE_LABELS.items():
                matrix = dict(zip(cameras, getattr(record.cameras, score), strict=True))
                rows = [{"query in": each, **dict(zip(cameras, row, strict=True))} for each, row in matrix.items()]
                columns = [Column("query in"), *map(percent_column, cameras)]
                part.tables.append(Table(rows, columns, f"{label} by camera pair, in percent: {name}"))
                if score == PRIMARY and not part.charts:
                    part.charts.append(_heatmap(f"{label} in percent, the best run: {name}", matrix))

        add_runs(part, best_trained_first(records), self.most, add)
        if part.tables:
            part.notes.append("Rows: query camera; columns: gallery camera; a dash: no query has a positive there.")
        return part


def _heatmap(title: str, matrix: Mapping[str, Sequence[float | None]]) -> Chart:
    """Return the heat map of a matrix of fractions, rows by camera."""
    cameras = [camera.removeprefix("camera ") for camera in matrix]
    percent = [[None if value is None else 100 * value for value in row] for row in matrix.values()]
    rows = [Series(camera, cameras, values) for camera, values in zip(cameras, percent, strict=True)]
    return Chart("heatmap", title, rows, "gallery camera", "query camera")


@hookimpl
def register_sections() -> Mapping[str, Callable[..., CameraPairs]]:
    return {"camera_pairs": CameraPairs}
