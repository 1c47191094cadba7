"""The head between a network's pooled feature and the embedding."""

from __future__ import annotations

from typing import Literal

from torch import nn

from reidbench import OptionError

HIDDEN = 1024
EMBEDDING = 128

Head = Literal["trinet"] | None


def build_head(head: Head, features: int, embedding_dim: int | None, owner: str) -> tuple[nn.Module, int]:
    """Return the head that maps [B, ``features``] to [B, D], and D.

    ``trinet`` is a linear layer to 1024, batch norm, ReLU, and a linear layer to ``embedding_dim`` (128 where that is
    None). The paper gives no more; from the authors' code: the first layer has no bias, since the batch norm would
    cancel it, and starts from Glorot et al. (uniform), the second from a random orthogonal matrix, its bias from 0; all
    are sampled from torch's global generator. Without a head the feature is the embedding. Raises OptionError, naming
    ``owner``, for an ``embedding_dim`` below 1, or with no head to give it.
    Source: Hermans, Beyer, Leibe 2017, section 3.3; heads/fc1024.py of VisualComputingInstitute/triplet-reid.
    """
    if embedding_dim is not None and (head is None or embedding_dim < 1):
        expected = "no value with head=none, whose embedding is the feature" if head is None else "1 or more"
        raise OptionError(f"{owner}: option embedding_dim: expected {expected}; got {embedding_dim}")
    if head is None:
        return nn.Identity(), features
    size = EMBEDDING if embedding_dim is None else embedding_dim
    hidden, embedding = nn.Linear(features, HIDDEN, bias=False), nn.Linear(HIDDEN, size)
    nn.init.xavier_uniform_(hidden.weight)
    nn.init.orthogonal_(embedding.weight)
    nn.init.zeros_(embedding.bias)
    return nn.Sequential(hidden, nn.BatchNorm1d(HIDDEN), nn.ReLU(), embedding), size


def head_groups(backbone: nn.Module) -> list[dict[str, object]]:
    """Return the optimizer's groups of ``backbone.network`` and of all other parts, which no published weights have."""
    trained = [(name, p) for name, p in backbone.named_parameters() if p.requires_grad]
    own, new = ([p for name, p in trained if name.startswith("network.") == named] for named in (True, False))
    return [{"params": own}, {"params": new, "pretrained": False}]
