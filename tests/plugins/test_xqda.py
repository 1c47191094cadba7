"""XQDA against the official results, against loops over pairs, and through a run."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_metrics.pairs import counts_across, halves, scatters_across

import reidbench
from reidbench import DataError, OptionError, stream
from reidbench.ranking.scores import score
from tests.support import metric_arrays as arrays
from tests.support.oracles import oracle
from tests.support.rankings import rank_distances


def xqda(options: str = ""):
    return reidbench.build("metric", f"xqda({options})")


def slow_form(intra, extra, lam, dims):
    intra = intra + lam * np.eye(len(intra))
    vectors, values, _ = np.linalg.svd(np.linalg.inv(intra) @ extra)
    kept = vectors[:, : min(dims, max(1, (values > 1).sum()))]
    middle = np.linalg.inv(kept.T @ intra @ kept) - np.linalg.inv(kept.T @ extra @ kept)
    return kept @ middle @ kept.T


@pytest.mark.parametrize("name", ["xqda_dev", "xqda_qr_dev"])
def test_given_pairs_give_the_official_results(name):
    data, metric = oracle(name), xqda()
    metric.fit_pairs(torch.from_numpy(data["train"]), data["train_pid"], data["pair_ind1"], data["pair_ind2"])
    assert metric.map.shape[1] == data["qda_dims"]
    arrays.assert_close_forms(arrays.form_of(metric), data["WMWt"])
    arrays.assert_official(metric, data, "", "dist")


def test_re_ranking_over_xqda_is_the_official_one():
    data, learned, metric = oracle("rerank_xqda_dev"), oracle("xqda_dev"), xqda()
    metric.fit_pairs(
        torch.from_numpy(learned["train"]), learned["train_pid"], learned["pair_ind1"], learned["pair_ind2"]
    )
    reranker = reidbench.build("reranker", "k_reciprocal(k1=20, k2=6, lam=0.3)")
    query, gallery = (metric.project(torch.from_numpy(learned[side])) for side in ("q", "g"))
    metric.normalize = False  # the rows are projected
    blocks = reranker.blocks(query, gallery, metric, 64)
    distances = torch.cat(list(blocks)).numpy()
    np.testing.assert_allclose(distances, data["dist"], atol=5e-6)
    ids = (learned["q_pid"], learned["q_cam"], learned["g_pid"], learned["g_cam"])
    scores = score(rank_distances([distances], *ids), len(learned["g"]))
    assert scores.map_market == pytest.approx(float(data["mAP"]), abs=1e-6)
    np.testing.assert_allclose([scores.cmc[at] for at in (1, 5, 10, 20)], data["rank1_5_10_20"], atol=1e-9)


@pytest.mark.parametrize(
    ("dim", "lam", "dims"), [(1, 0.001, 9), (6, 0.001, 99), (6, 0.5, 99), (6, 0.0, 2), (80, 0.01, 5), (80, 0.01, 99)]
)
def test_all_pairs_are_those_of_loops(dim, lam, dims):
    rows, pids, cams = arrays.people(10, dim, seed=dim)
    metric = xqda(f"pairs=all, lam={lam}, dims={dims}, normalize=false")
    metric.fit(rows, pids, cams)
    intra, extra, _, _ = arrays.slow_scatters(rows.numpy(), pids, cams)
    arrays.assert_close_forms(arrays.form_of(metric), slow_form(intra, extra, lam, dims), 1e-8)


def test_official_pairs_of_both_halves():
    rows, pids, cams = arrays.people(14, 5, seed=1)
    metric = xqda("seed=3")
    metric.fit(rows, pids, cams)
    first, second = halves(pids, cams, stream(3, "xqda", "pairs"))
    both, sides = np.concatenate([first, second]), np.repeat([0, 1], len(first))
    intra, extra, _, _ = arrays.slow_scatters(rows[both].numpy(), pids[both], sides)
    arrays.assert_close_forms(arrays.form_of(metric), slow_form(intra, extra, 0.001, 99))
    largest = metric.map.gather(0, metric.map.abs().argmax(dim=0, keepdim=True))
    assert (largest > 0).all()


@given(seed=st.integers(0, 10_000), count=st.integers(1, 6), cams=st.integers(1, 3), dim=st.integers(1, 4))
@settings(max_examples=40)
def test_sums_over_pairs_and_halves_of_people(seed, count, cams, dim):
    rows, pids, seen = arrays.people(count, dim, cams, seed, each=(1, 6))
    first, second = halves(pids, seen, np.random.default_rng(seed))
    assert len(np.unique(np.concatenate([first, second]))) == 2 * len(first)
    assert (pids[first] == pids[second]).all()
    assert (seen[first] != seen[second]).all()
    if cams > 1 and max(counts_across(pids, seen)) > 0:
        one, two = scatters_across(rows, rows.mean(dim=0), pids, seen)
        with np.errstate(invalid="ignore"):
            intra, extra, within, between = arrays.slow_scatters(rows.numpy(), pids, seen)
        assert counts_across(pids, seen) == (within, between)
        for found, expected, number in ((one, intra, within), (two, extra, between)):
            np.testing.assert_allclose(found.numpy(), np.nan_to_num(expected) * number, rtol=1e-9, atol=1e-9)


def test_halves_pair_all_units_where_cameras_differ():
    pids, cams = np.array([5, 2, 5, 2, 5, 2, 2, 9]), np.arange(8)
    first, _ = halves(pids, cams, np.random.default_rng(0))
    assert sorted(pids[first]) == [2, 2, 5]
    drawn = {tuple(halves(pids, cams, np.random.default_rng(seed))[0]) for seed in range(20)}
    assert len(drawn) > 5


def test_distances_may_be_negative():
    rows, pids, cams = arrays.people(4, 12, seed=0)
    metric = xqda("pairs=all, normalize=false")
    metric.fit(rows, pids, cams)
    assert metric.signs.min() == -1, "the case should have a direction in which one person differs more than two"
    at = metric.mean
    far = at + torch.linalg.pinv(metric.map.T)[:, -1]
    assert metric.distances(metric.project(at[None]), metric.project(far[None])).item() == pytest.approx(-1)
    arrays.assert_a_form(metric, rows[:5], rows)


def test_mistakes_are_errors():
    for options in ("dims=0", "lam=-1"):
        with pytest.raises(OptionError, match="metric xqda: expected dims"):
            xqda(options)
    rows, pids, cams = arrays.people(6, 4)
    flat = torch.cat([rows, rows[:, :1]], dim=1)
    with pytest.raises(DataError, match=r"singular; raise lam \(rank 4 of 5\)"):
        xqda("pairs=all, lam=0").fit(flat, pids, cams)
    with pytest.raises(DataError, match="negative pairs is singular in the subspace"):
        xqda("pairs=all").fit(torch.ones_like(rows), pids, cams)
