"""Exact distances between the rows of a batch, with a gradient that stays finite where two rows coincide."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

Distance = Literal["euclidean", "sqeuclidean", "cosine"]

# Two rows are close where |a - b|^2 is below this share of |a|^2 + |b|^2: the expanded form would lose digits there.
CLOSE = 0.1


def pairwise(embeddings: Tensor, distance: Distance) -> Tensor:
    """Return the distances [B, B] between the rows of ``embeddings`` [B, D].

    Computed in float32 for half and bfloat16, else in the dtype of the input. Equal rows are exactly 0 apart and pass
    no gradient to each other. "cosine" is 1 - cos; a row of zeros has no direction, so it stays where it is, 0.5 from
    every direction and 0 from other rows of zeros.
    """
    rows = _rows(embeddings, distance)
    with torch.no_grad():
        squares, sums, centred = _expanded(rows)
        close = (squares <= CLOSE * sums).fill_diagonal_(False)
        pairs = close.nonzero() if bool(close.any()) else None
    if pairs is None:
        alone: Tensor = _Expanded.apply(rows, centred, squares, None, distance)
        return alone
    if 4 * len(pairs) > close.numel():  # most rows coincide, or nearly: their differences would fill [B, B, D]
        exact = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        return exact if distance == "euclidean" else _of_squares(exact.square(), distance)
    first, second = pairs.T
    distances: Tensor = _Expanded.apply(rows, centred, squares, close.fill_diagonal_(True), distance)
    return distances.index_put((first, second), _between(rows, first, second, distance))


class _Expanded(torch.autograd.Function):
    """Distances [B, B] from squares that are known, 0 and without a gradient where rows are ``close``.

    ``close`` [B, B] is None where only each row is to itself. Written out, since the gradient of all pairs is one
    product with the rows, not a dozen passes over [B, B].
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
        # What pulls row a along a - b: the slope of |a - b| is 1 / |a - b|, of its square 2, of half of that 1.
        pull = gradient / lengths if lengths is not None else gradient * (1 if ctx.distance == "cosine" else 2)
        pull = _fill(pull, close, 0)
        pull = pull + pull.T
        with torch.autocast(pull.device.type, enabled=False):
            slopes = torch.addmm(pull.sum(dim=1, keepdim=True) * centred, pull, centred, alpha=-1)
        return slopes, None, None, None, None


def _fill(matrix: Tensor, mask: Tensor | None, value: float) -> Tensor:
    """Set what a mask [B, B] marks, or the diagonal where there is none, in place."""
    return matrix.fill_diagonal_(value) if mask is None else matrix.masked_fill_(mask, value)


def between(embeddings: Tensor, first: Tensor, second: Tensor, distance: Distance) -> Tensor:
    """Return the distances [N] from the rows ``first`` [N] to the rows ``second`` [N] of ``embeddings`` [B, D].

    The same distances as ``pairwise`` gives, to rounding, from differences of rows throughout.
    """
    return _between(_rows(embeddings, distance), first, second, distance)


@torch.no_grad()
def may_be_hardest(embeddings: Tensor, same: Tensor, distance: Distance) -> tuple[Tensor, Tensor]:
    """Return the pairs that may be a row's farthest of its own identity, and its closest of another, both [N, 2].

    ``embeddings`` is [B, D]; ``same`` [B, B] says which rows are of one identity, a row with itself among them. The
    pairs (row, other row) are few: those that rounding keeps apart from none of the hardest. A row has none where a
    distance is NaN.
    """
    rows = _rows(embeddings, distance)
    squares, sums, _ = _expanded(rows)
    # A dot product of D terms, the norms and the moved rows round by D + 4 units at most; twice, as two are compared.
    slack = 4 * (rows.shape[1] + 4) * torch.finfo(rows.dtype).eps * sums.amax(dim=1)
    positives = squares.masked_fill(~same, -torch.inf)
    negatives = squares.masked_fill_(same, torch.inf)
    far = positives >= (positives.amax(dim=1) - slack)[:, None]
    near = negatives <= (negatives.amin(dim=1) + slack)[:, None]
    return far.nonzero(), near.nonzero()


def rows_of(matrix: Tensor, index: Tensor) -> Tensor:
    """Return the rows ``index`` [N] of ``matrix`` [B, D], whose gradients are added in one order on every device."""
    return functional.embedding(index, matrix)


def _rows(embeddings: Tensor, distance: Distance) -> Tensor:
    rows = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    if distance != "cosine":
        return rows
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(norms > 0, norms, 1)


def _expanded(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return |a|^2 + |b|^2 - 2ab and |a|^2 + |b|^2, both [B, B], of rows moved to their mean, and these rows [B, D]."""
    centred = rows - rows.mean(dim=0)  # an offset common to all is no distance, and would cost its digits
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
