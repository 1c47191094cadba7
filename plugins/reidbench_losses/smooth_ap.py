"""Smooth-AP: average precision with ranks that are sums of sigmoids."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from reidbench import Loss, LossValue, Searched, TrainInfo, hookimpl
from reidbench_losses.checks import check_above_0
from reidbench_losses.distances import pairwise, rows_of
from reidbench_losses.triplet import same_identity

# Around the 0.01 of Brown et al. 2020: whether the rank counts similarities that are nearly equal.
RankTemperature = Annotated[float, Searched(0.005, 0.1, log=True)]


def closer_images(embeddings: Tensor, positive: Tensor, listed: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the positive pairs [N, 2] (query, positive), and for each how far every image is before it [N, B].

    An image z is sigmoid((s_qz - s_qp) / temperature) before the positive p of the query q, by cosine similarities s;
    0 where it is p, or not in the list of q. ``positive`` and ``listed`` [B, B] are masks, a row for each query. The
    smooth rank of p is 1 + the sum of its row.
    """
    pairs = positive.nonzero()
    query, image = pairs.T
    similarity = 1 - pairwise(embeddings, "cosine")
    before = ((rows_of(similarity, query) - similarity[query, image][:, None]) / temperature).sigmoid()
    return pairs, before.masked_fill(~listed[query].scatter(1, image[:, None], value=False), 0)


def sum_by_query(values: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the ``values`` [N] of the positives of each query that has one, and their number, both [Q].

    ``positive`` [B, B] is the mask of which ``closer_images`` has the pairs.
    """
    counts = positive.sum(dim=1)
    sums = values.new_zeros(positive.shape).masked_scatter(positive, values).sum(dim=1)
    return sums[counts > 0], counts[counts > 0]


class SmoothAP(Loss):
    """1 - the mean over the images of a batch of the average precision of the batch in their smooth ranking.

    Options:
        temperature: The temperature > 0 of the sigmoid of a difference of cosine similarities.
        include_query: Whether a query is an item of its own list, and one of its positives, as in the authors' code.

    Takes embeddings [B, D] and labels [B], identities with any number of images in any order; computes in float32, or
    in float64 where the embeddings are. An image without a positive is no query. Memory grows with B² (K - 1). The
    metric at test time is cosine.
    Raises OptionError for a temperature of 0 or less, TrainingError for a batch without any positive or negative.
    Source: Brown, Xie, Kalogeiton, Zisserman 2020, "Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval".
    Reference: https://arxiv.org/abs/2007.12163
    """

    metric = "cosine"

    def __init__(self, info: TrainInfo, *, temperature: RankTemperature = 0.01, include_query: bool = False) -> None:
        super().__init__()
        check_above_0("smooth_ap", temperature=temperature)
        self.temperature = temperature
        self.include_query = include_query

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a batch and the terms of its queries."""
        same = same_identity(labels, "smooth_ap")
        listed = torch.ones_like(same) if self.include_query else ~torch.eye(len(same), device=same.device).bool()
        pairs, before = closer_images(embeddings, same & listed, listed, self.temperature)
        positives_before = before.masked_fill(~same[pairs[:, 0]], 0)
        precisions = (1 + positives_before.sum(dim=1)) / (1 + before.sum(dim=1))
        sums, counts = sum_by_query(precisions, same & listed)
        terms = 1 - sums / counts
        return LossValue(total=terms.mean(), per_item={"loss": terms})


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer smooth_ap."""
    return {"smooth_ap": SmoothAP}
