"""Distances between embeddings as they are, nothing learned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reidbench import Metric, hookimpl


class Euclidean(Metric):
    """The Euclidean distance between embeddings.

    Options:
        normalize: Whether rows get length 1 first (the paper's embeddings do not; the IDE baseline's features do).

    Embeddings are [n, D], float32 or float64; the dtype is kept. Distances are computed from differences, so identical
    rows are exactly 0 apart and large common offsets cancel; a pair's distance depends on its two rows alone.
    """

    def __init__(self, *, normalize: bool = False) -> None:
        self.normalize = normalize

    def factors(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Return [-2 x, 1] and [x, |x|^2]: their product is the squared distance less |query|^2."""
        ones = torch.ones_like(embeddings[:, :1])
        return (
            torch.cat([-2 * embeddings, ones], dim=1),
            torch.cat([embeddings, embeddings.square().sum(dim=1, keepdim=True)], dim=1),
        )

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return |a_i - b_j| [len(a), len(b)]."""
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


@hookimpl
def register_metrics() -> dict[str, Callable[..., Metric]]:
    return {"euclidean": Euclidean}
