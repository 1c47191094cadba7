"""The triplet loss with an additional pull on the positive pair."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from reidbench import IntArray, Loss, LossValue, Searched, TrainInfo, TrainView, hookimpl
from reidbench_losses.checks import HingeMargin, check_at_least
from reidbench_losses.distances import Distance, between
from reidbench_losses.random_triplet import stacked_triplets, triplet_round


def improved_triplet_terms(
    embeddings: Tensor,
    triplets: Tensor,
    margin: float = 1.0,
    beta: float = 0.002,
    tau: float = 0.01,
    distance: Distance = "euclidean",
) -> tuple[Tensor, Tensor]:
    """Return for each triplet its hinge [margin + D(a, p) - D(a, n)]_+ and its pull beta * [D(a, p) - tau]_+, both [m].

    ``embeddings`` [B, D] of any float dtype, ``triplets`` [m, 3] rows of anchor, positive and negative; the results are
    float32, or float64 where the embeddings are; the loss is the mean of their sums.
    Source: Cheng et al. 2016, in hinges: their max(D(a, p) - D(a, n), -margin) + beta * max(D(a, p), tau) is larger by
    the constant beta * tau - margin, and has the same gradient.
    """
    anchors, positives, negatives = triplets.T
    positive = between(embeddings, anchors, positives, distance)
    negative = between(embeddings, anchors, negatives, distance)
    return torch.relu(margin + positive - negative), beta * torch.relu(positive - tau)


class ImprovedTriplet(Loss):
    """Triplet loss of random triplets with a pull of each positive pair to within the distance tau.

    Options:
        margin: The margin m >= 0 of the hinge, in units of the distance.
        beta: Weight of the pull, at least 0.
        tau: Distance, at least 0, below which a positive pair is not pulled.
        distance: The distance between embeddings: euclidean, sqeuclidean (its square) or cosine (1 - cos).

    It samples its own rounds of random triplets, as ``triplet`` does. Takes embeddings [3B, D], first all anchors, then
    their positives, then their negatives, and labels [3B]; computes in float32, or in float64 where the embeddings are.
    Raises OptionError for options out of range, TrainingError for data without triplets and for batches in another
    order.
    Source: Cheng, Gong, Zhou, Wang, Zheng 2016, "Person Re-Identification by Multi-Channel Parts-Based CNN with
    Improved Triplet Loss Function"; named in Hermans, Beyer, Leibe 2017, section 4.
    """

    def __init__(
        self,
        info: TrainInfo,
        *,
        margin: HingeMargin = 1.0,
        # A study searches from a tenth to ten times the paper's values.
        beta: Annotated[float, Searched(0.0002, 0.02, log=True)] = 0.002,
        tau: Annotated[float, Searched(0.001, 0.1, log=True)] = 0.01,
        distance: Distance = "euclidean",
    ) -> None:
        super().__init__()
        check_at_least("improved_triplet", 0, margin=margin, beta=beta, tau=tau)
        self.margin = margin
        self.beta = beta
        self.tau = tau
        self.distance = distance

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        """Return the batches of about one pass over the training set, each of PK // 3 stacked triplets."""
        return triplet_round(view, "improved_triplet")

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the mean of hinge plus pull over the triplets, the terms, and the mean of each part."""
        triplets = stacked_triplets(labels, "improved_triplet")
        hinges, pulls = improved_triplet_terms(embeddings, triplets, self.margin, self.beta, self.tau, self.distance)
        terms = hinges + pulls
        scalars = {"hinge": hinges.detach().mean(), "pull": pulls.detach().mean()}
        return LossValue(terms.mean(), per_item={"loss": terms}, scalars=scalars)


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer improved_triplet."""
    return {"improved_triplet": ImprovedTriplet}
