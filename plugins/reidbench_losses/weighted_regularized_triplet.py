"""The weighted regularised triplet loss: all positives and negatives of an anchor, the hard ones with more weight."""

from __future__ import annotations

import torch
from torch import Tensor

from reidbench import Loss, LossValue, TrainInfo, hookimpl
from reidbench_losses.distances import Distance, pairwise
from reidbench_losses.triplet import same_identity, with_margin


class WeightedRegularizedTriplet(Loss):
    """Soft-margin triplet loss of each anchor with softmax-weighted means of its positives and of its negatives.

    Options:
        distance: The distance between embeddings: euclidean, sqeuclidean (its square) or cosine (1 - cos).
        include_anchor: Whether the anchor is among its own positives, at the distance 0, as in the authors' code.

    Takes embeddings [B, D] and labels [B]; computes in float32, or in float64 where the embeddings are. An anchor
    without a positive counts, with 0 for its positives. The gradient passes through the weights. Logs the mean of both
    weighted distances.
    Raises TrainingError for a batch without any positive or negative.
    Source: Ye, Shen, Lin, Xiang, Shao, Hoi 2021, "Deep Learning for Person Re-identification: A Survey and Outlook"
    (AGW), section 4. The weights are exact, unlike those of the authors' code, which adds 1e-6 to their denominators.
    Reference: https://arxiv.org/abs/2001.04193
    """

    def __init__(self, info: TrainInfo, *, distance: Distance = "euclidean", include_anchor: bool = True) -> None:
        super().__init__()
        self.distance = distance
        self.include_anchor = include_anchor

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a batch, the terms of its anchors and the mean weighted distances."""
        same = same_identity(labels, "weighted_regularized_triplet")
        distances = pairwise(embeddings, self.distance)
        positive = same
        if not self.include_anchor:
            single = same.sum(dim=1) == 1  # only its own distance, 0, remains
            positive = same & (~torch.eye(len(same), dtype=torch.bool, device=same.device) | single)
        far = (distances.masked_fill(~positive, -torch.inf).softmax(dim=1) * distances).sum(dim=1)
        near = (distances.neg().masked_fill(same, -torch.inf).softmax(dim=1) * distances).sum(dim=1)
        terms = with_margin(far - near, "soft")
        return LossValue(
            total=terms.mean(),
            per_item={"loss": terms},
            scalars={"weighted_positive": far.detach().mean(), "weighted_negative": near.detach().mean()},
        )


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer weighted_regularized_triplet."""
    return {"weighted_regularized_triplet": WeightedRegularizedTriplet}
