"""Batch hard: each image is an anchor, with the hardest positive and the hardest negative of its batch."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from reidbench import Loss, LossValue, OptionError, Searched, TrainInfo, TrainingError, hookimpl
from reidbench_losses.distances import Distance, between, may_be_hardest, pairwise

# A study searches the margins of Hermans et al. 2017, Table 1.
Margin = Annotated[Literal["soft"] | float, Searched(choices=("soft", 0.1, 0.2, 0.5, 1.0))]
Average = Literal["all", "nonzero"]


def same_identity(labels: Tensor, name: str) -> Tensor:
    """Return which images [B, B] have the same label, each image with itself too.

    Raises TrainingError, naming the loss ``name``, where no anchor has a positive, or no anchor has a negative.
    """
    same = labels[:, None] == labels[None, :]
    pairs = int(same.sum())
    images = len(labels)
    if pairs == images:
        raise TrainingError(
            f"{name}: no anchor has a positive, as all {images} images of the batch are of different identities; "
            "sample at least k=2 images of an identity (pk batches)"
        )
    if pairs == images * images:
        raise TrainingError(
            f"{name}: no anchor has a negative, as all {images} images of the batch are of one identity; "
            "sample at least p=2 identities (pk batches)"
        )
    return same


def hardest(embeddings: Tensor, same: Tensor, distance: Distance) -> tuple[Tensor, Tensor]:
    """Return each anchor's largest distance to its own identity and its smallest to another one, both [B].

    ``embeddings`` is [B, D], ``same`` [B, B] the result of ``same_identity``. The hardest positive of an anchor without
    a positive is 0. Equally hard images share the gradient.
    """
    # Candidates for the hardest pairs come from the whole matrix without gradient; only they are measured exactly.
    far, near = may_be_hardest(embeddings, same, distance)
    if 4 * (len(far) + len(near)) > same.numel():  # in a collapsed batch nearly all pairs are candidates
        distances = pairwise(embeddings, distance)
        return distances.masked_fill(~same, -torch.inf).amax(dim=1), distances.masked_fill(same, torch.inf).amin(dim=1)
    first, second = torch.cat([far, near]).T
    measured = between(embeddings, first, second, distance)
    nothing = measured.new_full((len(same),), torch.nan)
    return (
        nothing.index_fill(0, far[:, 0], -torch.inf).scatter_reduce(0, far[:, 0], measured[: len(far)], "amax"),
        nothing.index_fill(0, near[:, 0], torch.inf).scatter_reduce(0, near[:, 0], measured[len(far) :], "amin"),
    )


def checked_margin(margin: Margin, name: str) -> Margin:
    """Return ``margin``. Raises OptionError, naming the loss ``name``, for a negative one."""
    if margin != "soft" and margin < 0:
        raise OptionError(f"{name}: option margin: expected soft, or 0 or more, got {margin}")
    return margin


def with_margin(difference: Tensor, margin: Margin) -> Tensor:
    """Return the hinge [margin + x]_+ of each difference x, or ln(1 + e^x) where ``margin`` is "soft"."""
    if margin == "soft":
        # Above the default threshold of 20 softplus returns x itself, an error of 2e-9: too large for float64.
        return functional.softplus(difference, threshold=50)
    return functional.relu(margin + difference, inplace=True)  # the sum has no other user


def mean_of_terms(terms: Tensor, average: Average) -> Tensor:
    """Return the mean of ``terms`` [T], or of those above 0 where ``average`` is "nonzero" (0 if there are none)."""
    # Terms are never negative, so the sum over those above 0 is the sum over all; a sum of 0 still has a gradient.
    count = torch.count_nonzero(terms).clamp(min=1) if average == "nonzero" else len(terms)
    return terms.sum() / count


class BatchHard(Loss):
    """Triplet loss of each anchor with its farthest positive and its closest negative in the batch.

    Options:
        margin: "soft" for ln(1 + e^x), or the margin m >= 0 of the hinge [m + x]_+, in units of the distance.
        distance: The distance between embeddings: euclidean, sqeuclidean (its square) or cosine (1 - cos).
        average: "all" for the mean over all anchors, "nonzero" for the mean over anchors whose term is above 0.
        singletons: "count" an anchor without a positive, with D_ap = 0, or "skip" it.

    Takes embeddings [B, D] and labels [B]; computes in float32, or in float64 where the embeddings are. Logs the mean
    distances to the hardest positives and negatives of the anchors that count.
    Raises OptionError for a negative margin, TrainingError for a batch without any positive or negative.
    Source: Hermans, Beyer, Leibe 2017, Eq. 5 and 8 (mean over the terms); "nonzero" is the variant marked in Table 1.
    Reference: https://arxiv.org/abs/1703.07737
    """

    def __init__(
        self,
        info: TrainInfo,
        *,
        margin: Margin = "soft",
        distance: Distance = "euclidean",
        average: Average = "all",
        singletons: Literal["count", "skip"] = "count",
    ) -> None:
        super().__init__()
        self.margin = checked_margin(margin, "batch_hard")
        self.distance = distance
        self.average = average
        self.singletons = singletons

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a batch, the terms of its anchors and the mean hardest distances."""
        same = same_identity(labels, "batch_hard")
        hardest_positive, hardest_negative = hardest(embeddings, same, self.distance)
        if self.singletons == "skip":
            with_positive = same.sum(dim=1) > 1
            hardest_positive, hardest_negative = hardest_positive[with_positive], hardest_negative[with_positive]
        terms = with_margin(hardest_positive - hardest_negative, self.margin)
        return LossValue(
            total=mean_of_terms(terms, self.average),
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
