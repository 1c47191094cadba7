"""batch_hard: a slow loop, finite differences, ties and twins, batches that it must refuse, and that it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.distances import Distance, pairwise
from reidbench_losses.triplet import BatchHard, Margin, hardest, register_losses
from torch import Tensor

from reidbench import OptionError, TrainInfo, TrainingError
from tests.plugins.test_distances import kept_bytes, slowly

INFO = TrainInfo(embedding_dim=4, num_pids=8)


def terms_of(embeddings: Tensor, labels: Tensor, **options: Any) -> Tensor:
    return BatchHard(INFO, **options)(embeddings, labels).per_item["loss"]


def slow_terms(embeddings: Tensor, labels: list[int], margin: Margin, distance: Distance) -> list[float]:
    """Eq. 5 and 8 by loops over anchors, positives and negatives; distances in plain Python."""
    rows = embeddings.tolist()
    terms = []
    for anchor, label in enumerate(labels):
        positives = [
            slowly(rows[anchor], rows[i], distance) for i in range(len(rows)) if labels[i] == label and i != anchor
        ]
        negatives = [slowly(rows[anchor], rows[i], distance) for i in range(len(rows)) if labels[i] != label]
        difference = max(positives, default=0.0) - min(negatives)
        terms.append(math.log1p(math.exp(difference)) if margin == "soft" else max(0.0, margin + difference))
    return terms


@pytest.mark.parametrize("distance", ["euclidean", "sqeuclidean", "cosine"])
@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.integers(-3, 4), min_size=3, max_size=40).filter(lambda x: 1 < len(set(x)) < len(x)),
    margin=st.one_of(st.just("soft"), st.floats(0, 2)),
    seed=st.integers(0, 2**31),
    grid=st.booleans(),
)
def test_terms_are_those_of_a_loop(
    distance: Distance, labels: list[int], margin: Margin, seed: int, grid: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(len(labels), 3, dtype=torch.float64, generator=generator) + 0.1
    if grid:  # ties and twins
        embeddings = embeddings.round() + 0.25
    found = terms_of(embeddings, torch.tensor(labels), margin=margin, distance=distance)
    expected = slow_terms(embeddings, labels, margin, distance)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("distance", ["euclidean", "sqeuclidean", "cosine"])
@pytest.mark.parametrize("margin", ["soft", 0.5])
def test_gradients_are_those_of_finite_differences(distance: Distance, margin: Margin) -> None:
    embeddings = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    loss, labels = BatchHard(INFO, margin=margin, distance=distance), torch.tensor([0, 1, 0, 2, 1, 0, 3, 3, 1])
    assert torch.autograd.gradcheck(lambda rows: loss(rows, labels).total, embeddings)


@pytest.mark.parametrize("size", [3, 512])
def test_the_hardest_is_found_where_a_product_of_matrices_cannot_tell(size: int) -> None:
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


def test_a_collapsed_batch_keeps_no_differences_of_all_pairs() -> None:
    embeddings = torch.full((256, 64), 0.7, requires_grad=True)  # they would be 16 MiB
    assert kept_bytes(lambda: BatchHard(INFO)(embeddings, torch.arange(256) // 4).total) < 4 << 20


def test_ties_and_twins_share_the_gradient() -> None:
    # The anchor at 0 has two equally far positives, and its two closest negatives coincide.
    embeddings = torch.tensor([[0.0, 0], [0, 3], [0, -3], [2, 0], [2, 0]], requires_grad=True)
    same = torch.tensor([0, 0, 0, 1, 1])[:, None] == torch.tensor([0, 0, 0, 1, 1])
    positive, negative = hardest(embeddings, same, "euclidean")
    (slope,) = torch.autograd.grad(positive[0] - negative[0], embeddings)
    assert slope.tolist() == [[1, 0], [0, 0.5], [0, -0.5], [-0.5, 0], [-0.5, 0]]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_order_of_the_batch_does_not_matter_even_with_ties(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randint(0, 3, (24, 3), generator=generator).double()
    labels = torch.arange(24) // 4
    order = torch.randperm(24, generator=generator)

    def gradient(rows: Tensor, of: Tensor) -> Tensor:
        leaf = rows.clone().requires_grad_()
        BatchHard(INFO)(leaf, of).total.backward()
        assert leaf.grad is not None
        return leaf.grad

    torch.testing.assert_close(gradient(embeddings, labels)[order], gradient(embeddings[order], labels[order]))


def test_a_known_batch() -> None:
    embeddings = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    value = BatchHard(INFO, margin=0.5)(embeddings, torch.tensor([5, 5, 9, 9]))
    # Anchors: 1 - 3, 1 - 2, 4 - 2, 4 - 6.
    assert value.per_item["loss"].tolist() == [0.0, 0.0, 2.5, 0.0]
    assert value.total.item() == 2.5 / 4
    assert value.scalars["hardest_positive"].item() == 2.5
    assert value.scalars["hardest_negative"].item() == 3.25
    nonzero = BatchHard(INFO, margin=0.5, average="nonzero")(embeddings, torch.tensor([5, 5, 9, 9]))
    assert nonzero.total.item() == 2.5


def test_nonzero_is_0_with_a_gradient_where_no_term_is_active() -> None:
    embeddings = torch.tensor([[0.0], [0.1], [9.0], [9.1]], requires_grad=True)
    total = BatchHard(INFO, margin=0.2, average="nonzero")(embeddings, torch.tensor([0, 0, 1, 1])).total
    total.backward()
    assert total.item() == 0
    assert embeddings.grad is not None
    assert (embeddings.grad == 0).all()


def test_an_anchor_alone_with_its_identity_counts_with_positive_0() -> None:
    embeddings = torch.tensor([[0.0], [1.0], [3.0]])
    terms = terms_of(embeddings, torch.tensor([0, 0, 1]), margin=2.5)
    assert terms.tolist() == [0.5, 1.5, 0.5]


def test_an_anchor_alone_with_its_identity_can_be_skipped() -> None:
    embeddings, labels = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])
    assert terms_of(embeddings, labels, margin=2.5, singletons="skip").tolist() == [0.5, 1.5]
    value = BatchHard(INFO, margin=2.5, singletons="skip")(embeddings, labels)
    assert value.per_item["loss"].tolist() == [0.5, 1.5]
    assert value.total.item() == 1
    assert value.scalars["hardest_positive"].item() == 1
    assert value.scalars["hardest_negative"].item() == 2.5


@pytest.mark.parametrize("margin", ["soft", 0.2])
@pytest.mark.parametrize("distance", ["euclidean", "sqeuclidean", "cosine"])
def test_a_collapsed_batch_has_a_finite_gradient(margin: Margin, distance: Distance) -> None:
    embeddings = torch.full((72, 128), 0.7, requires_grad=True)
    total = BatchHard(INFO, margin=margin, distance=distance)(embeddings, torch.arange(72) // 4).total
    total.backward()
    assert total.item() == pytest.approx(math.log(2) if margin == "soft" else 0.2)
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize(("scale", "dtype"), [(25.0, torch.float64), (1e4, torch.float64), (1e4, torch.float32)])
def test_softplus_neither_overflows_nor_rounds(scale: float, dtype: torch.dtype) -> None:
    embeddings = torch.tensor([[0.0], [1.0], [0.0], [1.0]], dtype=dtype) * scale
    terms = terms_of(embeddings, torch.tensor([0, 0, 1, 1]))
    expected = torch.tensor(scale, dtype=torch.float64) + math.log1p(math.exp(-scale))
    assert (terms - expected).abs().max() <= torch.finfo(dtype).eps * scale


def test_the_gradient_of_the_gradient_is_finite() -> None:
    embeddings = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    total = BatchHard(INFO)(embeddings, torch.arange(8) // 2).total
    (slope,) = torch.autograd.grad(total, embeddings, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.square().sum(), embeddings)
    assert curvature.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_loss_is_at_least_float32_and_the_gradient_comes_back_as_it_went(dtype: torch.dtype) -> None:
    embeddings = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    value = BatchHard(INFO)(embeddings, torch.arange(8) // 2)
    value.total.backward()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert value.total.dtype == value.per_item["loss"].dtype == wide
    assert embeddings.grad is not None
    assert embeddings.grad.dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert BatchHard(INFO)(embeddings, torch.arange(8) // 2).total.equal(value.total)


def test_batches_without_a_positive_or_a_negative_are_refused() -> None:
    embeddings = torch.randn(4, 2)
    with pytest.raises(TrainingError, match=r"no anchor has a positive.*4 images.*k=2"):
        terms_of(embeddings, torch.arange(4))
    with pytest.raises(TrainingError, match=r"no anchor has a negative.*4 images.*p=2"):
        terms_of(embeddings, torch.zeros(4, dtype=torch.int64))


def test_nan_reaches_the_loss() -> None:
    embeddings = torch.randn(4, 2)
    embeddings[0, 0] = math.nan
    for average in ("all", "nonzero"):
        value = BatchHard(INFO, margin=0.2, average=average)(embeddings, torch.tensor([0, 0, 1, 1]))
        assert value.total.isnan()


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(OptionError, match=r"margin must be at least 0.*-0\.1"):
        BatchHard(INFO, margin=-0.1)


def test_what_the_runner_reads() -> None:
    loss = register_losses()["batch_hard"](INFO)
    assert (loss.metric, loss.pool) == (None, "mean")
    assert loss.param_groups() == []


def test_descending_the_loss_separates_identities() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(24, 4, generator=generator, requires_grad=True)
    labels = torch.arange(24) // 4
    loss = BatchHard(INFO)
    optimizer = torch.optim.Adam([embeddings], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss(embeddings, labels).total.backward()
        optimizer.step()
    found = pairwise(embeddings.detach(), "euclidean")
    same = labels[:, None] == labels[None, :]
    assert found[same].max() < found[~same].min()
