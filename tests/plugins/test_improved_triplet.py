"""improved_triplet: the printed form of Cheng et al., and rounds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.improved_triplet import ImprovedTriplet, improved_triplet_terms

from tests.support.losses import DISTANCES, INFO, slow_distance


@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=20)
@given(
    triplets=st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=20),
    margin=st.floats(0, 2),
    beta=st.floats(0, 2),
    tau=st.floats(0, 2),
    seed=st.integers(0, 2**31),
)
def test_terms_are_the_printed_form_up_to_a_constant(distance, triplets, margin, beta, tau, seed):
    embeddings = torch.randn(10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rows = embeddings.tolist()
    hinges, pulls = improved_triplet_terms(embeddings, torch.tensor(triplets), margin, beta, tau, distance)
    for (a, p, n), hinge, pull in zip(triplets, hinges.tolist(), pulls.tolist(), strict=True):
        near, far = slow_distance(rows[a], rows[p], distance), slow_distance(rows[a], rows[n], distance)
        assert hinge == pytest.approx(max(near - far, -margin) + margin, abs=1e-9)
        assert pull == pytest.approx(beta * max(near, tau) - beta * tau, abs=1e-9)


def test_a_known_batch():
    embeddings = torch.tensor([[0.0], [5.0], [1.0], [5.0], [1.5], [4.0]])
    value = ImprovedTriplet(INFO, margin=1.0, beta=0.5, tau=0.25)(embeddings, torch.tensor([0, 1, 0, 1, 1, 0]))
    # 1 + 1 - 1.5 and half of 1 - 0.25; the second triplet meets its margin exactly, and its pair coincides.
    assert value.per_item["loss"].tolist() == pytest.approx([0.5 + 0.375, 0.0])
    assert value.total.item() == pytest.approx(0.4375)
    assert (value.scalars["hinge"].item(), value.scalars["pull"].item()) == (0.25, 0.1875)
