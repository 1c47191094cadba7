"""adasp, smooth_ap, recall_at_k_surrogate, centre, weighted_regularized_triplet: values against loops over images."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SmoothAPLoss
from torch.nn import functional

from reidbench import Loss, TrainInfo, build
from tests.support.losses import INFO, gradient_of, random_embeddings, slow_distance

ANCHOR = {"true": True, "false": False}


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def similarities(rows):
    return [[1 - slow_distance(a, b, "cosine") for b in rows] for a in rows]


def slow_adasp(rows, labels, tau=0.04, positive="adaptive", weights=None):
    """Return the terms by identity; ``weights`` of the adaptive mean are read from a list, or added to an empty one."""
    s, terms, fixed = similarities(rows), [], list(weights or [])
    for identity in sorted(set(labels)):
        own = [n for n, label in enumerate(labels) if label == identity]
        others = [n for n, label in enumerate(labels) if label != identity]
        negative = sum(math.exp(s[a][b] / tau) for a in own for b in others)
        hard = -tau * math.log(sum(math.exp(-s[a][b] / tau) for a in own for b in own))
        least = tau * math.log(sum(1 / sum(math.exp(-s[a][b] / tau) for b in own) for a in own))
        weight = {"hard": 1, "least_hard": 0}.get(positive, 2 * hard * least / (hard + least) if hard > 0 else 0)
        if fixed:
            weight = fixed.pop(0)
        elif weights is not None:
            weights.append(weight)
        terms.append(math.log1p(negative * math.exp(-(weight * hard + (1 - weight) * least) / tau)))
    return terms


def smooth_lists(rows, labels, t, in_list, is_positive):
    """Yield for each query with a positive the (rank among all, rank among positives) of each of its positives."""
    s = similarities(rows)
    for q, label in enumerate(labels):
        items = [z for z in range(len(rows)) if in_list or z != q]
        positives = [p for p in items if labels[p] == label and (is_positive or p != q)]
        ranks = []
        for p in positives:
            before = {z: sigmoid((s[q][z] - s[q][p]) / t) for z in items if z != p}
            ranks.append((1 + sum(before.values()), 1 + sum(before[z] for z in before if labels[z] == label)))
        if ranks:
            yield ranks


def slow_smooth_ap(rows, labels, t=0.01, query=False):
    lists = smooth_lists(rows, labels, t, query, query)
    return [1 - np.mean([positives / everything for everything, positives in ranks]) for ranks in lists]


def slow_recall(rows, labels, t=0.01, query=False, ks=(1, 2, 4, 8, 16), cut=1.0):
    terms = []
    for ranks in smooth_lists(rows, labels, t, query, False):
        recalls = [min(k, sum(sigmoid((k - rank) / cut) for rank, _ in ranks)) / min(k, len(ranks)) for k in ks]
        terms.append(1 - np.mean(recalls))
    return terms


def slow_weighted(rows, labels, distance="euclidean", anchor=True):
    terms = []
    for a, label in enumerate(labels):
        d = [slow_distance(rows[a], row, distance) for row in rows]
        pull = [d[p] for p in range(len(rows)) if labels[p] == label and (anchor or p != a)] or [0.0]
        push = [d[n] for n in range(len(rows)) if labels[n] != label]
        far = sum(math.exp(x - max(pull)) * x for x in pull) / sum(math.exp(x - max(pull)) for x in pull)
        near = sum(math.exp(min(push) - x) * x for x in push) / sum(math.exp(min(push) - x) for x in push)
        terms.append(math.log1p(math.exp(far - near)))
    return terms


SLOW = {
    **{f"adasp(positive={form})": (slow_adasp, {"positive": form}) for form in ("adaptive", "hard", "least_hard")},
    "adasp(temperature=0.2)": (slow_adasp, {"tau": 0.2}),
    **{
        f"{name}(include_query={word}, temperature={t})": (slow, {"query": ANCHOR[word], "t": t})
        for (name, slow), word, t in product(
            {"smooth_ap": slow_smooth_ap, "recall_at_k_surrogate": slow_recall}.items(), ANCHOR, (0.01, 0.1)
        )
    },
    "recall_at_k_surrogate(ranks=[1, 3], cut_temperature=0.5)": (slow_recall, {"ks": (1, 3), "cut": 0.5}),
    **{
        f"weighted_regularized_triplet(distance={distance}, include_anchor={word})": (
            slow_weighted, {"distance": distance, "anchor": ANCHOR[word]},
        )
        for distance, word in product(("euclidean", "sqeuclidean", "cosine"), ANCHOR)
    },
}  # fmt: skip


@pytest.mark.parametrize("spec", SLOW)
@settings(max_examples=10)
@given(
    labels=st.lists(st.integers(0, 4), min_size=3, max_size=10).filter(lambda x: 1 < len(set(x)) < len(x)),
    seed=st.integers(0, 2**31),
)
def test_values_equal_loops(spec, labels, seed):
    slow, options = SLOW[spec]
    rows = random_embeddings(len(labels), seed=seed, dtype=torch.float64)
    value = build("loss", spec, INFO)(rows, torch.tensor(labels))
    expected = slow(rows.tolist(), labels, **options)
    assert value.per_item["loss"].tolist() == pytest.approx(expected, rel=1e-7, abs=1e-9)
    assert value.total.item() == pytest.approx(np.mean(expected), rel=1e-7, abs=1e-9)


def test_the_adaptive_weight_has_no_gradient():
    rows, labels = random_embeddings(7, dtype=torch.float64), [0, 1, 0, 2, 1, 0, 2]
    # Identities whose images are alike, so that the weights are not 0.
    rows = random_embeddings(3, seed=1, dtype=torch.float64)[labels] + 0.05 * rows
    _, gradient = gradient_of(lambda given: build("loss", "adasp", INFO)(given, torch.tensor(labels)).total, rows)
    weights: list[float] = []
    slow_adasp(rows.tolist(), labels, weights=weights)
    assert min(weights) > 0.1
    direction = random_embeddings(7, seed=2, dtype=torch.float64)
    ends = [np.mean(slow_adasp((rows + h * direction).tolist(), labels, weights=weights)) for h in (1e-6, -1e-6)]
    assert (gradient * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


def test_smooth_ap_equals_the_authors_where_pml_does():
    """pytorch-metric-learning's is theirs where P = K, with the batch sorted; ours in any order and for any P and K."""
    rows, labels = random_embeddings(16, 8, dtype=torch.float64), torch.arange(4).repeat_interleave(4)
    theirs = SmoothAPLoss(temperature=0.01)(functional.normalize(rows), labels)
    ours = build("loss", "smooth_ap(include_query=true)", INFO)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    assert ours(rows[order], labels[order]).total.item() == pytest.approx(theirs.item(), rel=1e-6)
    identities = torch.eye(8, dtype=torch.float64).repeat_interleave(4, dim=0)
    perfect = build("loss", "smooth_ap", INFO)(identities, torch.arange(8).repeat_interleave(4)).total
    assert perfect.item() == pytest.approx(0, abs=1e-9)


