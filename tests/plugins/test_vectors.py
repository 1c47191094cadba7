"""The metrics on embeddings as they are: values, and that a pair's value depends on its two rows alone."""

from __future__ import annotations

import math

import pytest
import torch

import reidbench
from reidbench import Metric


@pytest.fixture
def euclidean() -> Metric:
    return reidbench.build("metric", "euclidean")


def rows(count: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_euclidean_distances_are_those_of_math(euclidean: Metric) -> None:
    a, b = rows(4, 7, 0), rows(5, 7, 1)
    expected = [[math.dist(x, y) for y in b.tolist()] for x in a.tolist()]
    torch.testing.assert_close(euclidean.distances(a, b), torch.tensor(expected, dtype=torch.float64))


def test_euclidean_of_identical_rows_is_zero_far_from_the_origin(euclidean: Metric) -> None:
    x = rows(60, 130, 2).float() + 3_000
    assert euclidean.distances(x, x).diagonal().eq(0).all()
    moved = x.clone()
    moved[:, 0] += 1
    torch.testing.assert_close(euclidean.distances(x, moved).diagonal(), torch.ones(60))


def test_euclidean_factors_order_as_the_distances(euclidean: Metric) -> None:
    query, gallery = rows(6, 5, 3), rows(50, 5, 4)
    left, right = euclidean.factors(query)[0], euclidean.factors(gallery)[1]
    squares = left @ right.T + query.square().sum(dim=1, keepdim=True)
    torch.testing.assert_close(squares.sqrt(), euclidean.distances(query, gallery))


@pytest.mark.parametrize("dim", [1, 3, 16, 129, 2048])
def test_euclidean_of_a_pair_depends_on_its_rows_alone(euclidean: Metric, dim: int) -> None:
    x = rows(70, dim, 5)
    x[50] = x[3]
    left, right = euclidean.factors(x)
    distances = euclidean.distances(x, x)
    assert right[50].equal(right[3])
    for row in (0, 3, 69):
        alone = x[row : row + 1].clone()
        assert euclidean.factors(alone)[0][0].equal(left[row])
        assert euclidean.factors(alone)[1][0].equal(right[row])
        assert euclidean.distances(alone, x[10:50])[0].equal(distances[row, 10:50])


def test_euclidean_keeps_the_dtype_and_declares_its_normalisation(euclidean: Metric) -> None:
    assert euclidean.normalize is False
    assert reidbench.build("metric", "euclidean(normalize=true)").normalize is True
    for dtype in (torch.float32, torch.float64):
        x = rows(3, 2, 6).to(dtype)
        assert euclidean.distances(x, x).dtype == dtype
        assert {factor.dtype for factor in euclidean.factors(x)} == {dtype}
