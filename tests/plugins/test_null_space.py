"""The null space against the published algorithm by eigen-decompositions, and its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import reidbench
from reidbench import DataError
from reidbench.testing import check_metric
from tests.support.metric_arrays import people


def null_space(options: str = "") -> Any:
    return reidbench.build("metric", f"null_space({options})")


def slow_projection(
    train: NDArray[np.float64], pids: NDArray[np.int64], rows: NDArray[np.float64], kernel: str
) -> NDArray[np.float64]:
    """Project rows as the authors' program does, whose eigen-decompositions take n^3 steps each."""

    def squares(a: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((a[:, None] - train[None]) ** 2).sum(axis=2)

    def products(a: NDArray[np.float64]) -> NDArray[np.float64]:
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


def between(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))


@pytest.mark.parametrize(
    ("kernel", "dim", "count", "each"),
    [("rbf", 6, 12, (2, 7)), ("rbf", 60, 40, (1, 7)), ("linear", 300, 30, (2, 7)), ("linear", 120, 20, (1, 5))],
)
def test_distances_are_those_of_the_published_algorithm(
    kernel: str, dim: int, count: int, each: tuple[int, int]
) -> None:
    train, pids, cams = people(count, dim, seed=dim, each=each)
    query, gallery = people(3, dim, seed=1).rows, people(9, dim, seed=2).rows
    metric = null_space(f"kernel={kernel}")
    metric.fit(train, pids, cams)
    found = metric.distances(metric.project(query), metric.project(gallery)).numpy()
    slow = [slow_projection(train.numpy(), pids, rows.numpy(), kernel) for rows in (query, gallery)]
    assert metric.project(query).shape == slow[0].shape == (len(query), count - 1)
    np.testing.assert_allclose(found, between(*slow), rtol=0, atol=1e-10)


def test_each_training_identity_is_one_point() -> None:
    rows, pids, cams = people(15, 8, seed=1)
    metric = null_space()
    metric.fit(rows, pids, cams)
    points = metric.project(rows).numpy()
    apart = between(points, points)
    same = pids[:, None] == pids[None]
    assert apart[same].max() < 1e-10
    assert apart[~same].min() > 1e-2
    scores = reidbench.evaluate((rows, pids, cams), train=(rows, pids, cams), metric="null_space")
    assert scores.map_market == pytest.approx(1 - scores.unmatched / len(pids))


def test_scale_offset_order_and_copies_of_an_identity_change_nothing() -> None:
    rows, pids, cams = people(10, 6, seed=2)
    test = people(5, 6, seed=3).rows
    order = np.random.default_rng(0).permutation(len(pids))
    copied = np.concatenate([np.arange(len(pids)), [4, 4, 9]])

    def distances(train: Any, ids: Any, moved: Any) -> NDArray[np.float64]:
        metric = null_space()
        metric.fit(train, ids, np.ones_like(ids))
        projected = metric.project(moved)
        found: NDArray[np.float64] = metric.distances(projected, projected).numpy()
        return found

    expected = distances(rows, pids, test)
    for train, ids, moved in (
        (rows * 1e6, pids, test * 1e6),
        (rows + 1e4, pids, test + 1e4),
        (rows[order], pids[order], test),
        (rows, 1000 - pids, test),
    ):
        np.testing.assert_allclose(distances(train, ids, moved), expected, rtol=0, atol=1e-6)
    # The mean of all squared distances, which sets the width of the kernel, counts copies.
    slow = slow_projection(rows.numpy(), pids, test.numpy(), "rbf")
    np.testing.assert_allclose(between(slow, slow), expected, rtol=0, atol=1e-10)
    width = torch.cdist(rows[copied], rows[copied]).square().mean() / torch.cdist(rows, rows).square().mean()
    narrowed = null_space()
    narrowed.fit(rows[copied], pids[copied], cams)
    assert narrowed.scale / width.item() == pytest.approx(torch.cdist(rows, rows).square().mean().item())
    assert narrowed.project(rows).numpy() == pytest.approx(narrowed.project(rows[order])[np.argsort(order)].numpy())


def test_the_contract_holds() -> None:
    assert "a projected row does not depend on the others" in check_metric("null_space(normalize=true)")


def test_mistakes_are_errors() -> None:
    rows, pids, cams = people(12, 6)
    with pytest.raises(DataError, match="null_space: it is not fitted"):
        null_space().project(rows)
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
    near = rows.clone()
    near[5] = near[3] + 1e-11
    with pytest.raises(DataError, match=rf"singular: embedding 5 \(pid {pids[5]}\)"):
        null_space().fit(near, pids, cams)
    metric = null_space()
    metric.fit(rows, pids, cams)
    with pytest.raises(DataError, match="embeddings have 3 dimensions, those that it was fitted on 6"):
        metric.project(rows[:, :3])