def test_recall_of_a_perfect_ranking():
    """Equal positives share a rank, so that the surrogate of a perfect ranking is not 0."""
    rows, labels = torch.eye(8, dtype=torch.float64).repeat_interleave(4, dim=0), torch.arange(8).repeat_interleave(4)
    value = build("loss", "recall_at_k_surrogate", INFO)(rows, labels).total
    expected = 1 - np.mean([min(k, 3 * sigmoid(k - 2)) / min(k, 3) for k in (1, 2, 4, 8, 16)])
    assert value.item() == pytest.approx(expected)


def centre(weight: float = 1.0) -> Loss:
    torch.manual_seed(0)
    loss: Loss = build("loss", f"{weight}*centre", TrainInfo(4, 5))
    return loss.double()


@pytest.mark.parametrize("weight", [1.0, 0.0005])
def test_centres_move_as_by_sgd_whatever_the_weight(weight):
    loss = centre(weight)
    ((_, centres),) = loss.named_buffers()
    slow = centres.clone().requires_grad_()
    optimizer = torch.optim.SGD([slow], lr=0.5)
    labels = torch.tensor([3, 0, 3, 3, 1, 0])
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


def test_weights_of_far_embeddings_sum_to_1():
    """At a distance of 45 the code of the authors gives the closest negative a weight of 0."""
    rows = torch.tensor([[0.0], [1.0], [45.0], [46.0]], dtype=torch.float64)
    value = build("loss", "weighted_regularized_triplet", INFO)(rows, torch.tensor([0, 0, 1, 1]))
    assert value.scalars["weighted_negative"].item() > 44
