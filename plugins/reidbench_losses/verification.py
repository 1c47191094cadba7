"""Verification: does a pair of images show one person? Alone, and together with identification."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from reidbench import IntArray, Loss, LossValue, OptionError, TrainInfo, TrainingError, TrainView, hookimpl
from reidbench_losses.classification import Classification, classified, linear
from reidbench_losses.random_triplet import random_triplets
from reidbench_losses.rounds import accompanied, passes

Difference = Literal["squared", "absolute"]


def compared(embeddings: Tensor, pairs: Tensor, difference: Difference) -> Tensor:
    """Return the features [m, D] of ``pairs`` [m, 2] of rows of ``embeddings`` [B, D]: (a - b)^2 or |a - b| by entry.

    In float32, or in float64 where the embeddings are; the gradient is 0 where an entry is equal in both.
    """
    rows = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    apart = rows[pairs[:, 0]] - rows[pairs[:, 1]]
    return apart.square() if difference == "squared" else apart.abs()


def pair_round(view: TrainView, name: str) -> list[IntArray]:
    """Return one round of pairs, in each batch half of one identity and half of two, P * K images together.

    A batch holds the first images of all its pairs and then the second ones, pairs of one identity before the others.
    First images are one shuffled pass over those that are not alone with their identity; second ones are drawn
    uniformly from the same identity, or from all others. Raises TrainingError, naming the loss ``name``, where there
    are no pairs.
    """
    paired = accompanied(view.labels, name)
    pairs = max(2, view.p * view.k // 2)
    batches = max(1, len(paired) // pairs)
    firsts = passes(paired, batches * pairs, view.generator)
    partners, strangers = random_triplets(view.labels, firsts, view.generator).T[1:]
    seconds = np.where(np.arange(len(firsts)) % pairs < pairs // 2, partners, strangers)
    return list(np.concatenate([firsts.reshape(batches, pairs), seconds.reshape(batches, pairs)], axis=1))


class Verification(Loss):
    """Cross entropy of one linear layer that tells from two embeddings whether they show one person.

    Options:
        difference: What the layer sees of a pair: squared for (a - b)^2, absolute for |a - b|, entry by entry.
        dropout: Share of these entries, from 0 to below 1, that the layer does not see in a step.

    It brings its own rounds of pairs, half of them of one person. The layer, to "different" and "same", belongs to the
    loss and is thrown away at test time. Takes embeddings [2B, D], the first of all pairs and then the second, and
    labels [2B]; computes in float32, or in float64 where the embeddings are. The loss is the mean over the pairs; logs
    the accuracy. Raises OptionError for options out of range, TrainingError for data or batches without pairs.
    Source: Zheng, Zheng, Yang 2016, "A Discriminatively Learned CNN Embedding for Person Re-identification" (square
    layer and two classes), [41] of Hermans et al. 2017.
    """

    def __init__(self, info: TrainInfo, *, difference: Difference = "squared", dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise OptionError(f"verification: dropout must be from 0 to below 1, got {dropout}")
        self.difference = difference
        self.dropout = nn.Dropout(dropout)
        self.verifier = nn.Linear(info.embedding_dim, 2)

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        """Return one round of pairs, see ``pair_round``."""
        return pair_round(view, "verification")

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the mean cross entropy of a batch of pairs, that of each pair, and the accuracy."""
        if len(labels) % 2:
            raise TrainingError(f"verification: a batch of {len(labels)} images is no stack of pairs")
        pairs = torch.arange(len(labels), device=labels.device).view(2, -1).T
        features = compared(embeddings, pairs, self.difference)
        same = (labels[pairs[:, 0]] == labels[pairs[:, 1]]).long()
        terms, accuracy = classified(linear(self.verifier, self.dropout(features)), same)
        return LossValue(total=terms.mean(), per_item={"loss": terms}, scalars={"accuracy": accuracy})


class IdentificationVerification(Loss):
    """Identification of both images of a pair and verification of the pair, added (I+V).

    Options:
        weight: Weight of the verification, at least 0; the identification has 1.
        difference: What the verification sees of a pair: squared for (a - b)^2, absolute for |a - b|, entry by entry.
        dropout: Share of entries, from 0 to below 1, that neither layer sees in a step.

    It brings its own rounds of pairs, as ``verification`` does; both layers belong to the loss and are thrown away at
    test time. Several images of a unit are pooled by their maximum, as for ``classification``. Takes embeddings
    [2B, D], the first of all pairs and then the second, and labels [2B] in 0..num_pids-1; computes in float32, or in
    float64 where the embeddings are. Logs the mean and the accuracy of both parts. Raises as its parts do.
    Source: Zheng, Zheng, Yang 2016, "A Discriminatively Learned CNN Embedding for Person Re-identification", [41] of
    Hermans et al. 2017.
    """

    pool = "max"

    def __init__(
        self, info: TrainInfo, *, weight: float = 1.0, difference: Difference = "squared", dropout: float = 0.0
    ) -> None:
        super().__init__()
        if weight < 0:
            raise OptionError(f"identification_verification: weight must be at least 0, got {weight}")
        if not 0 <= dropout < 1:
            raise OptionError(f"identification_verification: dropout must be from 0 to below 1, got {dropout}")
        self.weight = weight
        self.identification = Classification(info, dropout=dropout)
        self.verification = Verification(info, difference=difference, dropout=dropout)

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        """Return one round of pairs, see ``pair_round``."""
        return pair_round(view, "identification_verification")

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the weighted sum of both parts, the terms of each image and of each pair, and what both parts log."""
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
