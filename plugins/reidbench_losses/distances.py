"""Exact distances between all rows of a batch, with a gradient that stays finite where two rows coincide."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Distance = Literal["euclidean", "sqeuclidean", "cosine"]


def pairwise(embeddings: Tensor, distance: Distance) -> Tensor:
    """Return the distances [B, B] between the rows of ``embeddings`` [B, D].

    Computed in float32 for half and bfloat16, else in the dtype of the input. Equal rows are exactly 0 apart and pass
    no gradient to each other. "cosine" is 1 - cos; a row of zeros has no direction, so it stays where it is, 0.5 from
    every direction and 0 from other rows of zeros.
    """
    rows = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    if distance == "euclidean":
        return _euclidean(rows)
    if distance == "sqeuclidean":
        return _euclidean(rows).square()
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    # Half the squared chord between unit rows is 1 - cos without the cancellation of the difference.
    return _euclidean(rows / torch.where(norms > 0, norms, 1)).square() / 2


def _euclidean(rows: Tensor) -> Tensor:
    # By default cdist expands |a - b|^2 above 25 rows, which loses small distances; this mode subtracts first.
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
