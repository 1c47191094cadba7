"""batch_all: values against loops over triplets, and memory."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.batch_all import BatchAll, batch_all_terms

from tests.support.losses import DISTANCES, INFO, saved_bytes, slow_distance


def slow_terms(rows, labels, margin, distance):
    """Eq. 6 and 8 by three loops, over anchors, positives and negatives."""
    terms = []
    for a in range(len(rows)):
        for p in range(len(rows)):
            for n in range(len(rows)):
                if p != a and labels[p] == labels[a] != labels[n]:
                    difference = slow_distance(rows[a], rows[p], distance) - slow_distance(rows[a], rows[n], distance)
                    soft = margin == "soft"
                    terms.append(math.log1p(math.exp(difference)) if soft else max(0.0, margin + difference))
    return terms


def identities(p: int, k: int, seed: int) -> torch.Tensor:
    order = torch.randperm(p * k, generator=torch.Generator().manual_seed(seed))
    return (torch.arange(p * k) // k)[order]


@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=30)
@given(
    labels=st.lists(st.integers(-3, 4), min_size=3, max_size=16).filter(lambda x: 1 < len(set(x)) < len(x))
    | st.builds(identities, st.integers(2, 5), st.integers(2, 4), st.integers(0, 99)).map(lambda x: x.tolist()),
    margin=st.one_of(st.just("soft"), st.floats(0, 2)),
    seed=st.integers(0, 2**31),
    grid=st.booleans(),
)
def test_terms_and_means_are_those_of_a_loop(distance, labels, margin, seed, grid):
    embeddings = torch.randn(len(labels), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1
    if grid:  # ties and equal rows
        embeddings = embeddings.round() + 0.25
    expected = slow_terms(embeddings.tolist(), labels, margin, distance)
    terms = batch_all_terms(embeddings, torch.tensor(labels), margin, distance)
    assert sorted(terms.tolist()) == pytest.approx(sorted(expected), rel=1e-11, abs=1e-11)
    active = [term for term in expected if term > 0]
    for average, counted in (("all", expected), ("nonzero", active)):
        value = BatchAll(INFO, margin=margin, distance=distance, average=average)(embeddings, torch.tensor(labels))
        if average == "nonzero" and grid and margin != "soft":
            continue  # a tie at the margin is 0 in one rounding and 1e-16 in the other
        assert value.total.item() == pytest.approx(sum(counted) / max(1, len(counted)), abs=1e-11)


@pytest.mark.parametrize("labels", [identities(128, 4, 0), torch.cat([identities(127, 4, 0), torch.arange(200, 204)])])
def test_a_batch_of_512_saves_no_cube(labels):
    # A cube of the batch would be 512 MiB; the gradient needs 512 x 3 x 508 terms a few times.
    embeddings = torch.randn(512, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert saved_bytes(lambda: batch_all_terms(embeddings, labels, 0.2)) < 40 << 20
