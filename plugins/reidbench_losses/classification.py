"""Identity classification: the baseline that learns an embedding by naming the training identities."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidbench import Loss, LossValue, TrainInfo, hookimpl


class Classification(Loss):
    """Cross entropy of one linear layer from the embedding to the training identities (IDE).

    The layer belongs to the loss and is thrown away at test time; several images of a unit are pooled by their
    maximum. Takes embeddings [B, D] and labels [B] in 0..num_pids-1; computes in float32, or in float64 where the
    embeddings are. The loss is the mean of the cross entropies; logs the accuracy on the batch.
    Source: Zheng, Yang, Hauptmann 2016, "Person Re-identification: Past, Present and Future" (IDE); max pooling:
    Hermans et al. 2017, section 3.5.
    """

    pool = "max"

    def __init__(self, info: TrainInfo) -> None:
        super().__init__()
        self.classifier = nn.Linear(info.embedding_dim, info.num_pids)

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the mean cross entropy of a batch, that of each image, and the accuracy."""
        dtype = torch.promote_types(embeddings.dtype, torch.float32)
        with torch.autocast(embeddings.device.type, enabled=False):  # autocast would run the layer in half precision
            weight, bias = self.classifier.weight.to(dtype), self.classifier.bias.to(dtype)
            logits = functional.linear(embeddings.to(dtype), weight, bias)
            terms = functional.cross_entropy(logits, labels, reduction="none")
        accuracy = (logits.detach().argmax(dim=1) == labels).to(dtype).mean()
        return LossValue(total=terms.mean(), per_item={"loss": terms}, scalars={"accuracy": accuracy})


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer classification."""
    return {"classification": Classification}
