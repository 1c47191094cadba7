"""Drawn embeddings of people seen by cameras, and the official results, for the tests of the learned metrics."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench.ranking.scores import score
from tests.support.rankings import rank


class People(NamedTuple):
    rows: Tensor
    pids: NDArray[np.int64]
    cams: NDArray[np.int64]


def people(count: int = 12, dim: int = 6, cams: int = 3, seed: int = 0, each: tuple[int, int] = (2, 7)) -> People:
    """Return embeddings [n, D] float64 of ``count`` people, shuffled; people differ, and so do cameras."""
    rng = np.random.default_rng(seed)
    pids = np.repeat(np.arange(1, count + 1) * 3, rng.integers(*each, count))
    pids = rng.permutation(pids)
    seen = rng.integers(1, cams + 1, len(pids))
    centres, ways = rng.normal(size=(3 * count + 1, dim)), rng.normal(size=(cams + 1, dim))
    rows = centres[pids] + 0.5 * ways[seen] + 0.4 * rng.normal(size=(len(pids), dim)) + 2
    return People(torch.from_numpy(rows), pids, seen)


def assert_official(metric, data, suffix, distances):
    """A fitted metric gives the oracle's distances, and through our ranking its mAP and rank-1."""
    query, gallery = (metric.project(torch.from_numpy(data[side])) for side in ("q", "g"))
    found = metric.distances(query, gallery).numpy()
    expected = data[distances]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    ids = (data["q_pid"], data["q_cam"], data["g_pid"], data["g_cam"])
    metric.normalize = False  # the rows are projected
    scores = score(rank(query, gallery, *ids, metric), len(data["g"]))
    assert scores.map_market == pytest.approx(float(data[f"mAP{suffix}"]), abs=1e-9)
    assert scores.cmc[1] == pytest.approx(float(data[f"rank1{suffix}"]), abs=1e-9)


def slow_scatters(
    rows: NDArray[np.float64], pids: NDArray[np.int64], sides: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int, int]:
    """Return the mean outer products of differences across sides: of one person, of two; and how many there are."""
    sums, counts = np.zeros((2, rows.shape[1], rows.shape[1])), [0, 0]
    for i in range(len(rows)):
        for j in range(i):
            if sides[i] != sides[j]:
                kind = int(pids[i] != pids[j])
                sums[kind] += np.outer(rows[i] - rows[j], rows[i] - rows[j])
                counts[kind] += 1
    return sums[0] / counts[0], sums[1] / counts[1], counts[0], counts[1]


def form_of(metric) -> NDArray[np.float64]:
    """Return the symmetric A [D, D] of a fitted metric's distances (x - y)' A (x - y)."""
    return ((metric.map * metric.signs) @ metric.map.T).numpy()


def assert_close_forms(found: NDArray[np.float64], expected: NDArray[np.float64], tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def assert_a_form(metric, query: Tensor, gallery: Tensor) -> None:
    """Distances are the quadratic form, and the factors' product is the distance less a query's own term."""
    form = form_of(metric)
    apart = query.numpy()[:, None] - gallery.numpy()[None]
    expected = np.einsum("abi,ij,abj->ab", apart, form, apart)
    query, gallery = metric.project(query), metric.project(gallery)
    distances = metric.distances(query, gallery).numpy()
    left, right = metric.factors(query)[0], metric.factors(gallery)[1]
    own = (left * metric.factors(query)[1]).sum(dim=1, keepdim=True)
    # What a form of both signs adds and takes away may be far larger than what is left.
    scale = 1 + np.einsum("abi,ij,abj->ab", apart, (metric.map @ metric.map.T).numpy(), apart).max()
    np.testing.assert_allclose(distances, expected, rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose((left @ right.T - own).numpy(), distances, rtol=0, atol=1e-8 * scale)
    assert metric.distances(query, query).diagonal().eq(0).all()


def assert_rows_stand_alone(metric, rows: Tensor) -> None:
    """What a row gives is the same bits in company and alone, so that equal rows are equally far from everything."""
    raw, rows = rows, metric.project(rows)
    left, right = metric.factors(rows)
    distances = metric.distances(rows, rows)
    for row in (0, len(rows) // 2, len(rows) - 1):
        alone = metric.project(raw[row : row + 1].clone())
        assert metric.factors(alone)[0][0].equal(left[row])
        assert metric.factors(alone)[1][0].equal(right[row])
        assert metric.distances(alone, rows[5:])[0].equal(distances[row, 5:])
        pairs = metric.pair_distances(rows, rows, torch.tensor([0, row]), torch.tensor([1, 5]))
        assert metric.pair_distances(alone, rows, torch.tensor([0]), torch.tensor([5])).equal(pairs[1:])
    single = metric.project(raw.float())
    assert single.dtype == torch.float32
    assert {factor.dtype for factor in metric.factors(single)} == {torch.float32}
    assert metric.distances(single, single).dtype == torch.float32
