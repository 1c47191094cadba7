"""Triplet loss with offline hard mining (OHM): triplets are mined in a random part of the training set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reidbench import IntArray, Loss, LossValue, TrainInfo, TrainView, hookimpl
from reidbench_losses.checks import check_at_least
from reidbench_losses.distances import Distance
from reidbench_losses.random_triplet import stacked_triplets, triplet_terms
from reidbench_losses.sampling import shuffled_passes, stacked_batches, units_with_positive
from reidbench_losses.triplet import Margin, checked_margin

# Anchors in one distance matrix: with a pool of 16,384 images it takes 64 MiB.
BLOCK = 1024


def mine(
    embeddings: Tensor,
    labels: IntArray,
    anchors: IntArray,
    hardest: int,
    distance: Distance,
    generator: np.random.Generator,
) -> IntArray:
    """Return a triplet of rows for each of ``anchors``: int64 [len(anchors), 3] of anchor, positive and negative.

    ``embeddings`` [n, D], ``labels`` [n] any integers. The positive is sampled from the ``hardest`` farthest rows of
    the anchor's identity, or from all where there are fewer, the negative from the ``hardest`` closest rows of other
    identities; every anchor must have one of each.
    """
    # The squared and the cosine distance are monotonic in the Euclidean one of rows, and of unit rows.
    rows = functional.normalize(embeddings) if distance == "cosine" else embeddings
    pids = torch.from_numpy(labels).to(rows.device)
    uniform = torch.from_numpy(generator.random((len(anchors), 2))).to(rows.device)
    most = min(hardest, len(labels))
    mined = []
    for start in range(0, len(anchors), BLOCK):
        block = torch.from_numpy(anchors[start : start + BLOCK]).to(rows.device)
        distances = torch.cdist(rows[block], rows, compute_mode="donot_use_mm_for_euclid_dist")
        same = pids[block, None] == pids[None, :]
        positives = same.scatter(1, block[:, None], False)
        farthest = distances.masked_fill(~positives, -torch.inf).topk(most).indices
        closest = distances.masked_fill(same, torch.inf).topk(most, largest=False).indices
        triplet = [block]
        numbers = uniform[start : start + BLOCK].T
        for candidates, allowed, number in zip((farthest, closest), (positives, ~same), numbers, strict=True):
            choice = (number * allowed.sum(dim=1).clamp(max=most)).long()
            triplet.append(candidates.gather(1, choice[:, None])[:, 0])
        mined.append(torch.stack(triplet, dim=1).cpu().numpy())
    return np.concatenate(mined)


class TripletOHM(Loss):
    """Triplet loss of the hardest triplets of a random part of the training set, mined again every ``refresh`` steps.

    Options:
        margin: "soft" for ln(1 + e^x), or the margin m >= 0 of the hinge [m + x]_+, in units of the distance.
        distance: The distance between embeddings: euclidean, sqeuclidean (its square) or cosine (1 - cos).
        pool: Number of random images that are embedded with the current network for mining; all if there are fewer.
        refresh: Steps from one mining to the next, at least 1.
        hardest: The positive is sampled from that many farthest, the negative from that many closest images.

    It samples its own rounds of ``refresh`` batches with about P * K / 3 triplets each: anchors are the pool's images
    in shuffled passes, without those that have no positive in the pool. Mining embeds the centre crop, as at test time.
    Takes embeddings [3B, D], first all anchors, then their positives, then their negatives, and labels [3B]; computes
    in float32, or in float64 where the embeddings are. Raises OptionError for options out of range, TrainingError for a
    pool without triplets and for batches in another order.
    Source: Hermans, Beyer, Leibe 2017, Eq. 4, and "OHM" in section 3.4 and Table 1; the paper gives no details, so the
    defaults are ours.
    Reference: https://arxiv.org/abs/1703.07737
    """

    def __init__(
        self,
        info: TrainInfo,
        *,
        margin: Margin = "soft",
        distance: Distance = "euclidean",
        pool: int = 4096,
        refresh: int = 100,
        hardest: int = 1,
    ) -> None:
        super().__init__()
        check_at_least("triplet_ohm", 3, pool=pool)
        check_at_least("triplet_ohm", 1, refresh=refresh, hardest=hardest)
        self.margin = checked_margin(margin, "triplet_ohm")
        self.distance = distance
        self.pool_size = pool
        self.refresh = refresh
        self.hardest = hardest

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        """Return ``refresh`` stacked batches of triplets, mined with the current network."""
        pool = view.generator.permutation(len(view.labels))[: self.pool_size]
        labels = view.labels[pool]
        size = max(1, view.p * view.k // 3)
        anchors = shuffled_passes(units_with_positive(labels, "triplet_ohm"), self.refresh * size, view.generator)
        mined = mine(view.embed(pool), labels, anchors, self.hardest, self.distance, view.generator)
        return stacked_batches(pool[mined], size)

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a stacked batch and the terms of its triplets."""
        terms = triplet_terms(embeddings, stacked_triplets(labels, "triplet_ohm"), self.margin, self.distance)
        return LossValue(total=terms.mean(), per_item={"loss": terms})


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer triplet_ohm."""
    return {"triplet_ohm": TripletOHM}
