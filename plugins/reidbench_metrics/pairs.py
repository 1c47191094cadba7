"""Pairs of training units, and the sums of the outer products of their differences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from reidbench import IntArray

_PIECE = 1_024  # rows in float64 at once

Pairs = tuple[IntArray, IntArray]


def halves(pids: IntArray, cams: IntArray, generator: np.random.Generator) -> Pairs:
    """Return rows (first, second) of pairs of one identity across cameras; no row is in two pairs.

    The rows of each identity are shuffled and cut in half (without the odd one), the halves are paired in order, and
    pairs of one camera are dropped: gen_train_sample_xqda.m.
    """
    first, second = [], []
    for rows in _rows_by(pids):
        shuffled = generator.permutation(rows)
        half = len(rows) // 2
        first.append(shuffled[:half])
        second.append(shuffled[half : 2 * half])
    a, b = np.concatenate(first), np.concatenate(second)
    across = cams[a] != cams[b]
    return a[across], b[across]


def positives(pids: IntArray, cams: IntArray) -> Pairs:
    """Return all positive pairs across cameras, by identity: gen_train_sample_kissme.m."""
    first, second = [], []
    for rows in _rows_by(pids):
        a, b = (rows[side] for side in np.triu_indices(len(rows), k=1))
        across = cams[a] != cams[b]
        first.append(a[across])
        second.append(b[across])
    return np.concatenate(first), np.concatenate(second)


def negatives(pids: IntArray, cams: IntArray, count: int, generator: np.random.Generator) -> Pairs:
    """Return ``count`` sampled negative pairs across cameras, of which there must be one: gen_train_sample_kissme.m.

    The script filters 150,000 samples, which is too few for many positives; here sampling ends when there are enough.
    """
    parts: list[IntArray] = []
    number = 0
    while number < count:
        sampled = generator.integers(len(pids), size=(2, max(count, _PIECE)))
        apart = (pids[sampled[0]] != pids[sampled[1]]) & (cams[sampled[0]] != cams[sampled[1]])
        parts.append(sampled[:, apart])
        number += int(apart.sum())
    first, second = np.concatenate(parts, axis=1)[:, :count] if parts else np.zeros((2, 0), dtype=np.int64)
    return first, second


def counts_across(pids: IntArray, sides: IntArray) -> tuple[int, int]:
    """Return the numbers of positive and of negative pairs of rows of two sides."""
    one = _pairs_within(pids) - _pairs_within(_joined(pids, sides))
    return one, _pairs_within(np.zeros_like(pids)) - _pairs_within(sides) - one


def scatters_across(rows: Tensor, mean: Tensor, pids: IntArray, sides: IntArray) -> tuple[Tensor, Tensor]:
    """Return the sums [D, D] float64 over the positive and the negative pairs of two sides of (x - y)(x - y)'.

    No pair is formed: over all pairs of a group of n rows the sum is n times that of xx', less ss' of the group's
    sum s, and the pairs of two sides are all pairs less those of one side. ``mean`` [D] is subtracted from every
    row, which changes no difference and avoids cancellation.
    """
    one = _scatter_within(rows, mean, pids) - _scatter_within(rows, mean, _joined(pids, sides))
    everything = _scatter_within(rows, mean, np.zeros_like(pids)) - _scatter_within(rows, mean, sides)
    return one, everything - one


def scatter_of(rows: Tensor, pairs: Pairs, basis: Tensor) -> Tensor:
    """Return the sum [K, K] float64 over given pairs of dd', d the difference of two rows times ``basis`` [D, K]."""
    total = torch.zeros(basis.shape[1], basis.shape[1], dtype=torch.float64)
    for piece in _pieces(0, len(pairs[0])):
        apart = (rows[pairs[0][piece]].double() - rows[pairs[1][piece]].double()) @ basis
        total += apart.T @ apart
    return total


def mean_of(rows: Tensor) -> Tensor:
    """Return the mean [D] of the rows in float64."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for piece in _pieces(0, len(rows)):
        total += rows[piece].double().sum(dim=0)
    return total / len(rows)


def second_moments(rows: Tensor, mean: Tensor) -> Tensor:
    """Return the sum [D, D] float64 of xx' over rows less ``mean``."""
    total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for piece in _pieces(0, len(rows)):
        moved = rows[piece].double() - mean
        total += moved.T @ moved
    return total


def _scatter_within(rows: Tensor, mean: Tensor, groups: IntArray) -> Tensor:
    """Return the sum [D, D] of (x - y)(x - y)' over all pairs of rows of a group, in memory for a few such matrices."""
    dim = rows.shape[1]
    number, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    order = np.argsort(number, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    total = torch.zeros(dim, dim, dtype=torch.float64)
    together = max(dim, _PIECE)  # groups whose sums are held at once
    for first in range(0, len(sizes), together):
        last = min(first + together, len(sizes))
        sums = torch.zeros(last - first, dim, dtype=torch.float64)
        for piece in _pieces(starts[first], starts[last]):
            part = rows[order[piece]].double() - mean
            own = number[order[piece]]
            total += part.T @ (torch.from_numpy(sizes[own]).double()[:, None] * part)
            sums.index_add_(0, torch.from_numpy(own - first), part)
        total -= sums.T @ sums
    return total


def _pairs_within(groups: IntArray) -> int:
    sizes = np.unique(groups, return_counts=True)[1].astype(np.int64)
    return int((sizes * (sizes - 1) // 2).sum())


def _joined(pids: IntArray, sides: IntArray) -> IntArray:
    """Return one number for each (identity, side)."""
    return np.unique(np.stack([pids, sides]), axis=1, return_inverse=True)[1].reshape(-1)


def _rows_by(pids: IntArray) -> list[IntArray]:
    """Return the rows of each identity, in order of the pids."""
    order = np.argsort(pids, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(pids[order])) + 1)


def _pieces(start: int, stop: int) -> Iterator[slice]:
    for first in range(start, stop, _PIECE):
        yield slice(first, min(first + _PIECE, stop))
