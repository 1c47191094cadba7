"""The centre loss: each embedding is pulled to the centre of its identity, which moves along."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from reidbench import Loss, LossValue, Searched, TrainInfo, hookimpl
from reidbench_losses.checks import check_at_least


class Centre(Loss):
    """Squared Euclidean distance of each embedding to the centre of its identity, for sums with other losses.

    Options:
        centre_learning_rate: Learning rate of the centres' own step of SGD, from 0 for centres that stay.

    Takes embeddings [B, D] and labels [B]; computes in float32, or in float64 where the embeddings are. The loss is the
    mean of the squared distances. The centres start as samples of N(0, 1). In training each call moves them by a step
    of SGD on this loss, whatever weight it has in a sum; they are buffers, so that checkpoints hold them.
    Raises OptionError for a negative learning rate.
    Source: Wen, Zhang, Li, Qiao 2016, "A Discriminative Feature Learning Approach for Deep Face Recognition"; start,
    step and learning rate as in the code of Luo et al. 2019, "Bag of Tricks and a Strong Baseline for Deep Person
    Re-identification".
    Reference: https://arxiv.org/abs/1903.07071
    """

    centres: Tensor

    def __init__(
        self,
        info: TrainInfo,
        *,
        centre_learning_rate: Annotated[float, Searched(0.05, 1.0, log=True)] = 0.5,  # around that of Luo et al. 2019
    ) -> None:
        super().__init__()
        check_at_least("centre", 0, centre_learning_rate=centre_learning_rate)
        self.centre_learning_rate = centre_learning_rate
        self.register_buffer("centres", torch.randn(info.num_pids, info.embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a batch and the squared distances of its images; in training move the centres after it."""
        rows = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        differences = rows - self.centres[labels]
        terms = differences.square().sum(dim=1)
        if self.training:
            self._move(differences.detach(), labels)
        return LossValue(total=terms.mean(), per_item={"loss": terms})

    def _move(self, differences: Tensor, labels: Tensor) -> None:
        """Move the centres by a step of SGD; ``differences`` [B, D] are those of the embeddings and their centres."""
        identities = labels.unique()
        member = (identities[:, None] == labels).to(differences.dtype)
        # A product adds in a fixed order, as adding row by row to the buffer would not on a GPU.
        with torch.autocast(differences.device.type, enabled=False):
            steps = (2 * self.centre_learning_rate / len(labels)) * (member @ differences)
        self.centres[identities] += steps.to(self.centres.dtype)


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer centre."""
    return {"centre": Centre}
