"""lifted and lifted_generalized: values against loops, pairs, and own rounds."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses import lifted

from tests.support.losses import DISTANCES, INFO, slow_distance
from tests.support.tiny_training import view_of

LABELS = st.lists(st.integers(-3, 4), min_size=3, max_size=20).filter(lambda x: 1 < len(set(x)) < len(x))


def batch(size: int, seed: int, grid: bool = False) -> torch.Tensor:
    embeddings = torch.randn(size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1
    return embeddings.round() + 0.25 if grid else embeddings  # ties and equal rows


@pytest.mark.parametrize("form", ["hinge", "squared"])
@pytest.mark.parametrize("negatives", ["other_identities", "all"])
@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=15)
@given(labels=LABELS, margin=st.floats(0, 2), seed=st.integers(0, 2**31))
def test_pairs_and_terms_are_those_of_loops(distance, negatives, form, labels, margin, seed):
    embeddings, images = batch(len(labels), seed, grid=seed % 2 == 0), range(len(labels))
    rows = embeddings.tolist()
    pairs = [[a, p] for a in images for p in images if a < p and labels[a] == labels[p]]
    expected = []
    for a, p in pairs:
        pushing = [n for n in images if (n not in (a, p) if negatives == "all" else labels[n] != labels[a])]
        total = sum(math.exp(margin - slow_distance(rows[i], rows[n], distance)) for n in pushing for i in (a, p))
        term = max(0.0, slow_distance(rows[a], rows[p], distance) + math.log(total))
        expected.append(term**2 / 2 if form == "squared" else term)
    of = torch.tensor(labels)
    assert lifted.all_pairs(of[:, None] == of).tolist() == pairs
    terms = lifted.lifted_terms(embeddings, of, torch.tensor(pairs), margin, distance, negatives=negatives, form=form)
    assert terms.tolist() == pytest.approx(expected, rel=1e-11, abs=1e-11)
    value = lifted.Lifted(INFO, margin=margin, distance=distance, negatives=negatives, form=form)(embeddings, of)
    assert value.per_item["loss"].equal(terms)
    assert value.total.item() == pytest.approx(sum(expected) / len(expected), abs=1e-11)


@pytest.mark.parametrize("include_anchor", [True, False])
@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=15)
@given(labels=LABELS, margin=st.floats(0, 2), seed=st.integers(0, 2**31), grid=st.booleans())
def test_generalized_terms_are_those_of_loops(distance, include_anchor, labels, margin, seed, grid):
    embeddings, images = batch(len(labels), seed, grid), range(len(labels))
    rows = embeddings.tolist()
    expected = []
    for a in images:
        positives = [p for p in images if labels[p] == labels[a] and (include_anchor or p != a)]
        pull = sum(math.exp(slow_distance(rows[a], rows[p], distance) if p != a else 0) for p in positives) or 1.0
        push = sum(
            math.exp(margin - slow_distance(rows[a], rows[n], distance)) for n in images if labels[n] != labels[a]
        )
        expected.append(max(0.0, math.log(pull) + math.log(push)))
    of = torch.tensor(labels)
    terms = lifted.lifted_generalized_terms(embeddings, of, margin, distance, include_anchor=include_anchor)
    assert terms.tolist() == pytest.approx(expected, rel=1e-11, abs=1e-11)
    loss = lifted.LiftedGeneralized(INFO, margin=margin, distance=distance, include_anchor=include_anchor)
    assert loss(embeddings, of).total.item() == pytest.approx(sum(expected) / len(expected), abs=1e-11)


@given(labels=st.lists(st.integers(-2, 3), min_size=1, max_size=30))
def test_disjoint_pairs_omit_at_most_one_image_of_an_identity(labels):
    pairs = lifted.disjoint_pairs(torch.tensor(labels)).tolist()
    images = [image for pair in pairs for image in pair]
    assert len(set(images)) == len(images)
    assert all(labels[a] == labels[p] and a < p for a, p in pairs)
    omitted = Counter(labels) - Counter(labels[image] for image in images)
    assert all(omitted[label] == count % 2 for label, count in Counter(labels).items())


def test_disjoint_pairs_are_in_the_order_of_the_batch():
    assert lifted.disjoint_pairs(torch.tensor([7, 4, 7, 7, 4, 7, 7])).tolist() == [[1, 4], [0, 2], [3, 5]]
    embeddings, labels = batch(7, 0), torch.tensor([7, 4, 7, 7, 4, 7, 7])
    value = lifted.Lifted(INFO, pairs="disjoint")(embeddings, labels)
    expected = lifted.lifted_terms(embeddings, labels, torch.tensor([[1, 4], [0, 2], [3, 5]]), 0.2)
    assert value.per_item["loss"].equal(expected)


def test_triplets_are_own_rounds_with_one_pair_each():
    labels = np.arange(60) // 3
    view = view_of(labels, p=6, k=3)
    loss = lifted.Lifted(INFO, pairs="triplets", negatives="all")
    batches = loss.next_round(view, 0)
    assert [len(units) for units in batches] == [18] * 3
    of = torch.from_numpy(labels[batches[0]])
    embeddings = batch(18, 3)
    terms = loss(embeddings, of).per_item["loss"]
    pairs = torch.stack([torch.arange(6), torch.arange(6, 12)], dim=1)
    assert terms.equal(lifted.lifted_terms(embeddings, of, pairs, 0.2, negatives="all"))
    assert lifted.Lifted(INFO).next_round(view, 0) is None
