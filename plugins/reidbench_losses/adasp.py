"""AdaSP: a contrastive loss with one sparse positive similarity an identity, adapted to its spread in the batch."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from reidbench import Loss, LossValue, Searched, TrainInfo, hookimpl
from reidbench_losses.checks import check_above_0
from reidbench_losses.distances import pairwise
from reidbench_losses.triplet import same_identity

Positive = Literal["adaptive", "hard", "least_hard"]


class AdaSP(Loss):
    """Contrast of all negative similarities of an identity with one positive one, a mean of its hard and least hard.

    Options:
        temperature: The temperature tau > 0 of all exponentials of cosine similarities.
        positive: "adaptive" for AdaSP, "hard" for the hardest positive pair of an identity (SP-H), "least_hard" for the
            least hard of its images' hardest pairs (SP-LH).

    Takes embeddings [B, D] and labels [B], identities with any number of images in any order; computes in float32, or
    in float64 where the embeddings are. The loss is the mean over the batch's identities. The metric at test time is
    cosine. The weight of the adaptive mean carries no gradient.
    Raises OptionError for a temperature of 0 or less, TrainingError for a batch without any positive or negative.
    Source: Zhou, Zhong, Lan, Sun, Zhang, Liu 2023, "Adaptive Sparse Pairwise Loss for Object Re-Identification".
    Reference: https://arxiv.org/abs/2303.18247
    """

    metric = "cosine"
    partial_gradient = True  # of the adaptive weight

    def __init__(
        self,
        info: TrainInfo,
        *,
        temperature: Annotated[float, Searched(0.02, 0.2, log=True)] = 0.04,  # around that of Zhou et al. 2023
        positive: Positive = "adaptive",
    ) -> None:
        super().__init__()
        check_above_0("adasp", temperature=temperature)
        self.temperature = temperature
        self.positive = positive

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a batch and the terms of its identities, in the order of their labels."""
        same = same_identity(labels, "adasp")
        scaled = (1 - pairwise(embeddings, "cosine")) / self.temperature
        member = labels.unique()[:, None] == labels  # [I, B]

        def over_images(values: Tensor) -> Tensor:
            """Return the logarithm of the sum over each identity's images [I] of the exponentials of ``values`` [B]."""
            return values.expand(len(member), -1).masked_fill(~member, -torch.inf).logsumexp(dim=1)

        negative = over_images(scaled.masked_fill(same, -torch.inf).logsumexp(dim=1))
        hard_of_image = scaled.neg().masked_fill(~same, -torch.inf).logsumexp(dim=1)  # minus its similarity
        hard, least_hard = -over_images(hard_of_image), over_images(-hard_of_image)
        positive = {"hard": hard, "least_hard": least_hard}.get(self.positive)
        if positive is None:
            a, b = self.temperature * hard.detach(), self.temperature * least_hard.detach()
            weight = torch.where(a > 0, 2 * a * b / torch.where(a > 0, a + b, 1), 0)  # the harmonic mean of both
            positive = weight * hard + (1 - weight) * least_hard
        terms = functional.softplus(negative - positive, threshold=50)
        return LossValue(total=terms.mean(), per_item={"loss": terms})


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer adasp."""
    return {"adasp": AdaSP}
