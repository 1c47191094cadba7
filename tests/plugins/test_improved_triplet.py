"""improved_triplet: the printed form of Cheng et al., slow loops, and a training that goes on exactly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.distances import Distance
from reidbench_losses.improved_triplet import ImprovedTriplet, improved_triplet_terms, register_losses
from torch import Tensor

from reidbench import OptionError, TrainInfo, TrainingError
from tests.support.tiny_training import assert_exact, view_of

INFO = TrainInfo(embedding_dim=4, num_pids=8)
STACKED = torch.tensor([0, 1, 2, 0, 1, 2, 1, 2, 0])


def between(a: list[float], b: list[float], distance: Distance) -> float:
    if distance == "cosine":
        return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
    squared = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return squared if distance == "sqeuclidean" else math.sqrt(squared)


@pytest.mark.parametrize("distance", ["euclidean", "sqeuclidean", "cosine"])
@settings(max_examples=20, deadline=None)
@given(
    triplets=st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=20),
    margin=st.floats(0, 2),
    beta=st.floats(0, 2),
    tau=st.floats(0, 2),
    seed=st.integers(0, 2**31),
)
def test_hinges_are_the_printed_form_up_to_its_constant(
    distance: Distance, triplets: list[tuple[int, int, int]], margin: float, beta: float, tau: float, seed: int
) -> None:
    embeddings = torch.randn(10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rows = embeddings.tolist()
    hinges, pulls = improved_triplet_terms(embeddings, torch.tensor(triplets), margin, beta, tau, distance)
    for (a, p, n), hinge, pull in zip(triplets, hinges.tolist(), pulls.tolist(), strict=True):
        near, far = between(rows[a], rows[p], distance), between(rows[a], rows[n], distance)
        assert hinge == pytest.approx(max(near - far, -margin) + margin, abs=1e-9)
        assert pull == pytest.approx(beta * max(near, tau) - beta * tau, abs=1e-9)


def test_a_known_batch() -> None:
    embeddings = torch.tensor([[0.0], [5.0], [1.0], [5.0], [1.5], [4.0]])
    value = ImprovedTriplet(INFO, margin=1.0, beta=0.5, tau=0.25)(embeddings, torch.tensor([0, 1, 0, 1, 1, 0]))
    # 1 + 1 - 1.5 and half of 1 - 0.25; the second triplet is right by its margin exactly and its pair coincides.
    assert value.per_item["loss"].tolist() == [0.5 + 0.375, 0.0]
    assert value.total.item() == 0.4375
    assert (value.scalars["hinge"].item(), value.scalars["pull"].item()) == (0.25, 0.1875)


def test_a_round_is_stacked_triplets() -> None:
    labels = np.arange(30) // 5
    batches = ImprovedTriplet(INFO).next_round(view_of(labels, p=4, k=4), 0)
    assert len(batches) == 2
    for batch in batches:
        anchors, positives, negatives = batch.reshape(3, -1)
        assert len(anchors) == 5, "3 * 5 is as close to 16 as it gets from below"
        assert (labels[anchors] == labels[positives]).all()
        assert (anchors != positives).all()
        assert (labels[anchors] != labels[negatives]).all()


@pytest.mark.parametrize("distance", ["euclidean", "sqeuclidean", "cosine"])
def test_a_collapsed_batch_has_a_finite_gradient(distance: Distance) -> None:
    embeddings = torch.full((9, 16), 0.7, requires_grad=True)
    total = ImprovedTriplet(INFO, tau=0.0, distance=distance)(embeddings, STACKED).total
    total.backward()
    assert total.item() == 1
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_loss_is_at_least_float32(dtype: torch.dtype) -> None:
    def total(rows: Tensor) -> Tensor:
        return ImprovedTriplet(INFO)(rows, STACKED).total

    embeddings = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert total(embeddings).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert total(embeddings).equal(total(embeddings.to(total(embeddings).dtype)))


def test_a_batch_in_another_order_is_refused() -> None:
    with pytest.raises(TrainingError, match="improved_triplet: a batch must be B anchors"):
        ImprovedTriplet(INFO)(torch.randn(6, 2), torch.tensor([0, 0, 1, 1, 2, 2]))


@pytest.mark.parametrize("name", ["margin", "beta", "tau"])
def test_options_below_0_are_refused(name: str) -> None:
    with pytest.raises(OptionError, match=rf"improved_triplet: {name} must be at least 0, got -0\.5"):
        ImprovedTriplet(INFO, **{name: -0.5})


def test_a_training_is_repeated_and_gone_on_with_exactly(tmp_path: Path) -> None:
    assert_exact(lambda: ImprovedTriplet(INFO, beta=0.1), tmp_path)


def test_what_the_runner_reads() -> None:
    loss = register_losses()["improved_triplet"](INFO)
    assert (loss.metric, loss.pool) == (None, "mean")
    assert loss.param_groups() == []
