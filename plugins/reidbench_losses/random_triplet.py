"""The classic triplet loss: triplets drawn at random, stacked to batches of about P x K images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reidbench import IntArray, Loss, LossValue, TrainInfo, TrainingError, TrainView, hookimpl
from reidbench_losses.distances import Distance, between
from reidbench_losses.triplet import Margin, checked_margin, with_margin


def triplet_terms(
    embeddings: Tensor, triplets: Tensor, margin: Margin = "soft", distance: Distance = "euclidean"
) -> Tensor:
    """Return the terms [T] of given triplets: the margin function of D(anchor, positive) - D(anchor, negative).

    ``embeddings`` [B, D] of any float dtype, ``triplets`` [T, 3] rows of (anchor, positive, negative); the result is
    float32, or float64 where the embeddings are. Source: Hermans et al. 2017, Eq. 4 and 8.
    """
    anchors, positives, negatives = triplets.T
    found = between(embeddings, torch.cat([anchors, anchors]), torch.cat([positives, negatives]), distance)
    return with_margin(found[: len(triplets)] - found[len(triplets) :], margin)


def random_triplets(labels: IntArray, anchors: IntArray, generator: np.random.Generator) -> IntArray:
    """Return a triplet of units [T, 3] for each of ``anchors`` [T]: with a positive and a negative, drawn uniformly.

    ``labels`` [n] are integers, one per unit. The positive is another unit of the anchor's label, of which there must
    be two or more, the negative one of any other label.
    """
    order = np.argsort(labels, kind="stable")
    place = np.argsort(order, kind="stable")[anchors]
    _, starts, inverse, counts = np.unique(labels[order], return_index=True, return_inverse=True, return_counts=True)
    start, count = starts[inverse[place]], counts[inverse[place]]
    # One to count - 1 places on from the anchor, around the units of its label.
    positives = start + (place - start + generator.integers(1, count)) % count
    others = generator.integers(0, len(labels) - count)
    negatives = np.where(others < start, others, others + count)
    return np.stack([anchors, order[positives], order[negatives]], axis=1)


def triplet_round(view: TrainView, name: str) -> list[IntArray]:
    """Return one round of random triplets for the loss ``name``: batches of 3B units, about one pass in all.

    B is PK // 3 (42 for 32 x 4). A batch stacks its triplets: B anchors, then their positives, then their negatives.
    Anchors come from shuffled passes over the units that have a positive.
    Raises TrainingError where no unit has a positive, or none a negative.
    """
    identities, inverse, counts = np.unique(view.labels, return_inverse=True, return_counts=True)
    eligible = np.flatnonzero(counts[inverse] > 1)
    if len(eligible) == 0 or len(identities) == 1:
        lacking = "negative, as all are of one identity" if len(identities) == 1 else "positive, as no two share theirs"
        raise TrainingError(f"{name}: none of the {len(view.labels)} training units has a {lacking}; use other data")
    size = max(1, view.p * view.k // 3)
    batches = max(1, len(view.labels) // (3 * size))
    passes = -(-batches * size // len(eligible))
    anchors = np.concatenate([view.generator.permutation(eligible) for _ in range(passes)])[: batches * size]
    triplets = random_triplets(view.labels, anchors, view.generator)
    return [batch.T.reshape(-1) for batch in triplets.reshape(batches, size, 3)]


def stacked_triplets(labels: Tensor, name: str) -> Tensor:
    """Return the triplets [B, 3] of a stacked batch with ``labels`` [3B]: anchors, their positives, their negatives.

    Raises TrainingError, naming the loss ``name``, where the labels are not those of such a batch.
    """
    size = len(labels) // 3
    anchors, positives, negatives = labels[: 3 * size].view(3, size)
    if size == 0 or len(labels) % 3 or bool(((anchors != positives) | (anchors == negatives)).any()):
        raise TrainingError(
            f"{name}: a batch must be B anchors, then their B positives, then their B negatives; these {len(labels)} "
            "labels are not; give it the batches of its own next_round"
        )
    return torch.arange(3 * size, device=labels.device).view(3, size).T


class Triplet(Loss):
    """The classic triplet loss over random triplets, stacked to batches of about P x K images.

    Options:
        margin: "soft" for ln(1 + e^x), or the margin m >= 0 of the hinge [m + x]_+, in units of the distance.
        distance: The distance between embeddings: euclidean, sqeuclidean (its square) or cosine (1 - cos).

    Takes embeddings [3B, D] and labels [3B] in the order of its own rounds: B anchors, then their positives, then
    their negatives; computes in float32, or in float64 where the embeddings are..
    Raises OptionError for a negative margin, TrainingError for a batch in any other order, and for data in which no
    unit has a positive, or none a negative.
    Source: Hermans, Beyer, Leibe 2017, Eq. 4 and 8 (mean over the terms), and footnote 2 (3B is about PK).
    """

    def __init__(self, info: TrainInfo, *, margin: Margin = "soft", distance: Distance = "euclidean") -> None:
        super().__init__()
        self.margin = checked_margin(margin, "triplet")
        self.distance = distance

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        """Return the batches of about one pass over the training set, each of PK // 3 stacked triplets."""
        return triplet_round(view, "triplet")

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a stacked batch and the term of each triplet."""
        terms = triplet_terms(embeddings, stacked_triplets(labels, "triplet"), self.margin, self.distance)
        return LossValue(total=terms.mean(), per_item={"loss": terms})


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer triplet."""
    return {"triplet": Triplet}
