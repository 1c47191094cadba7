"""Batch all: every triplet of a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reidbench import Loss, LossValue, TrainInfo, hookimpl
from reidbench_losses.distances import Distance, pairwise, rows_of
from reidbench_losses.triplet import Average, Margin, checked_margin, mean_of_terms, same_identity, with_margin


def batch_all_terms(
    embeddings: Tensor, labels: Tensor, margin: Margin = "soft", distance: Distance = "euclidean"
) -> Tensor:
    """Return the terms [T] of batch all, one for each anchor, positive other than the anchor, and negative.

    ``embeddings`` [B, D] of any float dtype, ``labels`` [B] integers in any order and number; the result is float32,
    or float64 where the embeddings are. T is PK (K - 1) (PK - K) for P x K batches. Raises TrainingError where no
    anchor has a positive or a negative.
    Source: Hermans et al. 2017, Eq. 6 with D_ap - D_an added to the margin (as in Eq. 4), and Eq. 8.
    """
    same = same_identity(labels, "batch_all")
    distances = pairwise(embeddings, distance)
    positives = same.clone().fill_diagonal_(False)
    counts = same.sum(dim=1)
    if bool((counts == counts[0]).all()):
        differences: Tensor = _Grid.apply(distances, positives, ~same)
    else:
        anchors = positives.nonzero()[:, 0]
        closer = distances.masked_select(positives)
        differences = (closer[:, None] - rows_of(distances, anchors)).masked_select(~same[anchors])
    return with_margin(differences.flatten(), margin)


class _Grid(torch.autograd.Function):
    """D_ap - D_an [B, K - 1, PK - K] of all triplets, where every identity has the same number of images.

    All rows then have one length, and nothing is masked. The gradient is written out: it is two sums, which autograd
    would compute with several passes over the grid.
    """

    @staticmethod
    def forward(ctx: Any, distances: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        ctx.save_for_backward(positives, negatives)
        images = len(distances)
        farther = distances.masked_select(negatives).view(images, 1, -1)
        return distances.masked_select(positives).view(images, -1, 1) - farther

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        positives, negatives = ctx.saved_tensors
        slopes = gradient.new_zeros(positives.shape)
        slopes.masked_scatter_(positives, gradient.sum(dim=2)).masked_scatter_(negatives, gradient.sum(dim=1).neg_())
        return slopes, None, None


class BatchAll(Loss):
    """Triplet loss over all triplets of a batch.

    Options:
        margin: "soft" for ln(1 + e^x), or the margin m >= 0 of the hinge [m + x]_+, in units of the distance.
        distance: The distance between embeddings: euclidean, sqeuclidean (its square) or cosine (1 - cos).
        average: "all" for the mean over all triplets, "nonzero" for the mean over triplets whose term is above 0.

    Takes embeddings [B, D] and labels [B]; computes in float32, or in float64 where the embeddings are. An anchor
    without a positive is in no triplet.
    Raises OptionError for a negative margin, TrainingError for a batch without any positive or negative.
    Source: Hermans, Beyer, Leibe 2017, Eq. 6 and 8 (mean over the terms); "nonzero" is the variant marked in Table 1.
    Reference: https://arxiv.org/abs/1703.07737
    """

    def __init__(
        self,
        info: TrainInfo,
        *,
        margin: Margin = "soft",
        distance: Distance = "euclidean",
        average: Average = "all",
    ) -> None:
        super().__init__()
        self.margin = checked_margin(margin, "batch_all")
        self.distance = distance
        self.average = average

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a batch and the terms of its triplets."""
        terms = batch_all_terms(embeddings, labels, self.margin, self.distance)
        return LossValue(total=mean_of_terms(terms, self.average), per_item={"loss": terms})


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer batch_all."""
    return {"batch_all": BatchAll}
