"""R-precision and MAP@R against pytorch-metric-learning's AccuracyCalculator, and where the two differ."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

import reidbench


def both(rows, labels, *, backwards=False):
    """Return our two scores and the library's with an exact search, for which equal distances have a known order."""

    def search(query, k, reference, ref_includes_query):
        far = torch.cdist(query.double(), reference.double()).fill_diagonal_(torch.inf)
        order = torch.arange(len(far)).flip(0) if backwards else torch.arange(len(far))
        indices = order[far[:, order].sort(dim=1, stable=True).indices[:, :k]]
        return far.gather(1, indices), indices

    names = ("r_precision", "mean_average_precision_at_r")
    theirs = AccuracyCalculator(include=names, k="max_bin_count", knn_func=search).get_accuracy(rows, labels)
    ours = reidbench.evaluate((rows, labels), metric="euclidean")
    return np.array([ours.r_precision, ours.map_at_r]), np.array([theirs[name] for name in names])


@pytest.mark.parametrize("seed", range(3))
def test_both_are_equal_without_ties_and_single_members(seed):
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.repeat(np.arange(1, 31), 2), random.integers(1, 31, 140)])
    rows = (random.normal(size=(31, 16))[labels] + 1.5 * random.normal(size=(200, 16))).astype(np.float32)
    ours, theirs = both(torch.from_numpy(rows), torch.from_numpy(labels))
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert 0.05 < min(ours) < max(ours) < 0.95


def test_a_class_with_one_member_is_no_query_there_and_0_here():
    labels = torch.where(torch.arange(60) == 7, 13, torch.arange(60) % 12 + 1)
    ours, theirs = both(torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), labels)
    assert ours == pytest.approx(theirs * 59 / 60, abs=1e-6)


def test_ties_are_in_gallery_order_here_and_in_that_of_the_search_there():
    rows, labels = torch.ones(12, 4), torch.tensor([1, 2, 3, 1, 2, 4, 1, 2, 3, 4, 3, 4])
    (ours, theirs), (_, others) = (both(rows, labels, backwards=backwards) for backwards in (False, True))
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert theirs != pytest.approx(others, abs=0.01)
