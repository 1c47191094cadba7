"""The lifted embedding losses: a smooth maximum over all negatives of a pair, or of an anchor."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from reidbench import IntArray, Loss, LossValue, TrainInfo, TrainView, hookimpl
from reidbench_losses.checks import HingeMargin, check_at_least
from reidbench_losses.distances import Distance, pairwise, rows_of
from reidbench_losses.random_triplet import stacked_triplets, triplet_round
from reidbench_losses.triplet import same_identity

Pairs = Literal["all", "disjoint", "triplets"]
Negatives = Literal["other_identities", "all"]
Form = Literal["hinge", "squared"]


def all_pairs(same: Tensor) -> Tensor:
    """Return every unordered positive pair [N, 2]; ``same`` is [B, B]."""
    return torch.triu(same, diagonal=1).nonzero()


def disjoint_pairs(labels: Tensor) -> Tensor:
    """Return positive pairs [N, 2] without a common image: an identity's images 1 and 2, 3 and 4, and so on.

    ``labels`` is [B]; the last of an odd number of images is in no pair.
    """
    ordered, order = torch.sort(labels, stable=True)
    _, counts = torch.unique_consecutive(ordered, return_counts=True)
    indices = torch.arange(len(labels), device=labels.device)
    rank = indices - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    first = indices[(rank % 2 == 0) & (rank + 1 < torch.repeat_interleave(counts, counts))]
    return torch.stack([order[first], order[first + 1]], dim=1)


def lifted_terms(
    embeddings: Tensor,
    labels: Tensor,
    pairs: Tensor,
    margin: float = 0.2,
    distance: Distance = "euclidean",
    *,
    negatives: Negatives = "other_identities",
    form: Form = "hinge",
) -> Tensor:
    """Return the terms [N] of given pairs: [J]_+ or [J]_+^2 / 2 of J = D_ap + log sum_n (e^(m - D_an) + e^(m - D_pn)).

    ``embeddings`` [B, D] of any float dtype, ``labels`` [B], ``pairs`` [N, 2] rows of two images of one identity; n
    runs over the images of other identities, or over all but a and p. The result is float32, or float64 where the
    embeddings are. Raises TrainingError where no label occurs twice, or only one.
    Source: Hermans et al. 2017, L_L (hinge, all); Song et al. 2016, Eq. 4 (squared, other identities).
    """
    same = same_identity(labels, "lifted")
    distances = pairwise(embeddings, distance)
    a, p = pairs.T
    if negatives == "other_identities":
        pushed = distances.masked_fill(same, torch.inf).neg().logsumexp(dim=1, keepdim=True)
        push = torch.cat([rows_of(pushed, a), rows_of(pushed, p)], dim=1).logsumexp(dim=1)
    else:
        images = torch.arange(len(labels), device=labels.device)
        pair = (images == a[:, None]) | (images == p[:, None])
        left, right = (rows_of(distances, index).masked_fill(pair, torch.inf) for index in (a, p))
        push = torch.cat([left, right], dim=1).neg().logsumexp(dim=1)
    terms = functional.relu(distances[a, p] + push + margin)
    return terms.square() / 2 if form == "squared" else terms


def lifted_generalized_terms(
    embeddings: Tensor,
    labels: Tensor,
    margin: float = 1.0,
    distance: Distance = "euclidean",
    *,
    include_anchor: bool = True,
) -> Tensor:
    """Return the terms [B], one an anchor: [log sum_p e^D_ap + log sum_n e^(m - D_an)]_+.

    ``embeddings`` [B, D] of any float dtype, ``labels`` [B]; p runs over the anchor's identity, with or without the
    anchor itself; without, the first logarithm of an anchor without a positive is 0. The result is float32, or float64
    where the embeddings are. Raises TrainingError where no anchor has a positive or a negative.
    Source: Hermans et al. 2017, Eq. 7 with a plus between its logarithms.
    """
    same = same_identity(labels, "lifted_generalized")
    distances = pairwise(embeddings, distance)
    positives = same
    if not include_anchor:
        single = same.sum(dim=1) == 1  # only its own distance, 0, remains: log e^0 = 0
        positives = same & (~torch.eye(len(labels), dtype=torch.bool, device=labels.device) | single)
    pull = distances.masked_fill(~positives, -torch.inf).logsumexp(dim=1)
    push = distances.masked_fill(same, torch.inf).neg().logsumexp(dim=1)
    return functional.relu(pull + push + margin)


class Lifted(Loss):
    """The lifted embedding loss: each positive pair against all negatives of both of its images.

    Options:
        margin: The margin m >= 0, in units of the distance.
        distance: The distance between embeddings: euclidean, sqeuclidean (its square) or cosine (1 - cos).
        pairs: "all" positive pairs, "disjoint" ones, or those of random stacked "triplets".
        negatives: Images of "other_identities" only, or "all" images except the pair.
        form: "hinge" for [J]_+, or "squared" for [J]_+^2 / 2.

    Takes embeddings [B, D] and labels [B]; with pairs=triplets in the order of its own rounds: B anchors, then their
    positives, then their negatives. Computes in float32, or in float64 where the embeddings are.
    Raises OptionError for a negative margin, TrainingError for a batch without any positive or negative, and with
    pairs=triplets for a batch in any other order.
    Source: Hermans, Beyer, Leibe 2017, L_L (mean over the terms): pairs=triplets, negatives=all. Song, Xiang, Jegelka,
    Savarese 2016, "Deep Metric Learning via Lifted Structured Feature Embedding", Eq. 4: form=squared.
    Reference: https://arxiv.org/abs/1703.07737
    Reference: https://arxiv.org/abs/1511.06452
    """

    def __init__(
        self,
        info: TrainInfo,
        *,
        margin: HingeMargin = 0.2,
        distance: Distance = "euclidean",
        pairs: Pairs = "all",
        negatives: Negatives = "other_identities",
        form: Form = "hinge",
    ) -> None:
        super().__init__()
        check_at_least("lifted", 0, margin=margin)
        self.margin = margin
        self.distance = distance
        self.pairing = pairs
        self.negatives = negatives
        self.form = form

    def next_round(self, view: TrainView, number: int) -> list[IntArray] | None:
        """Return batches of PK // 3 stacked triplets if pairs=triplets; else None, for the recipe's sampler."""
        return triplet_round(view, "lifted") if self.pairing == "triplets" else None

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a batch and the terms of its pairs."""
        if self.pairing == "triplets":
            pairs = stacked_triplets(labels, "lifted")[:, :2]
        elif self.pairing == "disjoint":
            pairs = disjoint_pairs(labels)
        else:
            pairs = all_pairs(labels[:, None] == labels[None, :])
        terms = lifted_terms(
            embeddings, labels, pairs, self.margin, self.distance, negatives=self.negatives, form=self.form
        )
        return LossValue(total=terms.mean(), per_item={"loss": terms})


class LiftedGeneralized(Loss):
    """The lifted embedding loss over all positives of an anchor: a smooth maximum over them, and one over negatives.

    Options:
        margin: The margin m >= 0, in units of the distance.
        distance: The distance between embeddings: euclidean, sqeuclidean (its square) or cosine (1 - cos).
        include_anchor: Whether the anchor is among its own positives, with e^0 = 1, as in Eq. 7.

    Takes embeddings [B, D] and labels [B]; computes in float32, or in float64 where the embeddings are. An anchor
    without a positive counts, with 0 for its positives.
    Raises OptionError for a negative margin, TrainingError for a batch without any positive or negative.
    Source: Hermans, Beyer, Leibe 2017, Eq. 7 with a plus between its logarithms (mean over the terms).
    Reference: https://arxiv.org/abs/1703.07737
    """

    def __init__(
        self,
        info: TrainInfo,
        *,
        margin: HingeMargin = 1.0,
        distance: Distance = "euclidean",
        include_anchor: bool = True,
    ) -> None:
        super().__init__()
        check_at_least("lifted_generalized", 0, margin=margin)
        self.margin = margin
        self.distance = distance
        self.include_anchor = include_anchor

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a batch and the terms of its anchors."""
        terms = lifted_generalized_terms(
            embeddings, labels, self.margin, self.distance, include_anchor=self.include_anchor
        )
        return LossValue(total=terms.mean(), per_item={"loss": terms})


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer lifted and lifted_generalized."""
    return {"lifted": Lifted, "lifted_generalized": LiftedGeneralized}
