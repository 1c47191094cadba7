"""Triplet losses over the batch: every image is an anchor, and the batch holds its positives and negatives."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from reidbench import Loss, LossValue, OptionError, TrainInfo, TrainingError, hookimpl
from reidbench_losses.distances import Distance, pairwise

Margin = Literal["soft"] | float


def hardest(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return each anchor's largest distance to its own label and its smallest to another one, both [B].

    ``distances`` [B, B] has zeros on its diagonal, ``labels`` is [B]. An anchor whose label occurs once has hardest
    positive 0. Equally hard ones share the gradient. Raises TrainingError where no label occurs twice, or only one.
    """
    same = labels[:, None] == labels[None, :]
    pairs = int(same.sum())
    images = len(labels)
    if pairs == images:
        raise TrainingError(
            f"batch_hard: no anchor has a positive, as all {images} images of the batch are of different identities; "
            "draw at least k=2 images of an identity (pk batches)"
        )
    if pairs == images * images:
        raise TrainingError(
            f"batch_hard: no anchor has a negative, as all {images} images of the batch are of one identity; "
            "draw at least p=2 identities (pk batches)"
        )
    # The anchor may stand among its positives: its own distance, 0, wins only where no other is larger.
    hardest_positive = distances.masked_fill(~same, -torch.inf).amax(dim=1)
    hardest_negative = distances.masked_fill(same, torch.inf).amin(dim=1)
    return hardest_positive, hardest_negative


def with_margin(difference: Tensor, margin: Margin) -> Tensor:
    """Return the hinge [margin + x]_+ of each difference x, or ln(1 + e^x) where ``margin`` is "soft"."""
    if margin == "soft":
        # Above the default threshold of 20 softplus returns x itself, which is 2e-9 off: too much for float64.
        return functional.softplus(difference, threshold=50)
    return functional.relu(margin + difference)


def batch_hard_terms(
    embeddings: Tensor, labels: Tensor, margin: Margin = "soft", distance: Distance = "euclidean"
) -> Tensor:
    """Return the terms [B] of batch hard, one an anchor: the margin function of D(hardest positive) - D(negative).

    ``embeddings`` [B, D] of any float dtype, ``labels`` [B] integers in any order and number; the result is float32,
    or float64 where the embeddings are. Raises TrainingError where no anchor has a positive, or none a negative.
    Source: Hermans et al. 2017, Eq. 5 with the bracket closed after the negative, and Eq. 8.
    """
    hardest_positive, hardest_negative = hardest(pairwise(embeddings, distance), labels)
    return with_margin(hardest_positive - hardest_negative, margin)


class BatchHard(Loss):
    """Triplet loss of each anchor with the farthest positive and the closest negative in its batch.

    Options:
        margin: "soft" for ln(1 + e^x), or the margin m >= 0 of the hinge [m + x]_+, in units of the distance.
        distance: The distance between embeddings: euclidean, sqeuclidean (its square) or cosine (1 - cos).
        average: "all" for the mean over all anchors, "nonzero" for the mean over anchors whose term is above 0.

    Takes embeddings [B, D] and labels [B]; computes in float32, or in float64 where the embeddings are. An anchor
    alone with its identity has D_ap = 0 and counts. Logs the mean distances to the hardest positives and negatives.
    Raises OptionError for a negative margin, TrainingError for a batch without any positive or without any negative.
    Source: Hermans, Beyer, Leibe 2017, Eq. 5 and 8 (mean over the terms); "nonzero" is the variant marked in Table 1.
    """

    def __init__(
        self,
        info: TrainInfo,
        *,
        margin: Margin = "soft",
        distance: Distance = "euclidean",
        average: Literal["all", "nonzero"] = "all",
    ) -> None:
        super().__init__()
        if margin != "soft" and margin < 0:
            raise OptionError(f"batch_hard: margin must be at least 0, or soft; got {margin}")
        self.margin = margin
        self.distance = distance
        self.average = average

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a batch, its per-anchor terms and the mean hardest distances."""
        hardest_positive, hardest_negative = hardest(pairwise(embeddings, self.distance), labels)
        terms = with_margin(hardest_positive - hardest_negative, self.margin)
        # Terms are never negative, so the sum over those above 0 is the sum over all, and 0 keeps its graph.
        count = (terms > 0).sum().clamp(min=1) if self.average == "nonzero" else len(terms)
        return LossValue(
            total=terms.sum() / count,
            per_item={"loss": terms},
            scalars={
                "hardest_positive": hardest_positive.detach().mean(),
                "hardest_negative": hardest_negative.detach().mean(),
            },
        )


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer batch_hard."""
    return {"batch_hard": BatchHard}
