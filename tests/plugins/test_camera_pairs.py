"""The section ``camera_pairs``: the record's matrix, row by row, and a note where there is none."""

from __future__ import annotations

from reidbench.reports.sections import build_sections
from reidbench.runs.artifacts import RunFiles
from reidbench.runs.record import CameraMatrix
from reidbench.utils.machine import local_machine
from tests.support.records import make_record


def test_rows_are_the_querys_camera_and_a_pair_without_a_match_is_a_dash() -> None:
    matrix = CameraMatrix(
        cameras=[1, 4],
        queries=[[2, 1], [0, 3]],
        map_market=[[0.5, 0.25], [None, 1.0]],
        r1=[[1.0, 0.0], [None, 1.0]],
    )
    records = [make_record("a", cameras=matrix), make_record("b")]
    (part,) = build_sections(["camera_pairs"], records, RunFiles([], local_machine()))
    precision, first = part.tables
    assert precision.to_numpy().tolist() == [["camera 1", "50.00", "25.00"], ["camera 4", "–", "100.00"]]
    assert first["camera 4"].tolist() == ["0.00", "100.00"]
    assert [text.get_text() for text in part.figures[0].axes[0].texts] == ["50", "25", "100"]
    assert part.notes[0] == "b: its record has no camera matrix"
