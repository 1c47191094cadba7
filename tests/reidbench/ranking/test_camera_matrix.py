"""Scores by pairs of cameras: the official per-query values, plain loops, and who counts as the query itself."""

import numpy as np
import pytest
import torch

from reidbench import build
from reidbench.embedding.pooling import UnitEmbeddings
from reidbench.ranking.camera_matrix import camera_scores
from tests.support.oracles import oracle
from tests.support.rankings import rank, rank_units, slow_camera_scores


@pytest.mark.parametrize("name", ["mars_dev", "mars_nomatch_dev"])
@pytest.mark.parametrize("pool", ["max", "avg"])
def test_each_query_and_camera_is_the_official_value(name, pool):
    data = oracle(name)
    tracks, query = data["track_info"], data["query_idx"] - 1
    rows, pids, cams = data[f"pooled_{pool}"], tracks[:, 2].copy(), tracks[:, 3].copy()
    units = [UnitEmbeddings(torch.from_numpy(rows[part]), pids[part], cams[part]) for part in (query, slice(None))]
    rankings = rank_units(*units, build("metric", "euclidean"), None, None)
    scores = camera_scores(rankings.with_junk, cams[query], cams, query)
    assert scores.cameras.tolist() == [1, 2, 3, 4, 5, 6]
    official = data[f"{pool}_r1_pairwise"]  # -1 and -2: nobody to find there
    np.testing.assert_array_equal(scores.r1, np.where(official < 0, np.nan, official))
    np.testing.assert_allclose(np.nan_to_num(scores.ap_market), np.nan_to_num(data[f"{pool}_ap_pairwise"]), atol=1e-9)


def test_the_matrix_is_that_of_plain_loops():
    generator = np.random.default_rng(1)
    pids, cams = generator.integers(-1, 7, 150), generator.integers(1, 5, 150)
    own = np.concatenate([np.flatnonzero(pids > 0)[:20], np.full(10, -1)])
    query_pids = np.concatenate([pids[own[:20]], generator.integers(1, 7, 10)])
    query_cams = np.concatenate([cams[own[:20]], generator.integers(1, 5, 10)])
    gallery = generator.normal(size=(150, 3))
    query = np.concatenate([gallery[own[:20]], generator.normal(size=(10, 3))])
    ranking = rank(
        query, gallery, query_pids, query_cams, pids, cams, build("metric", "euclidean"), exclude=("same_camera",)
    )
    scores = camera_scores(ranking, query_cams, cams, own)
    distances = ((query[:, None] - gallery) ** 2).sum(2)
    expected = slow_camera_scores(distances, query_pids, pids, cams, own)
    np.testing.assert_allclose(scores.ap_market, expected[..., 0], atol=1e-12)
    np.testing.assert_array_equal(scores.r1, expected[..., 2])
    matrix = scores.as_dict()
    of_two = expected[query_cams == 2]
    for camera in range(4):
        assert matrix["map_market"][1][camera] == pytest.approx(np.nanmean(of_two[:, camera, 0]))
        assert matrix["r1"][1][camera] == pytest.approx(np.nanmean(of_two[:, camera, 2]))
        assert matrix["queries"][1][camera] == np.isfinite(of_two[:, camera, 0]).sum()


def test_a_pair_without_a_query_is_empty():
    ones = np.ones(1, dtype=np.int64)
    rows = np.zeros((3, 1))
    pids, cams = np.array([1, 1, 0]), np.array([1, 2, 2])
    ranking = rank(rows[:1], rows, ones, ones, pids, cams, build("metric", "euclidean"))
    own = np.zeros(1, dtype=np.int64)
    matrix = camera_scores(ranking, ones, cams, own).as_dict()
    assert matrix == {
        "cameras": [1, 2],
        "queries": [[0, 1], [0, 0]],
        "map_market": [[None, 1.0], [None, None]],
        "r1": [[None, 1.0], [None, None]],
    }
    apart = camera_scores(ranking, ones, np.array([1, 2, 3]), own).as_dict()
    assert not any(apart.values()), "a matrix of cameras with one image each"
