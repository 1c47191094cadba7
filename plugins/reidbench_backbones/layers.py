"""Layers of strong baselines that torchvision's networks lack."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALLEST = 1e-6  # of what is raised to a power


class GeneralizedMean(nn.Module):
    """Generalized-mean pooling (GeM): the p-th root of the mean of p-th powers over all positions, with p learned.

    Maps a feature map [B, C, H, W] to [B, C, 1, 1]; p starts at 3, values below 1e-6 count as 1e-6.
    Source: Radenović, Tolias, Chum 2019, "Fine-tuning CNN Image Retrieval with No Human Annotation"; Ye et al. 2021,
    "Deep Learning for Person Re-identification: A Survey and Outlook", with one p for all channels as in their code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(3.0))

    def forward(self, features: Tensor) -> Tensor:
        """Return the pooled features [B, C, 1, 1] of ``features`` [B, C, H, W]."""
        powers = features.clamp(min=SMALLEST).pow(self.p)
        return functional.adaptive_avg_pool2d(powers, 1).pow(1 / self.p)


class NonLocal(nn.Module):
    """Non-local attention: adds to each position a mean over all positions, weighted by the product of two projections.

    Three 1x1 convolutions reduce the ``channels`` to ``inner``, and a fourth with a batch norm leads back. The products
    are divided by the number of positions, not by a softmax. The norm starts with weight and bias 0, so that the block
    starts as the identity.
    Source: Wang et al. 2018, "Non-local Neural Networks" (the dot product); Ye et al. 2021 as above.
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.back, self.norm = nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Return ``features`` [B, C, H, W] with what was added."""
        query, key, value = (layer(features).flatten(2) for layer in (self.query, self.key, self.value))
        # The products of all pairs of positions are never held: (q' k) v' is q' (k v').
        mixed = (value @ key.transpose(1, 2)) @ query / query.shape[2]
        return features + self.norm(self.back(mixed.unflatten(2, features.shape[2:])))
