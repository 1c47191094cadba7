"""Distances between embeddings as they are, nothing learned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reidbench import Metric, hookimpl, unit_rows


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


class SquaredEuclidean(Euclidean):
    """The squared Euclidean distance between embeddings, which ranks as the Euclidean distance does.

    Options:
        normalize: Whether rows get length 1 first; the distance is then 2 - 2 cos.

    Shapes and dtypes are those of the Euclidean distance, and so are the factors.
    """

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return |a_i - b_j|^2 [len(a), len(b)]."""
        return super().distances(a, b).square()


class Cosine(Metric):
    """The cosine distance between embeddings, 1 - cos: 0 for one direction, 2 for opposite ones.

    Embeddings are [n, D], float32 or float64; the dtype is kept. Their lengths play no part; a row of zeros has no
    direction and is 1 away from everything. Identical rows are exactly 0 apart.
    """

    normalize = True

    def factors(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Return -u and u, the rows u of length 1: their product is the distance less 1."""
        unit = unit_rows(embeddings)
        return -unit, unit

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return 1 - cos(a_i, b_j) [len(a), len(b)]."""
        # |u - v|^2 = |u|^2 + |v|^2 - 2 u.v: from differences, as 1 - u.v would lose what tells near rows apart.
        apart = torch.cdist(unit_rows(a), unit_rows(b), compute_mode="donot_use_mm_for_euclid_dist").square()
        zeros_a, zeros_b = ((rows == 0).all(dim=1) for rows in (a, b))
        return torch.where(zeros_a[:, None] | zeros_b[None], 1.0, apart / 2)


@hookimpl
def register_metrics() -> dict[str, Callable[..., Metric]]:
    return {"euclidean": Euclidean, "sqeuclidean": SquaredEuclidean, "cosine": Cosine}
