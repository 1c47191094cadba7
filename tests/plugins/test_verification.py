"""verification and I+V: values against cross entropy by hand, rounds of pairs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.classification import Classification
from reidbench_losses.verification import IdentificationVerification, Verification, pair_round, positive_share

from reidbench import TrainInfo, TrainingError
from reidbench.plugins.catalogue import load
from tests.support.tiny_training import view_of

INFO = TrainInfo(embedding_dim=5, num_pids=7)


def cross_entropy(x: list[float], layer: torch.nn.Linear, label: int) -> float:
    logits = [
        sum(w * v for w, v in zip(weights, x, strict=True)) + bias
        for weights, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]
    return math.log(sum(math.exp(logit - logits[label]) for logit in logits))


def batch(pairs, seed):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(2 * pairs, 5, dtype=torch.float64, generator=generator)
    return embeddings, torch.randint(0, 2, (2 * pairs,), generator=generator)


@pytest.mark.parametrize("difference", ["squared", "absolute"])
@settings(max_examples=15)
@given(pairs=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_the_loss_is_the_cross_entropy_of_same_or_different(difference, pairs, seed):
    torch.manual_seed(seed)
    loss = Verification(INFO, difference=difference).double()
    embeddings, labels = batch(pairs, seed)
    value = loss(embeddings, labels)
    rows, terms, right = embeddings.tolist(), [], 0
    for first in range(pairs):
        second = first + pairs
        x = [a - b for a, b in zip(rows[first], rows[second], strict=True)]
        x = [v * v if difference == "squared" else abs(v) for v in x]
        terms.append(cross_entropy(x, loss.verifier, int(labels[first] == labels[second])))
        right += terms[-1] < math.log(2)
    torch.testing.assert_close(value.per_item["loss"], torch.tensor(terms, dtype=torch.float64), rtol=0, atol=1e-9)
    assert value.total.item() == pytest.approx(sum(terms) / pairs, abs=1e-9)
    assert value.scalars["accuracy"].item() == pytest.approx(right / pairs)


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_identification_verification_is_the_sum_of_both(weight):
    torch.manual_seed(3)
    loss = IdentificationVerification(INFO, weight=weight)
    torch.manual_seed(3)
    identification, verification = Classification(INFO), Verification(INFO)
    embeddings, labels = batch(6, 1)
    one, two, both = (part.double()(embeddings, labels) for part in (identification, verification, loss))
    torch.testing.assert_close(both.total, one.total + weight * two.total)
    assert {name: len(terms) for name, terms in both.per_item.items()} == {"identification": 12, "verification": 6}
    torch.testing.assert_close(both.per_item["verification"], two.per_item["loss"])
    torch.testing.assert_close(both.per_item["identification"], one.per_item["loss"])
    assert both.scalars["identification"].equal(one.total)
    assert both.scalars["verification_accuracy"].equal(two.scalars["accuracy"])
    assert not both.scalars["verification"].requires_grad


@settings(max_examples=25)
@given(
    counts=st.lists(st.integers(1, 6), min_size=2, max_size=8).filter(lambda x: max(x) > 1),
    p=st.integers(1, 6),
    k=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_half_of_a_round_are_positive_pairs(counts, p, k, seed):
    labels = np.repeat(np.arange(len(counts)), counts)[np.random.default_rng(seed).permutation(sum(counts))]
    batches = pair_round(view_of(labels, p=p, k=k, seed=seed), "it")
    pairs = max(2, p * k // 2)
    anchors = sum(count for count in counts if count > 1)
    assert len(batches) == max(1, anchors // pairs)
    first_ones = np.concatenate([units[:pairs] for units in batches])
    assert np.unique(first_ones, return_counts=True)[1].max() <= -(-len(first_ones) // anchors)
    for units in batches:
        first, second = units.reshape(2, pairs)
        same = labels[first] == labels[second]
        assert same.tolist() == [True] * (pairs // 2) + [False] * (pairs - pairs // 2)
        assert (first != second).all()


@pytest.mark.parametrize(
    ("epoch", "share", "positives"), [(1, 0.495, 24), (25, 0.390, 19), (50, 0.304, 15), (75, 0.237, 11)]
)
def test_negative_pairs_become_more_with_the_rounds(epoch, share, positives):
    assert positive_share(epoch - 1, growth=1.01, most=4.0) == pytest.approx(share, abs=5e-4)
    labels = np.repeat(np.arange(30), 4)
    for kind in (Verification, IdentificationVerification):
        loss = kind(TrainInfo(5, 30), growth=1.01)
        for units in loss.next_round(view_of(labels, p=24, k=4), epoch - 1):
            first, second = labels[units].reshape(2, 48)
            assert (first == second).tolist() == [True] * positives + [False] * (48 - positives)


def test_shares_have_a_limit_and_default_to_half():
    assert [positive_share(number, 1.0, 4.0) for number in (0, 10**6)] == [0.5, 0.5]
    assert positive_share(10**6, 1.5, 4.0) == pytest.approx(0.2)
    identity = load().resolve("loss", "identification_verification").identity
    assert identity == "identification_verification(weight=1.0, difference=squared, dropout=0.0)"


def test_every_pair_can_be_sampled():
    labels = np.array([0, 0, 0, 1, 1, 2])
    sampled: set[tuple[int, int]] = set()
    for number in range(150):
        for units in pair_round(view_of(labels, p=2, k=2, number=number), "it"):
            sampled |= set(zip(*units.reshape(2, -1).tolist(), strict=True))
    assert sampled == {(a, b) for a in range(5) for b in range(6) if a != b}, "identity 2 is only a second image"


def test_an_odd_batch_is_refused():
    with pytest.raises(TrainingError, match="verification: expected a batch of pairs, got 3 images"):
        Verification(INFO)(torch.randn(3, 5), torch.zeros(3, dtype=torch.int64))
