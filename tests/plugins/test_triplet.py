"""batch_hard: values against loops, exactness, ties and equal rows, single images."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.triplet import BatchHard, hardest

from tests.support.losses import DISTANCES, INFO, saved_bytes, slow_distance


def terms_of(embeddings, labels, **options):
    return BatchHard(INFO, **options)(embeddings, labels).per_item["loss"]


def slow_terms(embeddings, labels, margin, distance):
    """Eq. 5 and 8 by loops over anchors, positives and negatives; distances in plain Python."""
    rows = embeddings.tolist()
    terms = []
    for anchor, label in enumerate(labels):
        positives = [
            slow_distance(rows[anchor], rows[i], distance)
            for i in range(len(rows))
            if labels[i] == label and i != anchor
        ]
        negatives = [slow_distance(rows[anchor], rows[i], distance) for i in range(len(rows)) if labels[i] != label]
        difference = max(positives, default=0.0) - min(negatives)
        terms.append(math.log1p(math.exp(difference)) if margin == "soft" else max(0.0, margin + difference))
    return terms


@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=40)
@given(
    labels=st.lists(st.integers(-3, 4), min_size=3, max_size=40).filter(lambda x: 1 < len(set(x)) < len(x)),
    margin=st.one_of(st.just("soft"), st.floats(0, 2)),
    seed=st.integers(0, 2**31),
    grid=st.booleans(),
)
def test_terms_are_those_of_a_loop(distance, labels, margin, seed, grid):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(len(labels), 3, dtype=torch.float64, generator=generator) + 0.1
    if grid:  # ties and equal rows
        embeddings = embeddings.round() + 0.25
    terms = terms_of(embeddings, torch.tensor(labels), margin=margin, distance=distance)
    expected = slow_terms(embeddings, labels, margin, distance)
    torch.testing.assert_close(terms, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [3, 512])
def test_the_hardest_pairs_are_exact_despite_rounding(size):
    # Two groups 1000 apart, within which distances differ by less than the rounding of |a|^2 + |b|^2 - 2ab.
    generator = torch.Generator().manual_seed(6)
    radius = 1 + 0.002 * torch.randperm(40, generator=generator)[:, None]
    embeddings = radius * torch.nn.functional.normalize(torch.randn(40, size, generator=generator), dim=1)
    embeddings[:, 0] += 1000 * (torch.arange(40) % 2)
    labels = torch.arange(40) // 2 % 4
    same = labels[:, None] == labels
    positive, negative = hardest(embeddings, same, "euclidean")
    wide = embeddings.double()
    exact = (wide[:, None] - wide[None, :]).norm(dim=2)
    torch.testing.assert_close(negative.double(), exact.masked_fill(same, 1e9).amin(dim=1), rtol=1e-6, atol=0)
    torch.testing.assert_close(positive.double(), exact.masked_fill(~same, -1).amax(dim=1), rtol=5e-6, atol=0)


def test_a_collapsed_batch_saves_no_differences_of_pairs():
    embeddings = torch.full((256, 64), 0.7, requires_grad=True)  # they would be 16 MiB
    assert saved_bytes(lambda: BatchHard(INFO)(embeddings, torch.arange(256) // 4).total) < 4 << 20


def test_ties_and_equal_rows_share_the_gradient():
    # The anchor at 0 has two equally far positives, and its two closest negatives coincide.
    embeddings = torch.tensor([[0.0, 0], [0, 3], [0, -3], [2, 0], [2, 0]], requires_grad=True)
    same = torch.tensor([0, 0, 0, 1, 1])[:, None] == torch.tensor([0, 0, 0, 1, 1])
    positive, negative = hardest(embeddings, same, "euclidean")
    (slope,) = torch.autograd.grad(positive[0] - negative[0], embeddings)
    torch.testing.assert_close(slope, torch.tensor([[1, 0], [0, 0.5], [0, -0.5], [-0.5, 0], [-0.5, 0]]))


def test_a_known_batch():
    embeddings = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    value = BatchHard(INFO, margin=0.5)(embeddings, torch.tensor([5, 5, 9, 9]))
    # Anchors: 1 - 3, 1 - 2, 4 - 2, 4 - 6.
    assert value.per_item["loss"].tolist() == pytest.approx([0.0, 0.0, 2.5, 0.0])
    assert value.total.item() == pytest.approx(2.5 / 4)
    assert value.scalars["hardest_positive"].item() == pytest.approx(2.5)
    assert value.scalars["hardest_negative"].item() == pytest.approx(3.25)
    nonzero = BatchHard(INFO, margin=0.5, average="nonzero")(embeddings, torch.tensor([5, 5, 9, 9]))
    assert nonzero.total.item() == pytest.approx(2.5)


def test_an_anchor_without_positive_can_be_skipped():
    embeddings, labels = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])
    value = BatchHard(INFO, margin=2.5, singletons="skip")(embeddings, labels)
    assert value.per_item["loss"].tolist() == pytest.approx([0.5, 1.5])
    assert value.total.item() == pytest.approx(1)
    assert value.scalars["hardest_positive"].item() == pytest.approx(1)
    assert value.scalars["hardest_negative"].item() == pytest.approx(2.5)


@pytest.mark.parametrize(("scale", "dtype"), [(25.0, torch.float64), (1e4, torch.float64), (1e4, torch.float32)])
def test_softplus_neither_overflows_nor_rounds(scale, dtype):
    embeddings = torch.tensor([[0.0], [1.0], [0.0], [1.0]], dtype=dtype) * scale
    terms = terms_of(embeddings, torch.tensor([0, 0, 1, 1]))
    expected = torch.tensor(scale, dtype=torch.float64) + math.log1p(math.exp(-scale))
    assert (terms - expected).abs().max() <= torch.finfo(dtype).eps * scale
