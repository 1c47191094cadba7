"""triplet: values against a loop, and random rounds."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.random_triplet import Triplet, triplet_round, triplet_terms
from reidbench_losses.sampling import random_triplets

from tests.support.losses import DISTANCES, INFO, slow_distance
from tests.support.tiny_training import view_of

LABELS = st.lists(st.integers(0, 9), min_size=3, max_size=80).filter(lambda x: 1 < len(set(x)) < len(x))


@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=30)
@given(
    triplets=st.lists(st.tuples(*[st.integers(0, 11)] * 3), min_size=1, max_size=20),
    margin=st.one_of(st.just("soft"), st.floats(0, 2)),
    seed=st.integers(0, 2**31),
)
def test_terms_are_those_of_a_loop(distance, triplets, margin, seed):
    embeddings = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rows = embeddings.tolist()
    differences = [
        slow_distance(rows[a], rows[p], distance) - slow_distance(rows[a], rows[n], distance) for a, p, n in triplets
    ]
    expected = [math.log1p(math.exp(x)) if margin == "soft" else max(0.0, margin + x) for x in differences]
    assert triplet_terms(embeddings, torch.tensor(triplets), margin, distance).tolist() == pytest.approx(
        expected, rel=1e-12, abs=1e-12
    )


def test_a_stacked_batch_is_anchors_positives_negatives():
    embeddings = torch.tensor([[0.0], [10.0], [1.0], [14.0], [3.0], [12.0]])
    value = Triplet(INFO, margin=0.5)(embeddings, torch.tensor([1, 2, 1, 2, 2, 1]))
    assert value.per_item["loss"].tolist() == pytest.approx([0, 4 - 2 + 0.5])  # 1 - 3 and 4 - 2
    assert value.total.item() == pytest.approx(1.25)


@settings(max_examples=60)
@given(labels=LABELS, p=st.integers(1, 12), k=st.integers(1, 5), seed=st.integers(0, 999))
def test_a_round_is_about_a_pass_of_valid_triplets(labels, p, k, seed):
    batches = triplet_round(view_of(labels, p=p, k=k, seed=seed), "triplet")
    size = max(1, p * k // 3)
    assert {len(batch) for batch in batches} == {3 * size}
    assert len(batches) == max(1, len(labels) // (3 * size))
    counts = np.bincount(labels)
    stacked = np.concatenate([batch.reshape(3, size) for batch in batches], axis=1)
    of = np.asarray(labels)[stacked]
    assert (of[0] == of[1]).all()
    assert (of[0] != of[2]).all()
    assert (stacked[0] != stacked[1]).all()
    # Anchors come from shuffled passes: no unit is used twice more often than another.
    eligible = np.flatnonzero(counts[np.asarray(labels)] > 1)
    times = np.bincount(stacked[0], minlength=len(labels))[eligible]
    assert times.max() - times.min() <= 1
    Triplet(INFO)(torch.randn(3 * size, 4), torch.from_numpy(np.asarray(labels)[batches[0]]))  # takes its own batches


def test_positives_and_negatives_are_sampled_uniformly():
    labels = np.array([3, 1, 3, 2, 3, 3, 1])
    triplets = random_triplets(labels, np.full(6000, 4), np.random.default_rng(0))
    assert (triplets[:, 0] == 4).all()
    for column, units in ((1, [0, 2, 5]), (2, [1, 3, 6])):
        sampled, counts = np.unique(triplets[:, column], return_counts=True)
        assert sampled.tolist() == units
        assert counts == pytest.approx(2000, abs=200)  # five standard deviations
