"""The triplet loss with offline hard mining: triplets are looked for in a large part of the training set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reidbench import IntArray, Loss, LossValue, OptionError, TrainInfo, TrainView, hookimpl
from reidbench_losses.distances import Distance
from reidbench_losses.random_triplet import stacked_triplets, triplet_terms
from reidbench_losses.rounds import accompanied, passes
from reidbench_losses.triplet import Margin, checked_margin

# Anchors that are compared with the whole pool at once: with 16,384 images in it their distances take 64 MiB.
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

    ``embeddings`` [n, D], ``labels`` [n] any integers. The positive is drawn from the ``hardest`` farthest rows of the
    anchor's identity, or from all where there are fewer, the negative from the ``hardest`` closest rows of other
    identities; every anchor must have one of each.
    """
    # The squared and the cosine distance rise with the Euclidean one between rows, or between unit rows.
    rows = functional.normalize(embeddings) if distance == "cosine" else embeddings
    names = torch.from_numpy(labels).to(rows.device)
    draws = torch.from_numpy(generator.random((len(anchors), 2))).to(rows.device)
    many = min(hardest, len(labels))
    found = []
    for start in range(0, len(anchors), BLOCK):
        block, draw = torch.from_numpy(anchors[start : start + BLOCK]).to(rows.device), draws[start : start + BLOCK]
        distances = torch.cdist(rows[block], rows, compute_mode="donot_use_mm_for_euclid_dist")
        same = names[block, None] == names[None, :]
        positives = same.scatter(1, block[:, None], False)
        farthest = distances.masked_fill(~positives, -torch.inf).topk(many).indices
        closest = distances.masked_fill(same, torch.inf).topk(many, largest=False).indices
        triplet = [block]
        for candidates, allowed, chance in zip((farthest, closest), (positives, ~same), draw.T, strict=True):
            place = (chance * allowed.sum(dim=1).clamp(max=many)).long()
            triplet.append(candidates.gather(1, place[:, None])[:, 0])
        found.append(torch.stack(triplet, dim=1).cpu().numpy())
    return np.concatenate(found)


class TripletOHM(Loss):
    """Triplet loss of the hardest triplets of a large part of the training set, mined anew every so many steps.

    Options:
        margin: "soft" for ln(1 + e^x), or the margin m >= 0 of the hinge [m + x]_+, in units of the distance.
        distance: The distance between embeddings: euclidean, sqeuclidean (its square) or cosine (1 - cos).
        pool: Images drawn at random and embedded with the present network at each mining; all where there are fewer.
        refresh: Steps from one mining to the next, at least 1.
        hardest: Draw the positive from that many farthest and the negative from that many closest; 1 for the hardest.

    It brings its own rounds of ``refresh`` batches with about P * K / 3 triplets each: anchors are the pool's images in
    shuffled passes, without those that are alone with their identity there. Mining sees the centre of the images, as
    at test time. Takes embeddings [3B, D], first all anchors, then their positives, then their negatives, and labels
    [3B]; computes in float32, or in float64 where the embeddings are. Raises OptionError for options out of range,
    TrainingError for a pool without triplets and for batches in another order.
    Source: Hermans, Beyer, Leibe 2017, Eq. 4, and "OHM" in section 3.4 and Table 1, which give no details: the defaults
    are ours.
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
        for name, value, least in (("pool", pool, 3), ("refresh", refresh, 1), ("hardest", hardest, 1)):
            if value < least:
                raise OptionError(f"triplet_ohm: {name} must be at least {least}, got {value}")
        self.margin = checked_margin(margin, "triplet_ohm")
        self.distance = distance
        self.pool_size = pool
        self.refresh = refresh
        self.hardest = hardest

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        """Return ``refresh`` batches of triplets, mined with the present network."""
        pool = view.generator.permutation(len(view.labels))[: self.pool_size]
        labels = view.labels[pool]
        anchors = accompanied(labels, "triplet_ohm")
        size = max(1, view.p * view.k // 3)
        drawn = passes(anchors, self.refresh * size, view.generator)
        mined = mine(view.embed(pool), labels, drawn, self.hardest, self.distance, view.generator)
        return [batch.T.reshape(-1) for batch in pool[mined].reshape(self.refresh, size, 3)]

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a stacked batch and the term of each triplet."""
        terms = triplet_terms(embeddings, stacked_triplets(labels, "triplet_ohm"), self.margin, self.distance)
        return LossValue(total=terms.mean(), per_item={"loss": terms})


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer triplet_ohm."""
    return {"triplet_ohm": TripletOHM}
