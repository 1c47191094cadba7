"""The null space against the published algorithm by eigen-decompositions, and its errors."""

import numpy as np
import pytest
import torch

import reidbench
from reidbench import DataError
from reidbench.testing import check_metric
from tests.support.metric_arrays import people


def null_space(options: str = ""):
    return reidbench.build("metric", f"null_space({options})")


def slow_projection(train, pids, rows, kernel):
    """Project rows as the authors' program does, whose eigen-decompositions take n^3 steps each."""

    def squares(a):
        return ((a[:, None] - train[None]) ** 2).sum(axis=2)

    def products(a):
        return a @ train.T if kernel == "linear" else np.exp(-squares(a) / squares(train).mean())

    size = len(train)
    centring = np.eye(size) - 1 / size
    same = pids[:, None] == pids[None]
    values, vectors = np.linalg.eigh(centring @ products(train) @ centring)
    positive = values > 1e-12
    basis = centring @ vectors[:, positive] / np.sqrt(values[positive])
    within = basis.T @ products(train) @ (np.eye(size) - same / same.sum(axis=1))
    total = within @ within.T
    left, singular, _ = np.linalg.svd(total)
    null = left[:, singular <= len(total) * np.spacing(singular.max())]
    return products(rows) @ basis @ null


def between(a, b):
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))


@pytest.mark.parametrize(
    ("kernel", "dim", "count", "each"),
    [("rbf", 6, 12, (2, 7)), ("rbf", 60, 40, (1, 7)), ("linear", 300, 30, (2, 7)), ("linear", 120, 20, (1, 5))],
)
def test_distances_are_those_of_the_published_algorithm(kernel, dim, count, each):
    train, pids, cams = people(count, dim, seed=dim, each=each)
    query, gallery = people(3, dim, seed=1).rows, people(9, dim, seed=2).rows
    metric = null_space(f"kernel={kernel}")
    metric.fit(train, pids, cams)
    found = metric.distances(metric.project(query), metric.project(gallery)).numpy()
    slow = [slow_projection(train.numpy(), pids, rows.numpy(), kernel) for rows in (query, gallery)]
    assert metric.project(query).shape == slow[0].shape == (len(query), count - 1)
    np.testing.assert_allclose(found, between(*slow), rtol=0, atol=1e-10)


def test_each_training_identity_is_one_point_and_copies_set_the_width_alone():
    rows, pids, cams = people(15, 8, seed=1)
    copied = np.concatenate([np.arange(len(pids)), [4, 4, 9]])
    for chosen in (slice(None), copied):
        metric = null_space()
        metric.fit(rows[chosen], pids[chosen], cams[chosen])
        assert metric.scale == pytest.approx(torch.cdist(rows[chosen], rows[chosen]).square().mean().item())
        points = metric.project(rows).numpy()
        apart, same = between(points, points), pids[:, None] == pids[None]
        assert apart[same].max() < 1e-10
        assert apart[~same].min() > 1e-2


def test_scale_offset_and_order_change_nothing():
    rows, pids, cams = people(10, 6, seed=2)
    test, order = people(5, 6, seed=3).rows, np.random.default_rng(0).permutation(len(pids))
    expected = slow_projection(rows.numpy(), pids, test.numpy(), "rbf")
    for train, ids, moved in (
        (rows * 1e6, pids, test * 1e6),
        (rows + 1e4, pids, test + 1e4),
        (rows[order], pids[order], test),
        (rows, 1000 - pids, test),
    ):
        metric = null_space()
        metric.fit(train, ids, cams)
        found = metric.project(moved).numpy()
        np.testing.assert_allclose(between(found, found), between(expected, expected), rtol=0, atol=1e-6)


def test_the_contract_holds():
    assert "a projected row does not depend on the others" in check_metric("null_space(normalize=true)")


def test_mistakes_are_errors():
    rows, pids, cams = people(12, 6)
    with pytest.raises(DataError, match="1 training identities"):
        null_space().fit(rows, np.ones_like(pids), cams)
    first, second = 2, int(np.flatnonzero(pids != pids[2])[-1])
    equal = rows.clone()
    equal[second] = rows[first]
    named = rf"embeddings {first} and {second} are equal.* {pids[first]} and {pids[second]}"
    with pytest.raises(DataError, match=named):
        null_space().fit(equal, pids, cams)
    with pytest.raises(DataError, match=rf"{len(rows)} .* of 12 identities in 6 dimensions.* {len(rows) - 12} "):
        null_space("kernel=linear").fit(rows, pids, cams)
    wide = torch.cat([rows] * 14, dim=1)
    with pytest.raises(DataError, match=r"in 84 dimensions is singular: embedding \d+ \(pid \d+\) depends on"):
        null_space("kernel=linear").fit(wide, pids, cams)
