"""KISSME against the official results and against loops over pairs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_metrics.pairs import negatives, positives

import reidbench
from reidbench import DataError, OptionError, stream
from tests.support.metric_arrays import assert_close_forms, assert_official, form_of, people, slow_scatters
from tests.support.oracles import oracle


def kissme(options: str = ""):
    return reidbench.build("metric", f"kissme({options})")


def components(rows, count):
    """The first principal directions [D, count], from the centred rows themselves."""
    return np.linalg.svd(rows - rows.mean(axis=0))[2][:count].T


def slow_form(basis, one, two):
    matrix = np.linalg.inv(basis.T @ one @ basis) - np.linalg.inv(basis.T @ two @ basis)
    values, vectors = np.linalg.eigh(matrix)
    if values.min() <= 0:
        values = np.array([value if value > 1e-10 else 1e-6 for value in values])
    return basis @ vectors @ np.diag(values) @ vectors.T @ basis.T


@pytest.mark.parametrize("name", ["kissme_dev", "kissme_clip_dev"])
def test_pairs_are_the_official_ones_and_give_the_official_results(name):
    data = oracle(name)
    metric = kissme(f"pca={data['pca_basis'].shape[1]}")
    metric.fit_pairs(torch.from_numpy(data["train"]), data["train_pid"], data["pair_a"], data["pair_b"])
    assert_close_forms(form_of(metric), data["pca_basis"] @ data["M_kissme"] @ data["pca_basis"].T)
    assert_official(metric, data, "_kissme", "dist_kissme")
    for mine, theirs in zip(positives(data["train_pid"], data["train_cam"]), ("pair_a", "pair_b"), strict=True):
        np.testing.assert_array_equal(mine, data[theirs][data["pair_same"]])


@pytest.mark.parametrize(("dim", "pca"), [(1, "200"), (6, "200"), (6, "4"), (6, "none")])
def test_all_pairs_are_those_of_loops(dim, pca):
    rows, pids, cams = people(12, dim, seed=dim)
    metric = kissme(f"pairs=all, pca={pca}, normalize=false")
    metric.fit(rows, pids, cams)
    basis = components(rows.numpy(), 4 if pca == "4" else dim)
    one, two, _, _ = slow_scatters(rows.numpy(), pids, cams)
    assert_close_forms(form_of(metric), slow_form(basis, one, two), 1e-8)


def test_matrix_becomes_positive_definite():
    rows, pids, cams = people(40, 5, seed=0)
    pids = np.random.default_rng(0).permutation(pids)  # who is who says nothing: differences are alike
    metric = kissme("pairs=all, normalize=false")
    metric.fit(rows, pids, cams)
    one, two, _, _ = slow_scatters(rows.numpy(), pids, cams)
    assert np.linalg.eigvalsh(np.linalg.inv(one) - np.linalg.inv(two)).min() < 0, "the case should need mending"
    assert_close_forms(form_of(metric), slow_form(np.eye(5), one, two), 1e-8)
    assert np.linalg.eigvalsh(form_of(metric)).min() == pytest.approx(1e-6, rel=1e-6)
    projected = metric.project(rows)
    assert (metric.distances(projected, projected) >= 0).all()


def test_official_pairs_are_every_tenth_of_both_kinds():
    rows, pids, cams = people(40, 4, seed=2)
    metric = kissme("seed=5")
    metric.fit(rows, pids, cams)
    first, second = positives(pids, cams)
    others = negatives(pids, cams, len(first), stream(5, "kissme", "pairs"))
    pairs = np.concatenate([np.stack([first, second], axis=1), np.stack(others, axis=1)])[::10]
    sums, counts = np.zeros((2, 4, 4)), [0, 0]
    for a, b in pairs:
        kind = int(pids[a] != pids[b])
        sums[kind] += np.outer(rows[a] - rows[b], rows[a] - rows[b])
        counts[kind] += 1
    assert abs(counts[0] - counts[1]) <= 1
    assert_close_forms(form_of(metric), slow_form(np.eye(4), sums[0] / counts[0], sums[1] / counts[1]), 1e-8)


@given(seed=st.integers(0, 10_000), count=st.integers(2, 6), wanted=st.integers(0, 3_000))
@settings(max_examples=30)
def test_positive_and_negative_pairs_across_cameras(seed, count, wanted):
    _, pids, cams = people(count, 1, 3, seed, each=(1, 6))
    first, second = positives(pids, cams)
    expected = {(a, b) for b in range(len(pids)) for a in range(b) if pids[a] == pids[b] and cams[a] != cams[b]}
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == sorted(expected)
    possible = {(a, b) for a in range(len(pids)) for b in range(len(pids)) if pids[a] != pids[b] and cams[a] != cams[b]}
    if possible:
        first, second = negatives(pids, cams, wanted, np.random.default_rng(seed))
        assert len(first) == len(second) == wanted
        drawn = set(zip(first.tolist(), second.tolist(), strict=True))
        assert drawn <= possible
        assert wanted < 2_000 or drawn == possible


def test_mistakes_are_errors():
    with pytest.raises(OptionError, match="metric kissme: expected pca of none or at least 1"):
        kissme("pca=0")
    rows, pids, cams = people(6, 4)
    with pytest.raises(DataError, match=r"positive pairs in 4 dimensions is singular; lower pca, try pairs=all"):
        kissme().fit(rows, pids, cams)
    first, second = positives(pids, cams)
    with pytest.raises(DataError, match=r"covariance of 0 negative pairs"):
        kissme("pca=1").fit_pairs(rows, pids, first, second)
