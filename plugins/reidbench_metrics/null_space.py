"""The null space of Zhang et al. 2016: where all training embeddings of an identity fall on one point."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reidbench import DataError, IntArray, Metric, hookimpl
from reidbench_metrics.forms import check_training
from reidbench_metrics.pairs import mean_of
from reidbench_metrics.vectors import Euclidean

_UNIT = 64  # the number of rows projected together is a multiple
_TILE = 128  # training rows in float64 at once: 28 MB of 26,960 dimensions
_TILES = 8  # rows of K computed together


class NullSpace(Euclidean):
    """The Euclidean distance in the null Foley-Sammon space, in which every training identity is one point.

    Options:
        kernel: "rbf" (Gaussian, of the mean squared distance of the training embeddings), or "linear".
        normalize: Whether rows get length 1 first; the parts of a LOMO descriptor have length 1 already.

    The space has one dimension less than there are training identities: of the directions in the span of the centred
    training embeddings, mapped by the kernel, those along which no identity varies. The published program needs several
    eigen-decompositions; where the kernel matrix K [n, n] is positive definite, the same space follows from one
    Cholesky decomposition. With Z [n, C] the indicator of the identities, A = K^-1 Z, G = Z'A and s = A'1, an embedding
    x becomes k(x)' A c, with the columns of c orthonormal under G and s'c = 0. Nothing is added to K.
    Equal embeddings of one identity count once, and once only in K. Cameras are not used.
    Learning and projecting are in float64, in memory for two matrices K beside the embeddings.
    Raises DataError where equal embeddings have different identities, with fewer than two identities, and where K is
    singular, as with the linear kernel of fewer dimensions than embeddings.

    Source: Zhang, Xiang, Gong 2016, "Learning a discriminative null space for person re-identification", with the
    kernel and the space of the authors' program NullSpace_ReID.
    """

    rows: Tensor | None = None

    def __init__(self, *, kernel: Literal["rbf", "linear"] = "rbf", normalize: bool = False) -> None:
        self.kernel, self.normalize = kernel, normalize

    def fit(self, embeddings: Tensor, pids: IntArray, cams: IntArray) -> None:
        """Learn from training embeddings [n, D]."""
        rows = check_training("null_space", embeddings, pids)
        distinct = _distinct(rows, pids)
        self.mean = mean_of(rows)
        squares = torch.cat([_squares(piece - self.mean) for piece in torch.split(rows, _TILE)])
        self.scale = 2 * squares.mean().item()  # the mean over all pairs of a row with a row, itself included
        self.rows, self.squares = rows if len(distinct) == len(rows) else rows[distinct], squares[distinct]
        identities, labels = np.unique(pids[distinct], return_inverse=True)
        count, dimensions = self.rows.shape
        if len(identities) < 2:
            raise DataError(f"metric null_space: {len(identities)} training identities; expected two or more")
        if self.kernel == "linear" and dimensions < count - 1:
            raise DataError(
                f"metric null_space: {count} training embeddings of {len(identities)} identities in {dimensions} "
                f"dimensions: with kernel=linear no null space exists in {count - len(identities)} dimensions or "
                f"fewer, and this metric needs {count - 1}; use kernel=rbf"
            )
        factor, failed = torch.linalg.cholesky_ex(self._kernel_matrix())
        pivots = factor.diagonal().square()
        if failed or pivots.min() <= count * torch.finfo(torch.float64).eps * pivots.max():
            row = distinct[int(failed) - 1 if failed else int(pivots.argmin())]
            raise DataError(
                f"metric null_space: the kernel matrix of {count} training embeddings in {dimensions} dimensions is "
                f"singular: embedding {row} (pid {pids[row]}) depends on those before it; leave out near copies"
            )
        indicator = torch.zeros(count, len(identities), dtype=torch.float64)
        indicator[torch.arange(count), torch.from_numpy(labels)] = 1
        solved = torch.cholesky_solve(indicator, factor)
        del factor
        half = torch.linalg.cholesky(indicator.T @ solved)
        total = torch.linalg.solve_triangular(half, solved.sum(dim=0)[:, None], upper=False)
        complement = torch.linalg.qr(total, mode="complete")[0][:, 1:]
        self.weights = solved @ torch.linalg.solve_triangular(half.T, complement, upper=True)

    def project(self, embeddings: Tensor) -> Tensor:
        """Return the coordinates in the null space [n, C - 1], computed in float64."""
        if self.rows is None:
            raise DataError("metric null_space: it is not fitted; give it training embeddings first")
        if embeddings.shape[1] != self.rows.shape[1]:
            raise DataError(
                f"metric null_space: embeddings have {embeddings.shape[1]} dimensions, "
                f"those that it was fitted on {self.rows.shape[1]}; expected the same"
            )
        # Libraries round the last rows of an incomplete block in another way: equal rows would be apart.
        rows = torch.zeros(len(embeddings) + -len(embeddings) % _UNIT, embeddings.shape[1], dtype=torch.float64)
        torch.sub(embeddings.detach().cpu(), self.mean, out=rows[: len(embeddings)])
        result = torch.zeros(len(rows), self.weights.shape[1], dtype=torch.float64)
        for tile, kernel in self._kernels(rows, _squares(rows), len(self.rows)):
            result += kernel @ self.weights[tile]
        return result[: len(embeddings)].to(embeddings)

    def _kernel_matrix(self) -> Tensor:
        """Return K [n, n] of the training rows, of which only the lower triangle is complete."""
        assert self.rows is not None
        matrix = torch.zeros(len(self.rows), len(self.rows), dtype=torch.float64)
        for first in range(0, len(self.rows), _TILE * _TILES):
            part = slice(first, first + _TILE * _TILES)
            rows, stop = self.rows[part] - self.mean, min(part.stop, len(self.rows))
            for tile, kernel in self._kernels(rows, self.squares[part], stop):
                matrix[part, tile] = kernel
        return matrix

    def _kernels(self, rows: Tensor, squares: Tensor, stop: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield the kernel of centred rows, whose squared lengths are given, and of the training rows up to ``stop``.

        The space has no direction along a constant: added to the linear kernel, it makes K regular and changes nothing.
        """
        assert self.rows is not None
        # One buffer for all: the allocator would return so much memory to the system each time.
        buffer = torch.empty(_TILE, rows.shape[1], dtype=torch.float64)
        for first in range(0, stop, _TILE):
            tile = slice(first, first + _TILE)
            others = self.rows[tile]
            products = rows @ torch.sub(others, self.mean, out=buffer[: len(others)]).T
            if self.kernel == "linear":
                yield tile, products.add_(self.scale)
            else:
                distances = squares[:, None] + self.squares[tile] - 2 * products
                yield tile, torch.exp(distances.clamp_(min=0).div_(-self.scale))


def _squares(rows: Tensor) -> Tensor:
    """Return the squared lengths [n] of rows, without a copy of them."""
    return torch.linalg.vector_norm(rows, dim=1).square()


def _distinct(rows: Tensor, pids: IntArray) -> IntArray:
    """Return the first of each set of equal rows; raises DataError where they have different identities."""
    first: dict[bytes, int] = {}
    for number, row in enumerate(rows):
        other = first.setdefault(hashlib.blake2b(row.contiguous().numpy()).digest(), number)
        if pids[other] != pids[number]:
            raise DataError(
                f"metric null_space: training embeddings {other} and {number} are equal, but of the identities "
                f"{pids[other]} and {pids[number]}, which no space can tell apart; leave one out, or correct its pid"
            )
    return np.array(list(first.values()))


@hookimpl
def register_metrics() -> dict[str, Callable[..., Metric]]:
    return {"null_space": NullSpace}
