"""The classic triplet loss: random triplets, stacked to batches of about P x K images."""

from __future__ import annotations

import torch
from torch import Tensor

from reidbench import IntArray, Loss, LossValue, TrainInfo, TrainingError, TrainView, hookimpl
from reidbench_losses.distances import Distance, between
from reidbench_losses.sampling import random_triplets, shuffled_passes, stacked_batches, units_with_positive
from reidbench_losses.triplet import Margin, checked_margin, with_margin


def triplet_terms(
    embeddings: Tensor, triplets: Tensor, margin: Margin = "soft", distance: Distance = "euclidean"
) -> Tensor:
    """Return the terms [T] of given triplets: the margin function of D(anchor, positive) - D(anchor, negative).

    ``embeddings`` [B, D] of any float dtype, ``triplets`` [T, 3] rows of (anchor, positive, negative); the result is
    float32, or float64 where the embeddings are. Source: Hermans et al. 2017, Eq. 4 and 8.
    """
    anchors, positives, negatives = triplets.T
    distances = between(embeddings, torch.cat([anchors, anchors]), torch.cat([positives, negatives]), distance)
    return with_margin(distances[: len(triplets)] - distances[len(triplets) :], margin)


def triplet_round(view: TrainView, name: str) -> list[IntArray]:
    """Return one round of random triplets for the loss ``name``: stacked batches of 3B units, about one pass in all.

    B is PK // 3 (42 for 32 x 4). Anchors come from shuffled passes over the units that have a positive.
    Raises TrainingError where no unit has a positive or a negative.
    """
    size = max(1, view.p * view.k // 3)
    batches = max(1, len(view.labels) // (3 * size))
    anchors = shuffled_passes(units_with_positive(view.labels, name), batches * size, view.generator)
    return stacked_batches(random_triplets(view.labels, anchors, view.generator), size)


def stacked_triplets(labels: Tensor, name: str) -> Tensor:
    """Return the rows [B, 3] of the triplets of a stacked batch with ``labels`` [3B].

    Raises TrainingError, naming the loss ``name``, where the labels are not those of a stacked batch.
    """
    size = len(labels) // 3
    anchors, positives, negatives = labels[: 3 * size].view(3, size)
    if size == 0 or len(labels) % 3 or bool(((anchors != positives) | (anchors == negatives)).any()):
        raise TrainingError(
            f"{name}: a batch must be B anchors, then their B positives, then their B negatives; the {len(labels)} "
            "labels are not; use the batches of its own next_round"
        )
    return torch.arange(3 * size, device=labels.device).view(3, size).T


class Triplet(Loss):
    """Triplet loss of random triplets, in batches of about P x K images.

    Options:
        margin: "soft" for ln(1 + e^x), or the margin m >= 0 of the hinge [m + x]_+, in units of the distance.
        distance: The distance between embeddings: euclidean, sqeuclidean (its square) or cosine (1 - cos).

    Takes embeddings [3B, D] and labels [3B] in the order of its own rounds: B anchors, then their positives, then
    their negatives; computes in float32, or in float64 where the embeddings are.
    Raises OptionError for a negative margin, TrainingError for a batch in any other order, and for data without
    positives or negatives.
    Source: Hermans, Beyer, Leibe 2017, Eq. 4 and 8 (mean over the terms), and footnote 2 (3B is about PK).
    Reference: https://arxiv.org/abs/1703.07737
    """

    def __init__(self, info: TrainInfo, *, margin: Margin = "soft", distance: Distance = "euclidean") -> None:
        super().__init__()
        self.margin = checked_margin(margin, "triplet")
        self.distance = distance

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        """Return the batches of about one pass over the training set, each of PK // 3 stacked triplets."""
        return triplet_round(view, "triplet")

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a stacked batch and the terms of its triplets."""
        terms = triplet_terms(embeddings, stacked_triplets(labels, "triplet"), self.margin, self.distance)
        return LossValue(total=terms.mean(), per_item={"loss": terms})


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer triplet."""
    return {"triplet": Triplet}
