"""Exact distances between the rows of a batch, with a finite gradient where rows coincide."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

Distance = Literal["euclidean", "sqeuclidean", "cosine"]

# Rows are close where |a - b|^2 is below this share of |a|^2 + |b|^2, since the expanded form loses digits there.
CLOSE = 0.1


def pairwise(embeddings: Tensor, distance: Distance) -> Tensor:
    """Return the distances [B, B] between the rows of ``embeddings`` [B, D].

    Computed in float32 for half and bfloat16, else in the dtype of the input. Equal rows have a distance of exactly 0
    and no gradient. "cosine" is 1 - cos; a row of zeros is not normalised: its distance is 0.5 to other rows, and 0 to
    rows of zeros.
    """
    rows = _rows(embeddings, distance)
    with torch.no_grad():
        squares, sums, centred = _expanded(rows)
        close = (squares <= CLOSE * sums).fill_diagonal_(False)
        pairs = close.nonzero() if bool(close.any()) else None
    if pairs is None:
        expanded: Tensor = _Expanded.apply(rows, centred, squares, None, distance)
        return expanded
    if 4 * len(pairs) > close.numel():  # most rows nearly coincide: their differences would fill [B, B, D]
        exact = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        return exact if distance == "euclidean" else _of_squares(exact.square(), distance)
    first, second = pairs.T
    distances: Tensor = _Expanded.apply(rows, centred, squares, close.fill_diagonal_(True), distance)
    return distances.index_put((first, second), _between(rows, first, second, distance))


class _Expanded(torch.autograd.Function):
    """Distances [B, B] from given squares, 0 and without a gradient where rows are ``close``.

    ``close`` [B, B] is None where each row is close only to itself. The gradient is written out: it is one product with
    the rows, for which autograd would take a dozen passes over [B, B].
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, centred: Tensor, squares: Tensor, close: Tensor | None, distance: Distance
    ) -> Tensor:
        ctx.distance = distance
        lengths = _fill(squares, close, 1).sqrt_() if distance == "euclidean" else None
        ctx.save_for_backward(centred, close, lengths)
        return _of_squares(_fill(squares if lengths is None else lengths.clone(), close, 0), distance)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        centred, close, lengths = ctx.saved_tensors
        # The factor of a - b in the gradient of row a: 1 / |a - b| for |a - b|, 2 for its square, 1 for half of that.
        pull = gradient / lengths if lengths is not None else gradient * (1 if ctx.distance == "cosine" else 2)
        pull = _fill(pull, close, 0)
        pull = pull + pull.T
        with torch.autocast(pull.device.type, enabled=False):
            slopes = torch.addmm(pull.sum(dim=1, keepdim=True) * centred, pull, centred, alpha=-1)
        return slopes, None, None, None, None


def _fill(matrix: Tensor, mask: Tensor | None, value: float) -> Tensor:
    """Fill the masked entries [B, B], or without a mask the diagonal, in place."""
    return matrix.fill_diagonal_(value) if mask is None else matrix.masked_fill_(mask, value)


def between(embeddings: Tensor, first: Tensor, second: Tensor, distance: Distance) -> Tensor:
    """Return the distances [N] from the rows ``first`` [N] to the rows ``second`` [N] of ``embeddings`` [B, D].

    Equal to those of ``pairwise`` up to rounding, computed from differences of rows.
    """
    return _between(_rows(embeddings, distance), first, second, distance)


@torch.no_grad()
def may_be_hardest(embeddings: Tensor, same: Tensor, distance: Distance) -> tuple[Tensor, Tensor]:
    """Return the pairs that may be a row's farthest of its own identity, and its closest of another, both [N, 2].

    ``embeddings`` is [B, D]; ``same`` [B, B] marks rows of one identity, each row with itself too. The pairs (row,
    other row) are those within the rounding error of the hardest one. A row with a NaN distance has none.
    """
    rows = _rows(embeddings, distance)
    squares, sums, _ = _expanded(rows)
    # A dot product of D terms, the norms and the centring round by at most D + 4 units; twice, since two are compared.
    slack = 4 * (rows.shape[1] + 4) * torch.finfo(rows.dtype).eps * sums.amax(dim=1)
    positives = squares.masked_fill(~same, -torch.inf)
    negatives = squares.masked_fill_(same, torch.inf)
    far = positives >= (positives.amax(dim=1) - slack)[:, None]
    near = negatives <= (negatives.amin(dim=1) + slack)[:, None]
    return far.nonzero(), near.nonzero()


def rows_of(matrix: Tensor, index: Tensor) -> Tensor:
    """Return the rows ``index`` [N] of ``matrix`` [B, D], with gradients added in a fixed order on every device."""
    return functional.embedding(index, matrix)


def _rows(embeddings: Tensor, distance: Distance) -> Tensor:
    rows = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    if distance != "cosine":
        return rows
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(norms > 0, norms, 1)


def _expanded(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return |a|^2 + |b|^2 - 2ab and |a|^2 + |b|^2, both [B, B], of the centred rows, and the centred rows [B, D]."""
    centred = rows - rows.mean(dim=0)  # a common offset does not change distances, but would lose digits
    norms = centred.square().sum(dim=1)
    sums = norms[:, None] + norms[None, :]
    with torch.autocast(rows.device.type, enabled=False):  # autocast would multiply in half precision
        return torch.addmm(sums, centred, centred.T, alpha=-2), sums, centred


def _between(rows: Tensor, first: Tensor, second: Tensor, distance: Distance) -> Tensor:
    differences = rows_of(rows, first) - rows_of(rows, second)
    if distance == "euclidean":
        lengths: Tensor = torch.linalg.vector_norm(differences, dim=1)  # its gradient at 0 is 0
        return lengths
    return _of_squares(differences.square().sum(dim=1), distance)


def _of_squares(squares: Tensor, distance: Distance) -> Tensor:
    # Half the squared chord between unit rows is 1 - cos without the cancellation of the difference.
    return squares / 2 if distance == "cosine" else squares
