"""The Mahalanobis metric against the official results and against loops over pairs."""

import numpy as np
import pytest
import torch

import reidbench
from reidbench import DataError, OptionError
from tests.support.metric_arrays import assert_close_forms, assert_official, form_of, people, slow_scatters
from tests.support.oracles import oracle


def mahalanobis(options: str = ""):
    return reidbench.build("metric", f"mahalanobis({options})")


@pytest.mark.parametrize("name", ["kissme_dev", "kissme_clip_dev"])
def test_given_pairs_and_ids_alone_give_the_official_results(name):
    data = oracle(name)
    of_pairs, of_ids = (mahalanobis(f"pca={data['pca_basis'].shape[1]}") for _ in range(2))
    train = torch.from_numpy(data["train"]), data["train_pid"]
    of_pairs.fit_pairs(*train, data["pair_a"], data["pair_b"])
    of_ids.fit(*train, data["train_cam"])
    for metric in (of_pairs, of_ids):
        assert_official(metric, data, "_mahal", "dist_mahal")


@pytest.mark.parametrize(("dim", "pca"), [(1, 200), (6, 200), (6, 4)])
def test_all_pairs_are_those_of_loops(dim, pca):
    rows, pids, cams = people(12, dim, seed=dim)
    metric = mahalanobis(f"pairs=all, pca={pca}, normalize=false")
    metric.fit(rows, pids, cams)
    one, _, _, _ = slow_scatters(rows.numpy(), pids, cams)
    basis = np.linalg.svd(rows.numpy() - rows.numpy().mean(axis=0))[2][: min(pca, dim)].T
    assert_close_forms(form_of(metric), basis @ np.linalg.inv(basis.T @ one @ basis) @ basis.T, 1e-8)


def test_one_identity_is_enough_and_mistakes_are_errors():
    rows, pids, cams = people(6, 2)
    mahalanobis("pairs=all").fit(rows, np.ones_like(pids), cams)
    with pytest.raises(OptionError, match="metric mahalanobis: expected pca"):
        mahalanobis("pca=-1")
    with pytest.raises(DataError, match=r"metric mahalanobis: .* singular; lower pca"):
        mahalanobis("pairs=all").fit(torch.cat([rows, rows], dim=1), pids, cams)
