"""The Mahalanobis metric against the official results and against loops over pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reidbench
from reidbench import DataError, OptionError
from tests.support.metric_arrays import (
    assert_a_form,
    assert_close_forms,
    assert_official,
    assert_rows_stand_alone,
    form_of,
    people,
    slow_scatters,
)
from tests.support.oracles import oracle


def mahalanobis(options: str = "") -> Any:
    return reidbench.build("metric", f"mahalanobis({options})")


@pytest.mark.parametrize("name", ["kissme_dev", "kissme_clip_dev"])
def test_given_pairs_give_the_official_results(name: str) -> None:
    data = oracle(name)
    metric = mahalanobis(f"pca={data['pca_basis'].shape[1]}")
    metric.fit_pairs(torch.from_numpy(data["train"]), data["train_pid"], data["pair_a"], data["pair_b"])
    assert_official(metric, data, "_mahal", "dist_mahal")


@pytest.mark.parametrize("name", ["kissme_dev", "kissme_clip_dev"])
def test_ids_alone_give_the_official_results(name: str) -> None:
    data = oracle(name)
    metric = mahalanobis(f"pca={data['pca_basis'].shape[1]}")
    metric.fit(torch.from_numpy(data["train"]), data["train_pid"], data["train_cam"])
    assert_official(metric, data, "_mahal", "dist_mahal")


@pytest.mark.parametrize(("dim", "pca"), [(1, 200), (6, 200), (6, 4)])
def test_all_pairs_are_those_of_loops(dim: int, pca: int) -> None:
    rows, pids, cams = people(12, dim, seed=dim)
    metric = mahalanobis(f"pairs=all, pca={pca}, normalize=false")
    metric.fit(rows, pids, cams)
    one, _, _, _ = slow_scatters(rows.numpy(), pids, cams)
    basis = np.linalg.svd(rows.numpy() - rows.numpy().mean(axis=0))[2][: min(pca, dim)].T
    assert_close_forms(form_of(metric), basis @ np.linalg.inv(basis.T @ one @ basis) @ basis.T, 1e-8)


@given(seed=st.integers(0, 10_000), dim=st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_factors_order_as_the_distances_and_both_are_the_form(seed: int, dim: int) -> None:
    rows, pids, cams = people(20, dim, seed=seed)
    metric = mahalanobis("pairs=all")
    metric.fit(rows, pids, cams)
    assert_a_form(metric, people(4, dim, seed=seed + 1).rows, people(9, dim, seed=seed + 2).rows)


def test_distances_are_invariant_to_affine_maps() -> None:
    rows, pids, cams = people(20, 5, seed=4)
    base = mahalanobis("pairs=all")
    base.fit(rows, pids, cams)
    linear = torch.from_numpy(np.random.default_rng(2).normal(size=(5, 5)))
    moved = rows @ linear - 7
    metric = mahalanobis("pairs=all")
    metric.fit(moved, pids, cams)
    moved, rows = metric.project(moved), base.project(rows)
    torch.testing.assert_close(metric.distances(moved, moved), base.distances(rows, rows), rtol=1e-7, atol=1e-7)


def test_a_row_gives_the_same_in_company_and_alone() -> None:
    rows, pids, cams = people(40, 9, seed=3)
    metric = mahalanobis("pairs=all")
    metric.fit(rows, pids, cams)
    assert_rows_stand_alone(metric, rows)


def test_one_identity_is_enough_and_mistakes_are_errors() -> None:
    assert mahalanobis().normalize is True
    assert mahalanobis("normalize=false").normalize is False
    rows, pids, cams = people(6, 2)
    mahalanobis("pairs=all").fit(rows, np.ones_like(pids), cams)
    with pytest.raises(OptionError, match="metric mahalanobis: expected pca"):
        mahalanobis("pca=-1")
    with pytest.raises(DataError, match="mahalanobis: 0 positive"):
        mahalanobis().fit(rows, pids, np.ones_like(cams))
    with pytest.raises(DataError, match=r"metric mahalanobis: .* singular; lower pca"):
        mahalanobis("pairs=all").fit(torch.cat([rows, rows], dim=1), pids, cams)
