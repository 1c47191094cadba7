"""Learned distances (x - y)' A (x - y) with a symmetric A, positive definite or not."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench import DataError, IntArray, Metric, compiled
from reidbench_metrics.vectors import differences

_TILE = 16  # columns of the embeddings at once: their part of the matrix stays in the cache for all rows


class LearnedForm(Metric):
    """A metric whose distance is a quadratic form learned from training embeddings; it can be negative.

    ``fit`` or ``fit_pairs`` of a subclass call ``set_form``. Then A = map diag(signs) map.T, with ``map`` [D, K]
    float64 and ``signs`` [K] of 1 and -1 in falling order, and the largest entry of each column of ``map`` is positive.
    With y = (x - mean) map, a distance is the sum over k of signs_k (y_k - y'_k)^2: Euclid's but for signs.
    Identical rows are exactly 0 apart, and the map of a row depends on that row alone.
    """

    name: str
    map: Tensor | None = None
    signs: Tensor
    mean: Tensor

    def set_form(self, mean: Tensor, basis: Tensor, matrix: Tensor) -> None:
        """Set A = basis @ matrix @ basis.T; ``mean`` [D], ``basis`` [D, K] and ``matrix`` [K, K] are float64."""
        values, vectors = torch.linalg.eigh(matrix)
        values, vectors = values.flip(0), vectors.flip(1)
        columns = basis @ (vectors * values.abs().sqrt())
        # The sign of a column is free: this choice does not depend on the linear algebra library.
        largest = columns.gather(0, columns.abs().argmax(dim=0, keepdim=True))
        self.map = torch.where(largest < 0, -columns, columns).contiguous()
        self.signs = torch.where(values < 0, -1.0, 1.0).double()
        self.mean = mean

    def project(self, embeddings: Tensor) -> Tensor:
        """Return y = (x - mean) map [n, K], every row by itself, computed in float64."""
        if self.map is None:
            raise DataError(f"metric {self.name}: it is not fitted; give it training embeddings first")
        if embeddings.shape[1] != len(self.map):
            raise DataError(
                f"metric {self.name}: embeddings have {embeddings.shape[1]} dimensions, "
                f"those that it was fitted on {len(self.map)}; expected the same"
            )
        rows = (embeddings.detach().cpu().double() - self.mean).contiguous()
        result = np.zeros((len(rows), self.map.shape[1]))
        # Not a library's product, in which the result for a row can depend on the position of the row.
        _add_product(rows.numpy(), self.map.numpy(), result)
        return torch.from_numpy(result).to(embeddings)

    def factors(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Return [-2 signs y, 1] and [y, sum of signs y^2]: their product is the distance less a query's own term."""
        signed = self.signs.to(embeddings) * embeddings
        left = torch.cat([-2 * signed, torch.ones_like(embeddings[:, :1])], dim=1)
        return left, torch.cat([embeddings, (signed * embeddings).sum(dim=1, keepdim=True)], dim=1)

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the sums over k of signs_k (a_ik - b_jk)^2 [len(a), len(b)]."""
        positive = int((self.signs > 0).sum())
        added, subtracted = (
            torch.cdist(a[:, part], b[:, part], compute_mode="donot_use_mm_for_euclid_dist").square()
            for part in (slice(None, positive), slice(positive, None))
        )
        return added - subtracted

    def pair_distances(self, a: Tensor, b: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return the same [n] for the rows i = first and j = second."""
        squares = differences(a, b, first, second).square_()
        positive = int((self.signs > 0).sum())
        return squares[:, :positive].sum(dim=1) - squares[:, positive:].sum(dim=1)


@compiled
def _add_product(rows: NDArray[np.float64], matrix: NDArray[np.float64], result: NDArray[np.float64]) -> None:
    """Add rows [n, D] times matrix [D, K] to result [n, K], summed in the order of D."""
    for first in range(0, rows.shape[1], _TILE):
        last = min(first + _TILE, rows.shape[1])
        for i in range(rows.shape[0]):
            for d in range(first, last):
                value = rows[i, d]
                for k in range(matrix.shape[1]):
                    result[i, k] += value * matrix[d, k]


def inverse(matrix: Tensor, message: str) -> Tensor:
    """Return the inverse of a symmetric positive definite matrix [K, K].

    Raises DataError with ``message``, which names the matrix and what to do, where it is singular in float64.
    """
    values, vectors = torch.linalg.eigh(matrix)
    least = len(values) * torch.finfo(values.dtype).eps * values.abs().max()
    full = int((values > least).sum())
    if full < len(values):
        raise DataError(f"{message} (rank {full} of {len(values)})")
    half: Tensor = vectors / values.sqrt()
    return half @ half.T


def check_training(name: str, embeddings: Tensor, pids: IntArray, cams: IntArray | None = None) -> Tensor:
    """Return training embeddings [n, D] on the CPU, in their own dtype.

    Raises DataError, naming the metric, where there are none, ids are missing, or a row is not finite, junk or a
    distractor.
    """
    rows = embeddings.detach().cpu()
    if rows.ndim != 2 or rows.dtype not in (torch.float32, torch.float64) or not rows.numel():
        shape = list(rows.shape)
        raise DataError(
            f"metric {name}: expected training embeddings [n, D], float32 or float64, got {rows.dtype} {shape}"
        )
    for what, ids in (("pids", pids), ("cams", pids if cams is None else cams)):
        if len(ids) != len(rows):
            raise DataError(f"metric {name}: {len(rows)} training embeddings with {len(ids)} {what}; expected one each")
    not_finite = ~torch.isfinite(rows).all(dim=1)
    if not_finite.any():
        raise DataError(f"metric {name}: training embedding {int(not_finite.nonzero()[0, 0])} is not finite")
    if (pids < 1).any():
        row = int(np.argmax(pids < 1))
        raise DataError(
            f"metric {name}: training embedding {row} has pid {int(pids[row])}, junk or a distractor; "
            "expected pids of 1 or more: leave such rows out"
        )
    return rows
