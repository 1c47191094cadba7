"""The metrics on embeddings as they are: values, and that a pair's value depends on its two rows alone."""

import math

import pytest
import torch

import reidbench
from tests.support.metric_arrays import assert_rows_stand_alone


def rows(count: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_euclidean_of_identical_rows_is_zero_far_from_the_origin():
    euclidean = reidbench.build("metric", "euclidean")
    x = rows(60, 130, 2).float() + 3_000
    assert euclidean.distances(x, x).diagonal().eq(0).all()
    moved = x.clone()
    moved[:, 0] += 1
    torch.testing.assert_close(euclidean.distances(x, moved).diagonal(), torch.ones(60))


@pytest.mark.parametrize("name", ["euclidean", "sqeuclidean", "cosine"])
@pytest.mark.parametrize("dim", [1, 3, 16, 129, 2048])
def test_a_pair_depends_on_its_rows_alone(name, dim):
    metric = reidbench.build("metric", name)
    x = rows(70, dim, 5)
    x[50] = x[3]
    assert_rows_stand_alone(metric, x)
    assert metric.factors(x)[1][50].equal(metric.factors(x)[1][3])


def test_distances_equal_the_formulas():
    a, b = rows(4, 7, 0), rows(5, 7, 1)
    squares = [[sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) for y in b.tolist()] for x in a.tolist()]
    cosines = [
        [1 - sum(p * q for p, q in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y) for y in b.tolist()]
        for x in a.tolist()
    ]
    roots = [[math.dist(x, y) for y in b.tolist()] for x in a.tolist()]
    for name, expected in (("euclidean", roots), ("sqeuclidean", squares), ("cosine", cosines)):
        found = reidbench.build("metric", name).distances(a, b)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_cosine_looks_at_directions_alone():
    cosine = reidbench.build("metric", "cosine")
    assert cosine.normalize is True
    x = rows(6, 5, 1)
    lengths = torch.tensor([1e-30, 1e-3, 0.5, 2.0, 7.0, 1e30], dtype=torch.float64)[:, None]
    torch.testing.assert_close(cosine.distances(x * lengths, x), cosine.distances(x, x))
    assert cosine.distances(x, x).diagonal().eq(0).all()
    torch.testing.assert_close(cosine.distances(x, -x).diagonal(), torch.full((6,), 2.0, dtype=torch.float64))
    near = torch.tensor([[1.0, 0.0], [1.0, 1e-9]], dtype=torch.float64)
    assert cosine.distances(near, near)[0, 1].item() == pytest.approx(5e-19)
    zero = torch.zeros(1, 5, dtype=torch.float64)
    assert cosine.distances(zero, torch.cat([x, zero])).eq(1).all()
    assert cosine.pair_distances(zero, torch.cat([x, zero]), torch.zeros(7).long(), torch.arange(7)).eq(1).all()
    assert (cosine.factors(zero)[0] @ cosine.factors(x)[1].T).eq(0).all()


def test_sqeuclidean_ranks_as_euclidean():
    x = rows(5, 4, 2)
    squared, plain = reidbench.build("metric", "sqeuclidean"), reidbench.build("metric", "euclidean")
    assert all(a.equal(b) for a, b in zip(squared.factors(x), plain.factors(x), strict=True))
    for name in ("sqeuclidean", "euclidean"):
        built = [reidbench.build("metric", f"{name}{options}").normalize for options in ("", "(normalize=true)")]
        assert built == [False, True]
