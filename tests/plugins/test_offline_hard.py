"""triplet_ohm: mining against a slow loop, pools and rounds, a training that goes on exactly, and its mining time."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses import offline_hard
from reidbench_losses.distances import Distance
from reidbench_losses.offline_hard import TripletOHM, mine, register_losses
from reidbench_losses.triplet import Margin
from torch import Tensor

from reidbench import IntArray, OptionError, TrainInfo, TrainingError, stream
from reidbench.training.checkpoint import read_summary
from tests.support.jobs import job, run
from tests.support.tiny_training import RECIPE, assert_exact, fit, view_of

INFO = TrainInfo(embedding_dim=4, num_pids=8)
LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4])  # 3 is alone


def between(a: list[float], b: list[float], distance: Distance) -> float:
    if distance == "cosine":
        return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
    squared = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return squared if distance == "sqeuclidean" else math.sqrt(squared)


@pytest.mark.parametrize("distance", ["euclidean", "sqeuclidean", "cosine"])
@pytest.mark.parametrize("block", [3, 1024])
@settings(max_examples=15, deadline=None)
@given(hardest=st.integers(1, 14), seed=st.integers(0, 2**31))
def test_mined_are_the_farthest_positives_and_the_closest_negatives(
    distance: Distance, block: int, hardest: int, seed: int
) -> None:
    embeddings = torch.randn(len(LABELS), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rows = embeddings.tolist()
    anchors = np.array([5, 0, 11, 3, 5, 5, 1])
    before, offline_hard.BLOCK = offline_hard.BLOCK, block
    try:
        mined = mine(embeddings, LABELS, anchors, hardest, distance, stream(seed, "mining"))
    finally:
        offline_hard.BLOCK = before
    assert mined.shape == (7, 3)
    assert mined[:, 0].tolist() == anchors.tolist()
    for anchor, positive, negative in mined.tolist():
        apart = [between(rows[anchor], row, distance) for row in rows]
        positives = [i for i, label in enumerate(LABELS) if label == LABELS[anchor] and i != anchor]
        negatives = [i for i, label in enumerate(LABELS) if label != LABELS[anchor]]
        assert positive in sorted(positives, key=lambda i: -apart[i])[:hardest]
        assert negative in sorted(negatives, key=lambda i: apart[i])[:hardest]


def test_every_candidate_among_the_hardest_is_drawn() -> None:
    embeddings = torch.arange(12.0)[:, None] ** 2
    mined = mine(embeddings, LABELS, np.full(200, 6), 2, "euclidean", stream(0, "mining"))
    # Of anchor 6, at 36, the positives are 5, 7, 8 at 25, 49, 64, and the closest negatives 4 at 16 and 3 at 9.
    assert set(mined[:, 1].tolist()) == {8, 7}
    assert set(mined[:, 2].tolist()) == {4, 3}


def present(labels: IntArray) -> Tensor:
    return torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("pool", "seen"), [(20, 20), (60, 60), (61, 60), (4096, 60)])
def test_a_round_embeds_a_pool_and_has_as_many_batches_as_asked_for(pool: int, seen: int) -> None:
    labels = np.arange(60) // 5
    asked: list[IntArray] = []

    def embed(units: IntArray) -> Tensor:
        asked.append(units)
        return present(labels)[units]

    loss = TripletOHM(INFO, pool=pool, refresh=3)
    batches = loss.next_round(view_of(labels, embed, p=5, k=4), 0)
    (units,) = asked
    assert len(set(units.tolist())) == len(units) == seen
    assert [len(batch) for batch in batches] == [18] * 3, "3 * 6 is as close to 20 as it gets from below"
    everything = np.concatenate(batches)
    assert set(everything.tolist()) <= set(units.tolist())
    apart = torch.cdist(present(labels), present(labels)).numpy()
    anchors = np.concatenate([batch[:6] for batch in batches])
    alone = [unit for unit in units.tolist() if (labels[units] == labels[unit]).sum() == 1]
    assert np.unique(anchors, return_counts=True)[1].max() <= -(-18 // (seen - len(alone)))
    for batch in batches:
        for anchor, positive, negative in batch.reshape(3, -1).T.tolist():
            own = units[(labels[units] == labels[anchor]) & (units != anchor)]
            others = units[labels[units] != labels[anchor]]
            assert positive == own[apart[anchor, own].argmax()]
            assert negative == others[apart[anchor, others].argmin()]


def test_pools_change_from_round_to_round() -> None:
    labels = np.arange(60) // 5
    asked: list[list[int]] = []

    def embed(units: IntArray) -> Tensor:
        asked.append(units.tolist())
        return present(labels)[units]

    for number in (0, 1):
        TripletOHM(INFO, pool=20, refresh=1).next_round(view_of(labels, embed, number=number), number)
    assert sorted(asked[0]) != sorted(asked[1])


@pytest.mark.parametrize("labels", [np.zeros(9, dtype=np.int64), np.arange(9)])
def test_a_pool_without_triplets_is_refused(labels: IntArray) -> None:
    with pytest.raises(TrainingError, match="triplet_ohm: none of the 9 images to draw from has a"):
        TripletOHM(INFO).next_round(view_of(labels), 0)


@pytest.mark.parametrize(("margin", "terms"), [(0.5, [0.5, 0.0]), ("soft", [math.log(2), math.log1p(math.exp(-2))])])
def test_a_known_batch(margin: Margin, terms: list[float]) -> None:
    embeddings = torch.tensor([[0.0], [5.0], [1.0], [5.0], [1.0], [3.0]])
    value = TripletOHM(INFO, margin=margin)(embeddings, torch.tensor([0, 1, 0, 1, 1, 0]))
    assert value.per_item["loss"].tolist() == pytest.approx(terms)
    assert value.total.item() == pytest.approx(sum(terms) / 2)


def test_a_batch_in_another_order_is_refused() -> None:
    with pytest.raises(TrainingError, match="triplet_ohm: a batch must be B anchors"):
        TripletOHM(INFO)(torch.randn(6, 2), torch.tensor([0, 0, 1, 1, 2, 2]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -0.1}, r"margin must be at least 0, or soft; got -0\.1"),
        ({"pool": 2}, "pool must be at least 3, got 2"),
        ({"refresh": 0}, "refresh must be at least 1, got 0"),
        ({"hardest": 0}, "hardest must be at least 1, got 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=f"triplet_ohm: {message}"):
        TripletOHM(INFO, **options)  # type: ignore[arg-type]


def test_a_training_is_repeated_and_gone_on_with_exactly(tmp_path: Path) -> None:
    assert_exact(lambda: TripletOHM(INFO, margin=0.2, pool=16, refresh=2, hardest=2), tmp_path)


def test_mining_sees_the_present_network(tmp_path: Path) -> None:
    class Notes(TripletOHM):
        def __init__(self) -> None:
            super().__init__(INFO, refresh=2)
            self.embedded: list[Tensor] = []

        def next_round(self, view, number):  # type: ignore[no-untyped-def]
            self.embedded.append(view.embed(np.arange(5)))
            return super().next_round(view, number)

    _, loss, _ = fit(Notes, tmp_path / "run", recipe=replace(RECIPE, steps=5))
    assert isinstance(loss, Notes)
    assert len(loss.embedded) == 3, "before steps 0, 2 and 4"
    assert all(not torch.allclose(one, two) for one, two in zip(loss.embedded, loss.embedded[1:], strict=False))


def test_the_time_of_mining_is_in_the_record(tmp_path: Path) -> None:
    plan, record, _ = run(job(loss="triplet_ohm(pool=60, refresh=2)"), results=tmp_path)
    assert record.status == "ok"
    assert 0 < record.seconds["rounds"] < record.seconds["train"]
    kept = read_summary(plan.training_folder)
    assert kept is not None
    assert round(kept.sampling_seconds, 3) == record.seconds["rounds"]
    _, again, _ = run(job(loss="triplet_ohm(pool=60, refresh=2)", metric="euclidean(normalize=true)"), results=tmp_path)
    assert again.seconds["rounds"] == record.seconds["rounds"], "it is the training's, whatever is scored"


def test_what_the_runner_reads() -> None:
    loss = register_losses()["triplet_ohm"](INFO)
    assert (loss.metric, loss.pool) == (None, "mean")
    assert loss.param_groups() == []
