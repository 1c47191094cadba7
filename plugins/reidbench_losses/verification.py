"""Verification, whether two images show one identity, alone and together with identification."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor, nn

from reidbench import IntArray, LaterOption, Loss, LossValue, Searched, TrainInfo, TrainingError, TrainView, hookimpl
from reidbench_losses.checks import PairDropout, check_at_least, check_fraction
from reidbench_losses.classification import Classification, cross_entropy, linear
from reidbench_losses.sampling import random_triplets, shuffled_passes, units_with_positive

Difference = Literal["squared", "absolute"]
LaterNumber = Annotated[float, LaterOption]


def pair_features(embeddings: Tensor, pairs: Tensor, difference: Difference) -> Tensor:
    """Return the elementwise (a - b)^2 or |a - b| [m, D] of ``pairs`` [m, 2] of rows of ``embeddings`` [B, D].

    In float32, or in float64 where the embeddings are; the gradient is 0 where both entries are equal.
    """
    rows = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    differences = rows[pairs[:, 0]] - rows[pairs[:, 1]]
    return differences.square() if difference == "squared" else differences.abs()


def positive_share(number: int, growth: float, most: float) -> float:
    """Return the share of positive pairs in round ``number``, from 0 on: 1 / min(1 + most, 2 growth^(number + 1))."""
    exponent = min((number + 1) * math.log(growth), 100.0)  # no overflow in long trainings
    return 1 / min(1 + most, 2 * math.exp(exponent))


def pair_round(view: TrainView, name: str, share: float = 0.5) -> list[IntArray]:
    """Return one round of pairs, a ``share`` of each batch positive, about P * K images in a batch.

    A batch has the first images of all its pairs and then the second ones, positive pairs first. First images are one
    shuffled pass over the units that have a positive; second ones are sampled uniformly from the same identity, or from
    all others. Raises TrainingError, naming the loss ``name``, where there are no pairs.
    """
    anchors = units_with_positive(view.labels, name)
    pairs = max(2, view.p * view.k // 2)
    batches = max(1, len(anchors) // pairs)
    firsts = shuffled_passes(anchors, batches * pairs, view.generator)
    positives, negatives = random_triplets(view.labels, firsts, view.generator).T[1:]
    count = max(1, math.ceil(pairs * share - 0.5))  # half of an odd number is rounded down
    seconds = np.where(np.arange(len(firsts)) % pairs < count, positives, negatives)
    return list(np.concatenate([firsts.reshape(batches, pairs), seconds.reshape(batches, pairs)], axis=1))


class Verification(Loss):
    """Cross entropy of one linear layer that classifies pairs of embeddings as same or different identity.

    Options:
        difference: Input of the layer: squared for the elementwise (a - b)^2, absolute for |a - b|.
        dropout: Dropout rate of this input, from 0 to below 1.
        growth: Factor by which the odds against a positive pair grow with each round, at least 1; 1 for half of them.
        most: Most negative pairs for one positive pair, at least 1.

    It samples its own rounds of pairs; 1 / min(1 + most, 2 growth^r) of those of round r, from 1 on, are positive. The
    layer belongs to the loss and is discarded after training. Takes embeddings [2B, D], the first of all pairs and then
    the second, and labels [2B]; computes in float32, or in float64 where the embeddings are. The loss is the mean over
    the pairs; logs the accuracy. Raises OptionError for options out of range, TrainingError for data or batches without
    pairs.
    Source: Zheng, Zheng, Yang 2016, "A Discriminatively Learned CNN Embedding for Person Re-identification" (square
    layer and two classes), [41] of Hermans et al. 2017.
    Reference: https://arxiv.org/abs/1611.05666
    """

    def __init__(
        self,
        info: TrainInfo,
        *,
        difference: Difference = "squared",
        dropout: PairDropout = 0.0,
        growth: LaterNumber = 1.0,
        most: LaterNumber = 4.0,
    ) -> None:
        super().__init__()
        check_fraction("verification", dropout=dropout)
        check_at_least("verification", 1, growth=growth, most=most)
        self.growth, self.most = growth, most
        self.difference = difference
        self.dropout = nn.Dropout(dropout)
        self.verifier = nn.Linear(info.embedding_dim, 2)

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        """Return one round of pairs, see ``pair_round``."""
        return pair_round(view, "verification", positive_share(number, self.growth, self.most))

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the mean cross entropy of a batch of pairs, the terms of its pairs, and the accuracy."""
        if len(labels) % 2:
            raise TrainingError(f"verification: expected a batch of pairs, got {len(labels)} images")
        pairs = torch.arange(len(labels), device=labels.device).view(2, -1).T
        features = pair_features(embeddings, pairs, self.difference)
        same = (labels[pairs[:, 0]] == labels[pairs[:, 1]]).long()
        terms, accuracy = cross_entropy(linear(self.verifier, self.dropout(features)), same)
        return LossValue(total=terms.mean(), per_item={"loss": terms}, scalars={"accuracy": accuracy})


class IdentificationVerification(Loss):
    """Identification of both images of a pair and verification of the pair, added (I+V).

    Options:
        weight: Weight of the verification, at least 0; the identification has 1.
        difference: Input of the verification layer: squared for the elementwise (a - b)^2, absolute for |a - b|.
        dropout: Dropout rate of the inputs of both layers, from 0 to below 1.
        growth: Factor by which the odds against a positive pair grow with each round, at least 1; 1 for half of them.
        most: Most negative pairs for one positive pair, at least 1.

    It samples its own rounds of pairs, as ``verification`` does; both layers belong to the loss and are discarded after
    training. The images of a unit are max-pooled, as for ``classification``. Takes embeddings [2B, D], the first of all
    pairs and then the second, and labels [2B] in 0..num_pids-1; computes in float32, or in float64 where the embeddings
    are. Logs the mean and the accuracy of both parts. Raises OptionError and TrainingError as they do.
    Source: Zheng, Zheng, Yang 2016, "A Discriminatively Learned CNN Embedding for Person Re-identification", [41] of
    Hermans et al. 2017.
    Reference: https://arxiv.org/abs/1611.05666
    """

    pool = "max"

    def __init__(
        self,
        info: TrainInfo,
        *,
        weight: Annotated[float, Searched(0.1, 10.0, log=True)] = 1.0,  # as the weights of sums
        difference: Difference = "squared",
        dropout: PairDropout = 0.0,
        growth: LaterNumber = 1.0,
        most: LaterNumber = 4.0,
    ) -> None:
        super().__init__()
        check_at_least("identification_verification", 0, weight=weight)
        check_fraction("identification_verification", dropout=dropout)
        self.weight = weight
        self.identification = Classification(info, dropout=dropout)
        self.verification = Verification(info, difference=difference, dropout=dropout, growth=growth, most=most)

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        """Return one round of pairs, see ``pair_round``."""
        share = positive_share(number, self.verification.growth, self.verification.most)
        return pair_round(view, "identification_verification", share)

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the weighted sum of both parts, the terms of images and of pairs, and the scalars of both parts."""
        parts = {
            "identification": self.identification(embeddings, labels),
            "verification": self.verification(embeddings, labels),
        }
        scalars = {name: part.total.detach() for name, part in parts.items()}
        scalars |= {f"{name}_accuracy": part.scalars["accuracy"] for name, part in parts.items()}
        return LossValue(
            total=parts["identification"].total + self.weight * parts["verification"].total,
            per_item={name: part.per_item["loss"] for name, part in parts.items()},
            scalars=scalars,
        )


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer verification and identification_verification."""
    return {"verification": Verification, "identification_verification": IdentificationVerification}
