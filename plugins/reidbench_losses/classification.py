"""Identity classification (IDE): the baseline that learns an embedding by classifying the training identities."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidbench import Loss, LossValue, Searched, TrainInfo, hookimpl
from reidbench_losses.checks import check_fraction


def linear(layer: nn.Linear, features: Tensor) -> Tensor:
    """Return a layer's output in float32, or in float64 where ``features`` are, even under autocast."""
    dtype = torch.promote_types(features.dtype, torch.float32)
    with torch.autocast(features.device.type, enabled=False):
        return functional.linear(features.to(dtype), layer.weight.to(dtype), layer.bias.to(dtype))


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the cross entropy [B] of the rows of ``logits`` [B, C] with ``labels`` [B], and the accuracy, a scalar."""
    terms = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    return terms, (logits.detach().argmax(dim=1) == labels).to(logits.dtype).mean()


class Classification(Loss):
    """Cross entropy of one linear layer from the embedding to the training identities (IDE).

    Options:
        label_smoothing: Share of the target distribution, from 0 to below 1, that is uniform over all identities.
        dropout: Dropout rate of the embedding before the layer, from 0 to below 1.

    The layer belongs to the loss and is discarded after training; the images of a unit are max-pooled. Takes embeddings
    [B, D] and labels [B] in 0..num_pids-1; computes in float32, or in float64 where the embeddings are. The loss is the
    mean of the cross entropies; logs the accuracy on the batch.
    Raises OptionError for options out of range.
    Source: Zheng, Yang, Hauptmann 2016, "Person Re-identification: Past, Present and Future" (IDE); max pooling:
    Hermans et al. 2017, section 3.5; label smoothing: Szegedy et al. 2016.
    """

    pool = "max"

    def __init__(
        self,
        info: TrainInfo,
        *,
        label_smoothing: Annotated[float, Searched(0.0, 0.2)] = 0.0,  # 0.1 in Szegedy et al. 2016
        dropout: Annotated[float, Searched(0.0, 0.5)] = 0.0,  # 0.5 is the usual rate before a classifier
    ) -> None:
        super().__init__()
        check_fraction("classification", label_smoothing=label_smoothing, dropout=dropout)
        self.label_smoothing = label_smoothing
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(info.embedding_dim, info.num_pids)

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the mean cross entropy of a batch, the terms of its images, and the accuracy."""
        logits = linear(self.classifier, self.dropout(embeddings))
        terms, accuracy = cross_entropy(logits, labels, self.label_smoothing)
        return LossValue(total=terms.mean(), per_item={"loss": terms}, scalars={"accuracy": accuracy})


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer classification."""
    return {"classification": Classification}
