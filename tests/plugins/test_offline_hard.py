"""triplet_ohm: mining against a loop, pools and rounds, and the time of mining."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses import offline_hard
from reidbench_losses.offline_hard import TripletOHM, mine
from torch import Tensor

from reidbench import IntArray, stream
from reidbench.training.checkpoint import read_summary
from tests.support.jobs import job, run
from tests.support.losses import DISTANCES, INFO, slow_distance
from tests.support.tiny_training import view_of

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4])  # 3 has no positive


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("block", [3, 1024])
@settings(max_examples=15)
@given(hardest=st.integers(1, 14), seed=st.integers(0, 2**31))
def test_mined_triplets_are_the_hardest(distance, block, hardest, seed):
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
        distances = [slow_distance(rows[anchor], row, distance) for row in rows]
        positives = [i for i, label in enumerate(LABELS) if label == LABELS[anchor] and i != anchor]
        negatives = [i for i, label in enumerate(LABELS) if label != LABELS[anchor]]
        assert positive in sorted(positives, key=lambda i: -distances[i])[:hardest]
        assert negative in sorted(negatives, key=lambda i: distances[i])[:hardest]


def test_every_candidate_among_the_hardest_is_sampled():
    embeddings = torch.arange(12.0)[:, None] ** 2
    mined = mine(embeddings, LABELS, np.full(200, 6), 2, "euclidean", stream(0, "mining"))
    # Of anchor 6, at 36, the positives are 5, 7, 8 at 25, 49, 64, and the closest negatives 4 at 16 and 3 at 9.
    assert set(mined[:, 1].tolist()) == {8, 7}
    assert set(mined[:, 2].tolist()) == {4, 3}


def embeddings_of(labels: IntArray) -> Tensor:
    return torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("pool", "seen"), [(20, 20), (60, 60), (61, 60), (4096, 60)])
def test_a_round_embeds_a_pool_and_mines_in_it(pool, seen):
    labels = np.arange(60) // 5
    embedded: list[IntArray] = []

    def embed(units):
        embedded.append(units)
        return embeddings_of(labels)[units]

    loss = TripletOHM(INFO, pool=pool, refresh=3)
    batches = loss.next_round(view_of(labels, embed, p=5, k=4), 0)
    (units,) = embedded
    assert len(set(units.tolist())) == len(units) == seen
    assert [len(batch) for batch in batches] == [18] * 3, "3 * 6 is the largest multiple of 3 up to 20"
    everything = np.concatenate(batches)
    assert set(everything.tolist()) <= set(units.tolist())
    apart = torch.cdist(embeddings_of(labels), embeddings_of(labels)).numpy()
    anchors = np.concatenate([batch[:6] for batch in batches])
    single = [unit for unit in units.tolist() if (labels[units] == labels[unit]).sum() == 1]
    assert np.unique(anchors, return_counts=True)[1].max() <= -(-18 // (seen - len(single)))
    for batch in batches:
        for anchor, positive, negative in batch.reshape(3, -1).T.tolist():
            own = units[(labels[units] == labels[anchor]) & (units != anchor)]
            others = units[labels[units] != labels[anchor]]
            assert positive == own[apart[anchor, own].argmax()]
            assert negative == others[apart[anchor, others].argmin()]


def test_pools_change_from_round_to_round():
    labels = np.arange(60) // 5
    pools: list[list[int]] = []

    def embed(units):
        pools.append(units.tolist())
        return embeddings_of(labels)[units]

    for number in (0, 1):
        TripletOHM(INFO, pool=20, refresh=1).next_round(view_of(labels, embed, number=number), number)
    assert sorted(pools[0]) != sorted(pools[1])


@pytest.mark.parametrize(("margin", "terms"), [(0.5, [0.5, 0.0]), ("soft", [math.log(2), math.log1p(math.exp(-2))])])
def test_a_known_batch(margin, terms):
    embeddings = torch.tensor([[0.0], [5.0], [1.0], [5.0], [1.0], [3.0]])
    value = TripletOHM(INFO, margin=margin)(embeddings, torch.tensor([0, 1, 0, 1, 1, 0]))
    assert value.per_item["loss"].tolist() == pytest.approx(terms)
    assert value.total.item() == pytest.approx(sum(terms) / 2)


def test_the_time_of_mining_is_in_the_record(tmp_path):
    plan, record, _ = run(job(loss="triplet_ohm(pool=60, refresh=2)"), results=tmp_path)
    assert record.status == "ok"
    assert 0 < record.seconds["rounds"] < record.seconds["train"]
    summary = read_summary(plan.training_folder)
    assert round(summary.sampling_seconds, 3) == record.seconds["rounds"]
    _, again, _ = run(job(loss="triplet_ohm(pool=60, refresh=2)", metric="euclidean(normalize=true)"), results=tmp_path)
    assert again.seconds["rounds"] == record.seconds["rounds"], "it is the training's, whatever is scored"
