"""What stands between a network's pooled feature and the embedding."""

from __future__ import annotations

from typing import Literal

from torch import nn

HIDDEN = 1024
EMBEDDING = 128


def build_head(head: Literal["trinet"] | None, features: int) -> tuple[nn.Module, int]:
    """Return the head that takes [B, ``features``] to [B, D], and D; without one the feature is the embedding.

    ``trinet`` is a linear layer to 1024, batch norm, ReLU, and a linear layer to 128. The paper says no more; from the
    authors' code: the first layer has no bias, since the norm behind it would take it away, and starts from Glorot et
    al. (uniform), the second from a random orthogonal matrix, its bias from 0. Drawn from torch's global generator.
    Source: Hermans, Beyer, Leibe 2017, section 3.3; heads/fc1024.py of VisualComputingInstitute/triplet-reid.
    """
    if head is None:
        return nn.Identity(), features
    hidden, embedding = nn.Linear(features, HIDDEN, bias=False), nn.Linear(HIDDEN, EMBEDDING)
    nn.init.xavier_uniform_(hidden.weight)
    nn.init.orthogonal_(embedding.weight)
    nn.init.zeros_(embedding.bias)
    return nn.Sequential(hidden, nn.BatchNorm1d(HIDDEN), nn.ReLU(), embedding), EMBEDDING
