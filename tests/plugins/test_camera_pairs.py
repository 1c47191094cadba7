"""The section ``camera_pairs``: the record's matrix as tables and figure, a note where there is none."""

from reidbench.runs.record import CameraMatrix
from tests.support.parts import build_part, printed
from tests.support.records import make_record


def test_rows_are_query_cameras_and_missing_pairs_a_dash():
    matrix = CameraMatrix(
        cameras=[1, 4], queries=[[2, 1], [0, 3]], map_market=[[0.5, 0.25], [None, 1.0]], r1=[[1.0, 0.0], [None, 1.0]]
    )
    records = [make_record("a", cameras=matrix), make_record("b")]
    part = build_part("camera_pairs", records)
    precision, first = part.tables
    assert precision.cells() == [["camera 1", "50.00", "25.00"], ["camera 4", "–", "100.00"]]
    assert printed(first, "camera 4") == ["0.00", "100.00"]
    (chart,) = part.charts
    assert {row.name: (row.x, row.y) for row in chart.series} == {
        "1": (["1", "4"], [50.0, 25.0]),
        "4": (["1", "4"], [None, 100.0]),
    }
    assert part.notes[0] == "b: no matrix, as where every image has a camera of its own"
