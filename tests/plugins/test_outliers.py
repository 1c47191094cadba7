"""The section ``outliers``: distances to one's own identity against plain loops, and what is shown."""

import numpy as np
import pytest
from reidbench_reports.outliers import own_distances

from tests.support.parts import build_part, printed


def test_distances_are_to_the_mean_of_the_others():
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(40, 5))
    pids = draw.choice([-1, 0, 1, 2, 3, 4], 40)
    pids[:2] = 9  # two images: too few
    distances, median = own_distances(rows, pids)
    for unit in range(40):
        others = [rows[other] for other in range(40) if pids[other] == pids[unit] and other != unit]
        if pids[unit] < 1 or len(others) < 2:
            assert np.isnan(distances[unit])
            continue
        assert distances[unit] == pytest.approx(np.linalg.norm(rows[unit] - np.mean(others, axis=0)))
        assert median[unit] == np.median(distances[pids == pids[unit]])


def test_the_farthest_come_first_beside_their_identity(ran):
    part = build_part("outliers(outliers=3, most=1)", ran[0], ran[1])
    (table,) = part.tables
    times = [float(text) for text in printed(table, "× the identity's median")]
    assert times == sorted(times, reverse=True)
    gallery = ran[1].split(ran[0][0]).gallery
    assert set(printed(table, "image")) <= set(gallery.images.tolist())
    (grid,) = part.pictures
    assert [len(row["typical images"]) for row in grid.rows] == [4, 4, 4]
    assert grid.rows[0]["outlier"][0].text.startswith(printed(table, "distance")[0])
    assert build_part("outliers(pictures=false)", ran[0], ran[1]).pictures == []
