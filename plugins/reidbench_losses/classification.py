"""Identity classification: the baseline that learns an embedding by naming the training identities."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidbench import Loss, LossValue, OptionError, TrainInfo, hookimpl


def linear(layer: nn.Linear, features: Tensor) -> Tensor:
    """Return a layer's output in float32, or in float64 where ``features`` are, even under autocast."""
    dtype = torch.promote_types(features.dtype, torch.float32)
    with torch.autocast(features.device.type, enabled=False):
        return functional.linear(features.to(dtype), layer.weight.to(dtype), layer.bias.to(dtype))


def classified(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the cross entropy of each row of ``logits`` [B, C] with ``labels`` [B], and the accuracy, a number."""
    terms = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    return terms, (logits.detach().argmax(dim=1) == labels).to(logits.dtype).mean()


class Classification(Loss):
    """Cross entropy of one linear layer from the embedding to the training identities (IDE).

    Options:
        label_smoothing: Share of each image's weight, from 0 to below 1, that all identities share alike.
        dropout: Share of the embedding's entries, from 0 to below 1, that the layer does not see in a step.

    The layer belongs to the loss and is thrown away at test time; several images of a unit are pooled by their
    maximum. Takes embeddings [B, D] and labels [B] in 0..num_pids-1; computes in float32, or in float64 where the
    embeddings are. The loss is the mean of the cross entropies; logs the accuracy on the batch.
    Raises OptionError for options out of range.
    Source: Zheng, Yang, Hauptmann 2016, "Person Re-identification: Past, Present and Future" (IDE); max pooling:
    Hermans et al. 2017, section 3.5; label smoothing: Szegedy et al. 2016.
    """

    pool = "max"

    def __init__(self, info: TrainInfo, *, label_smoothing: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        for name, value in (("label_smoothing", label_smoothing), ("dropout", dropout)):
            if not 0 <= value < 1:
                raise OptionError(f"classification: {name} must be from 0 to below 1, got {value}")
        self.label_smoothing = label_smoothing
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(info.embedding_dim, info.num_pids)

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the mean cross entropy of a batch, that of each image, and the accuracy."""
        logits = linear(self.classifier, self.dropout(embeddings))
        terms, accuracy = classified(logits, labels, self.label_smoothing)
        return LossValue(total=terms.mean(), per_item={"loss": terms}, scalars={"accuracy": accuracy})


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer classification."""
    return {"classification": Classification}
