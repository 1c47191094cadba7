"""triplet: a slow loop, the rounds that it draws, and batches that it must refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.distances import Distance
from reidbench_losses.random_triplet import Triplet, random_triplets, register_losses, triplet_round, triplet_terms
from reidbench_losses.triplet import Margin
from torch import Tensor

from reidbench import IntArray, OptionError, TrainInfo, TrainingError, TrainView, stream
from tests.plugins.test_distances import DISTANCES, slowly

INFO = TrainInfo(embedding_dim=4, num_pids=8)
LABELS = st.lists(st.integers(0, 9), min_size=3, max_size=80).filter(lambda x: 1 < len(set(x)) < len(x))


def view(labels: list[int] | IntArray, p: int, k: int, seed: int = 0) -> TrainView:
    def embed(units: IntArray) -> Tensor:
        raise AssertionError("random triplets need no embeddings")

    array = np.asarray(labels, dtype=np.int64)
    return TrainView(array, p, k, stream(seed, "round", 0), embed)


@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=30, deadline=None)
@given(
    triplets=st.lists(st.tuples(*[st.integers(0, 11)] * 3), min_size=1, max_size=20),
    margin=st.one_of(st.just("soft"), st.floats(0, 2)),
    seed=st.integers(0, 2**31),
)
def test_terms_are_those_of_a_loop(
    distance: Distance, triplets: list[tuple[int, int, int]], margin: Margin, seed: int
) -> None:
    embeddings = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rows = embeddings.tolist()
    differences = [slowly(rows[a], rows[p], distance) - slowly(rows[a], rows[n], distance) for a, p, n in triplets]
    expected = [math.log1p(math.exp(x)) if margin == "soft" else max(0.0, margin + x) for x in differences]
    assert triplet_terms(embeddings, torch.tensor(triplets), margin, distance).tolist() == pytest.approx(
        expected, rel=1e-12, abs=1e-12
    )


def test_a_stacked_batch_is_anchors_positives_negatives() -> None:
    embeddings = torch.tensor([[0.0], [10.0], [1.0], [14.0], [3.0], [12.0]])
    value = Triplet(INFO, margin=0.5)(embeddings, torch.tensor([1, 2, 1, 2, 2, 1]))
    assert value.per_item["loss"].tolist() == [0, 4 - 2 + 0.5]  # 1 - 3 and 4 - 2
    assert value.total.item() == 1.25


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("margin", ["soft", 0.5])
def test_gradients_are_those_of_finite_differences(distance: Distance, margin: Margin) -> None:
    embeddings = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    loss, labels = Triplet(INFO, margin=margin, distance=distance), torch.tensor([0, 1, 0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda rows: loss(rows, labels).total, embeddings)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("distance", DISTANCES)
def test_coincident_embeddings_have_a_finite_gradient(distance: Distance, dtype: torch.dtype) -> None:
    embeddings = torch.full((6, 16), 0.7, dtype=dtype, requires_grad=True)
    total = Triplet(INFO, distance=distance)(embeddings, torch.tensor([0, 1, 0, 1, 1, 2])).total
    (slope,) = torch.autograd.grad(total, embeddings)
    assert total.item() == pytest.approx(math.log(2))
    assert total.dtype == torch.promote_types(dtype, torch.float32)
    assert slope.isfinite().all()


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, p=st.integers(1, 12), k=st.integers(1, 5), seed=st.integers(0, 999))
def test_a_round_is_about_a_pass_of_valid_triplets(labels: list[int], p: int, k: int, seed: int) -> None:
    batches = triplet_round(view(labels, p, k, seed), "triplet")
    size = max(1, p * k // 3)
    assert {len(batch) for batch in batches} == {3 * size}
    assert len(batches) == max(1, len(labels) // (3 * size))
    counts = np.bincount(labels)
    stacked = np.concatenate([batch.reshape(3, size) for batch in batches], axis=1)
    of = np.asarray(labels)[stacked]
    assert (of[0] == of[1]).all()
    assert (of[0] != of[2]).all()
    assert (stacked[0] != stacked[1]).all()
    # Anchors come from shuffled passes: no unit is one twice more often than another.
    eligible = np.flatnonzero(counts[np.asarray(labels)] > 1)
    times = np.bincount(stacked[0], minlength=len(labels))[eligible]
    assert times.max() - times.min() <= 1
    Triplet(INFO)(torch.randn(3 * size, 4), torch.from_numpy(np.asarray(labels)[batches[0]]))  # reads what it draws


def test_positives_and_negatives_are_drawn_uniformly() -> None:
    labels = np.array([3, 1, 3, 2, 3, 3, 1])
    drawn = random_triplets(labels, np.full(6000, 4), np.random.default_rng(0))
    assert (drawn[:, 0] == 4).all()
    for column, units in ((1, [0, 2, 5]), (2, [1, 3, 6])):
        found, counts = np.unique(drawn[:, column], return_counts=True)
        assert found.tolist() == units
        assert counts == pytest.approx(2000, abs=200)  # five standard deviations


def test_32_times_4_images_are_42_triplets() -> None:
    batches = Triplet(INFO).next_round(view(np.arange(1000) // 4, 32, 4), 0)
    assert [len(batch) for batch in batches] == [126] * 7


def test_a_round_is_drawn_from_its_generator_alone() -> None:
    labels = np.arange(60) // 3
    first, again, other = (Triplet(INFO).next_round(view(labels, 4, 3, seed), 0) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_it_refuses() -> None:
    with pytest.raises(TrainingError, match=r"triplet: none of the 4 training units has a positive"):
        triplet_round(view([0, 1, 2, 3], 2, 2), "triplet")
    with pytest.raises(TrainingError, match=r"triplet: none of the 4 training units has a negative"):
        triplet_round(view([1, 1, 1, 1], 2, 2), "triplet")
    for labels in ([0, 1, 0, 1, 1], [0, 1, 0, 2, 1, 0], [0, 1, 0, 1, 1, 1], [0, 1], []):
        with pytest.raises(TrainingError, match=r"triplet: a batch must be B anchors.*next_round"):
            Triplet(INFO)(torch.randn(len(labels), 2), torch.tensor(labels, dtype=torch.int64))
    with pytest.raises(OptionError, match=r"triplet: margin must be at least 0"):
        Triplet(INFO, margin=-1.0)


def test_nan_reaches_the_loss() -> None:
    embeddings = torch.randn(3, 2)
    embeddings[1, 0] = math.nan
    assert Triplet(INFO, margin=0.2)(embeddings, torch.tensor([0, 0, 1])).total.isnan()


def test_what_the_runner_reads() -> None:
    loss = register_losses()["triplet"](INFO)
    assert (loss.metric, loss.pool) == (None, "mean")
    assert loss.param_groups() == []
