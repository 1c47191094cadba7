"""The recall@k surrogate: the share of positives among the first k, with sigmoids in place of steps."""

from __future__ import annotations

import torch
from torch import Tensor

from reidbench import Loss, LossValue, OptionError, TrainInfo, hookimpl
from reidbench_losses.checks import check_above_0
from reidbench_losses.smooth_ap import RankTemperature, closer_images, sum_by_query
from reidbench_losses.triplet import same_identity


class RecallAtKSurrogate(Loss):
    """1 - the mean over the images of a batch, and over several k, of the smooth recall at k in the batch.

    Options:
        ranks: The k, from 1.
        temperature: The temperature > 0 of the sigmoid of a difference of cosine similarities.
        cut_temperature: The temperature > 0 of the sigmoid of a rank's distance to k.
        include_query: Whether a query is an item of its own list, but no positive, as in the authors' code.

    Takes embeddings [B, D] and labels [B], identities with any number of images in any order; computes in float32, or
    in float64 where the embeddings are. An image without a positive is no query. Memory grows with B² (K - 1). The
    metric at test time is cosine.
    Raises OptionError for a temperature of 0 or less and for ranks that are not from 1, TrainingError for a batch
    without any positive or negative.
    Source: Patel, Tolias, Matas 2022, "Recall@k Surrogate Loss with Large Batches and Similarity Mixup", without mixup.
    Reference: https://arxiv.org/abs/2108.11179
    """

    metric = "cosine"

    def __init__(
        self,
        info: TrainInfo,
        *,
        ranks: tuple[int, ...] = (1, 2, 4, 8, 16),
        temperature: RankTemperature = 0.01,
        cut_temperature: float = 1.0,
        include_query: bool = False,
    ) -> None:
        super().__init__()
        check_above_0("recall_at_k_surrogate", temperature=temperature, cut_temperature=cut_temperature)
        if not ranks or min(ranks) < 1:
            raise OptionError(f"recall_at_k_surrogate: option ranks: expected numbers from 1, got {list(ranks)}")
        self.ranks = ranks
        self.temperature, self.cut_temperature = temperature, cut_temperature
        self.include_query = include_query

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a batch and the terms of its queries."""
        same = same_identity(labels, "recall_at_k_surrogate")
        others = ~torch.eye(len(same), device=same.device).bool()
        positive = same & others
        listed = torch.ones_like(same) if self.include_query else others
        _, before = closer_images(embeddings, positive, listed, self.temperature)
        ranks = 1 + before.sum(dim=1)
        recalls = []
        for k in self.ranks:
            within, positives = sum_by_query(((k - ranks) / self.cut_temperature).sigmoid(), positive)
            recalls.append(within.clamp(max=k) / positives.clamp(max=k))
        terms = 1 - torch.stack(recalls).mean(dim=0)
        return LossValue(total=terms.mean(), per_item={"loss": terms})


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer recall_at_k_surrogate."""
    return {"recall_at_k_surrogate": RecallAtKSurrogate}
