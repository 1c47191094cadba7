"""adasp, smooth_ap, recall_at_k_surrogate, centre, weighted_regularized_triplet: values against loops over images."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SmoothAPLoss
from scipy.spatial.distance import cdist
from scipy.special import expit, softmax
from torch.nn import functional

from reidbench import TrainInfo, build
from tests.support.cases import cases
from tests.support.losses import INFO, gradient_of, random_embeddings


def slow_adasp(rows, labels, tau=0.04, positive="adaptive", weights=None):
    """Return the terms by identity; the weights of the adaptive mean are those in ``weights``, or added to it."""
    s, terms = 1 - cdist(rows, rows, "cosine"), []
    for identity in np.unique(labels).tolist():
        own = labels == identity
        within = np.exp(-s[own][:, own] / tau)
        hard, least_hard = -tau * np.log(within.sum()), tau * np.log((1 / within.sum(axis=1)).sum())
        weight = {"hard": 1, "least_hard": 0}.get(positive, 2 * hard * least_hard / (hard + least_hard))
        weight = ({} if weights is None else weights).setdefault(identity, 0 if hard < 0 and weight != 1 else weight)
        similarity = weight * hard + (1 - weight) * least_hard
        terms.append(np.log1p(np.exp(s[own][:, ~own] / tau).sum() * np.exp(-similarity / tau)))
    return terms


def smooth_ranks(rows, labels, t, listed, positive):
    """Yield the ranks of the positives of each query that has any, among all images and among the positives."""
    s, images = 1 - cdist(rows, rows, "cosine"), np.arange(len(rows))
    for q, same in enumerate(labels[:, None] == labels):
        ranks = []
        for p in images[same & (positive | (images != q))]:
            before = np.where((listed | (images != q)) & (images != p), expit((s[q] - s[q, p]) / t), 0)
            ranks.append((1 + before.sum(), 1 + before[same].sum()))
        if ranks:
            yield np.array(ranks).T


def slow_smooth_ap(rows, labels, t=0.01, listed=False):
    return [1 - np.mean(own / every) for every, own in smooth_ranks(rows, labels, t, listed, listed)]


def slow_recall(rows, labels, t=0.01, listed=False, ks=(1, 2, 4, 8, 16), cut=1.0):
    ranks = [every for every, _ in smooth_ranks(rows, labels, t, listed, False)]
    return [1 - np.mean([min(k, expit((k - each) / cut).sum()) / min(k, len(each)) for k in ks]) for each in ranks]


def slow_weighted(rows, labels, distance="euclidean", anchor=True):
    terms = []
    for a, d in enumerate(cdist(rows, rows, distance)):
        same = labels == labels[a]
        pull, push = d[same & (anchor | (np.arange(len(d)) != a))], d[~same]
        terms.append(np.log1p(np.exp((softmax(pull) @ pull if len(pull) else 0) - softmax(-push) @ push)))
    return terms


@pytest.mark.parametrize(("spec", "slow", "options"), cases(__file__, "values_equal_loops"))
@settings(max_examples=15)
@given(
    labels=st.lists(st.integers(0, 4), min_size=3, max_size=10).filter(lambda x: 1 < len(set(x)) < len(x)),
    seed=st.integers(0, 2**31),
)
def test_values_equal_loops(spec, slow, options, labels, seed):
    rows = random_embeddings(len(labels), seed=seed, dtype=torch.float64)
    value = build("loss", spec, INFO)(rows, torch.tensor(labels))
    expected = globals()[slow](rows.numpy(), np.array(labels), **options)
    assert value.per_item["loss"].tolist() == pytest.approx(expected, rel=1e-7, abs=1e-9)
    assert value.total.item() == pytest.approx(np.mean(expected), rel=1e-7, abs=1e-9)


def test_the_adaptive_weight_has_no_gradient():
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 2])
    # Images of an identity are alike, so that the weights are not 0.
    rows = random_embeddings(3, seed=1, dtype=torch.float64)[labels] + 0.05 * random_embeddings(7, dtype=torch.float64)
    _, gradient = gradient_of(lambda given: build("loss", "adasp", INFO)(given, labels).total, rows)
    weights: dict[int, float] = {}
    slow_adasp(rows, labels.numpy(), weights=weights)
    assert min(weights.values()) > 0.1
    step = 1e-6 * random_embeddings(7, seed=2, dtype=torch.float64)
    above, below = (np.mean(slow_adasp(ends, labels.numpy(), weights=weights)) for ends in (rows + step, rows - step))
    assert (gradient * step).sum().item() == pytest.approx((above - below) / 2, rel=1e-5)


def test_smooth_ap_equals_that_of_the_library_where_p_is_k():
    """There the library's is that of the authors, for a sorted batch; ours in any order, and for any P and K."""
    rows, labels = random_embeddings(16, 8, dtype=torch.float64), torch.arange(4).repeat_interleave(4)
    theirs = SmoothAPLoss(temperature=0.01)(functional.normalize(rows), labels)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    ours = build("loss", "smooth_ap(include_query=true)", INFO)(rows[order], labels[order])
    assert ours.total.item() == pytest.approx(theirs.item(), rel=1e-6)
    identities, labels = torch.eye(8).repeat_interleave(4, dim=0), torch.arange(8).repeat_interleave(4)
    assert build("loss", "smooth_ap", INFO)(identities, labels).total.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("weight", [1.0, 0.0005])
def test_centres_move_as_by_sgd_whatever_the_weight(weight):
    torch.manual_seed(0)
    loss = build("loss", f"{weight}*centre", TrainInfo(4, 5)).double()
    ((_, centres),) = loss.named_buffers()
    slow, labels = centres.clone().requires_grad_(), torch.tensor([3, 0, 3, 3, 1, 0])
    optimizer = torch.optim.SGD([slow], lr=0.5)
    for step in range(3):
        rows = random_embeddings(6, seed=step, dtype=torch.float64)
        expected = (rows - slow[labels]).square().sum(dim=1).mean()
        total, gradient = gradient_of(lambda given: loss(given, labels).total, rows)
        assert total.item() == pytest.approx(weight * expected.item())
        torch.testing.assert_close(gradient, weight * 2 / 6 * (rows - slow[labels].detach()))
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        torch.testing.assert_close(centres, slow.detach())
    before = centres.clone()
    loss.eval()(rows, labels)
    assert torch.equal(centres, before), "only a training moves them"


def test_weights_of_far_negatives_sum_to_1():
    """At a distance of 45 the code of the authors gives the closest negative a weight of 0."""
    rows, labels = torch.tensor([[0.0], [1.0], [45.0], [46.0]]), torch.tensor([0, 0, 1, 1])
    assert build("loss", "weighted_regularized_triplet", INFO)(rows, labels).scalars["weighted_negative"] > 44
