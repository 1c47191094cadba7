"""Exact distances between the rows of a batch, with a gradient that stays finite where two rows coincide."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
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
    squares, norms = _expanded(rows)
    sums = norms[:, None] + norms[None, :]
    close = (squares.detach() <= CLOSE * sums.detach()).fill_diagonal_(False)
    first, second = close.nonzero(as_tuple=True)
    if 4 * len(first) > close.numel():  # most rows coincide, or nearly: their differences would fill [B, B, D]
        exact = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        return exact if distance == "euclidean" else _of_squares(exact.square(), distance)
    close.fill_diagonal_(True)
    if distance == "euclidean":
        distances = squares.masked_fill(close, 1).sqrt().masked_fill(close, 0)
    else:
        distances = _of_squares(squares.masked_fill(close, 0), distance)
    return distances.index_put((first, second), _between(rows, first, second, distance)) if len(first) else distances


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
    squares, norms = _expanded(rows)
    # A dot product of D terms, the norms and the moved rows round by D + 4 units at most; twice, as two are compared.
    slack = 4 * (rows.shape[1] + 4) * torch.finfo(rows.dtype).eps * (norms + norms.max())
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


def _expanded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return |a|^2 + |b|^2 - 2ab [B, B] and |a|^2 [B], of rows moved to their mean."""
    centred = rows - rows.detach().mean(dim=0)  # an offset common to all is no distance, and would cost its digits
    norms = centred.square().sum(dim=1)
    with torch.autocast(rows.device.type, enabled=False):  # autocast would multiply in half precision
        return torch.addmm(norms[:, None] + norms[None, :], centred, centred.T, alpha=-2), norms


def _between(rows: Tensor, first: Tensor, second: Tensor, distance: Distance) -> Tensor:
    differences = rows_of(rows, first) - rows_of(rows, second)
    if distance == "euclidean":
        lengths: Tensor = torch.linalg.vector_norm(differences, dim=1)  # its gradient at 0 is 0
        return lengths
    return _of_squares(differences.square().sum(dim=1), distance)


def _of_squares(squares: Tensor, distance: Distance) -> Tensor:
    # Half the squared chord between unit rows is 1 - cos without the cancellation of the difference.
    return squares / 2 if distance == "cosine" else squares
