"""Contrastive loss of pairs, for networks that compare pairs of images."""

from __future__ import annotations

import torch
from torch import Tensor

from reidbench import IntArray, Loss, LossValue, OptionError, TrainInfo, TrainingError, TrainView, hookimpl
from reidbench_losses.verification import pair_round


class Contrastive(Loss):
    """Squared distances of positive pairs, and squared hinges of those of negative pairs, by the network's pair stage.

    Options:
        margin: Distance from which on a negative pair costs nothing, above 0.

    It samples its own rounds of pairs, half of them positive, as ``verification`` does, and trains only networks that
    compare pairs of images. Takes rows [2B, D], the first of all pairs and then the second, and labels [2B]; the loss
    is the mean over the pairs of d² (positive) or max(0, margin - d)² (negative); logs the share of pairs on the right
    side of half the margin. Raises OptionError for a margin of 0 or less, TrainingError for data or batches without
    pairs.
    Source: Hadsell, Chopra, LeCun 2006, "Dimensionality Reduction by Learning an Invariant Mapping", without the factor
    1/2; Varior, Haloi, Wang 2016, "Gated Siamese Convolutional Neural Network Architecture for Human
    Re-Identification", [31] of Hermans et al. 2017.
    """

    trains_pairs = True

    def __init__(self, info: TrainInfo, *, margin: float = 1.0) -> None:
        super().__init__()
        if margin <= 0:
            raise OptionError(f"contrastive: option margin: expected a number above 0, got {margin}")
        self.margin, self.pair = margin, info.pair

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        """Return one round of pairs, see ``pair_round``."""
        return pair_round(view, "contrastive")

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the mean over the pairs, the terms of the pairs, and the accuracy at half the margin."""
        if len(labels) % 2:
            raise TrainingError(f"contrastive: expected a batch of pairs, got {len(labels)} images")
        assert self.pair is not None  # a run without a pair stage is refused
        distances = self.pair(*embeddings.chunk(2))
        first, second = labels.chunk(2)
        same = first == second
        terms = torch.where(same, distances, (self.margin - distances).clamp(min=0)).square()
        accuracy = ((distances.detach() < self.margin / 2) == same).to(distances.dtype).mean()
        return LossValue(total=terms.mean(), per_item={"loss": terms}, scalars={"accuracy": accuracy})


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer contrastive."""
    return {"contrastive": Contrastive}
