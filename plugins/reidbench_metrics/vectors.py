"""Distances between embeddings that are not learned."""

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

    def pair_distances(self, a: Tensor, b: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return |a_i - b_j| [n] of the rows i = first and j = second."""
        return torch.linalg.vector_norm(differences(a, b, first, second), dim=1)


class SquaredEuclidean(Euclidean):
    """The squared Euclidean distance between embeddings, which ranks as the Euclidean distance does.

    Options:
        normalize: Whether rows get length 1 first; the distance is then 2 - 2 cos.

    Shapes and dtypes are those of the Euclidean distance, and so are the factors.
    """

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return |a_i - b_j|^2 [len(a), len(b)]."""
        return super().distances(a, b).square()

    def pair_distances(self, a: Tensor, b: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return |a_i - b_j|^2 [n] of the rows i = first and j = second."""
        return super().pair_distances(a, b, first, second).square()


class Cosine(Metric):
    """The cosine distance between embeddings, 1 - cos: 0 for one direction, 2 for opposite ones.

    Embeddings are [n, D], float32 or float64; the dtype is kept. Their lengths do not matter; a row of zeros has no
    direction and is 1 away from everything. Identical rows are exactly 0 apart.
    """

    normalize = True

    def factors(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Return -u and u, the rows u of length 1: their product is the distance less 1."""
        unit = unit_rows(embeddings)
        return -unit, unit

    # |u - v|^2 = |u|^2 + |v|^2 - 2 u.v: from differences, as 1 - u.v would cancel for near rows.

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return 1 - cos(a_i, b_j) [len(a), len(b)]."""
        apart = torch.cdist(unit_rows(a), unit_rows(b), compute_mode="donot_use_mm_for_euclid_dist").square()
        return torch.where(_zero(a)[:, None] | _zero(b)[None], 1.0, apart / 2)

    def pair_distances(self, a: Tensor, b: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return 1 - cos(a_i, b_j) [n] of the rows i = first and j = second."""
        apart = differences(unit_rows(a), unit_rows(b), first, second).square().sum(dim=1)
        return torch.where(_zero(a)[first] | _zero(b)[second], 1.0, apart / 2)


def differences(a: Tensor, b: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return a_i - b_j [n, D] of the rows i = first and j = second, both int64 [n]."""
    return a.index_select(0, first).sub_(b.index_select(0, second))


def _zero(rows: Tensor) -> Tensor:
    return (rows == 0).all(dim=1)


@hookimpl
def register_metrics() -> dict[str, Callable[..., Metric]]:
    return {"euclidean": Euclidean, "sqeuclidean": SquaredEuclidean, "cosine": Cosine}
