"""k-reciprocal re-ranking on sparse rows, without a matrix of size N x N."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from reidbench import DataError, Metric, OptionError, Reranker, compiled, hookimpl, nearest, unit_rows

_PAIRS = 20_000  # pairs whose distances are computed at once: two float64 copies of 128 columns take 40 MB
_VALUES = 2_000_000  # distances computed at once, where a metric has no factors: 16 MB


class KReciprocal(Reranker):
    """The Jaccard distance of two units' k-reciprocal neighbours, mixed with the original distance.

    Options:
        k1: Number of neighbours among which reciprocal ones are sought.
        k2: Number of nearest neighbours whose weights are averaged; 1 averages nothing.
        lam: The weight of the original distance; 1 - lam is that of the Jaccard distance.
        rounding: How half of k1 is rounded: as the published "matlab" or "python" script does (they agree at 20).

    Queries and gallery, junk and distractors included, form one graph of N = nq + ng units, so that all of them are
    each other's possible neighbours, as in the official script. The original distance is the metric's quadratic form
    (the squared Euclidean distance; a learned form is not squared again), each row over its maximum. For a metric with
    factors it is left(x) . right(y) - left(x) . right(x), whose scale the maximum takes out; for one without, its
    distances, squared, which must not be negative. A row whose maximum is 0 stays 0. Neighbours are exact, ties
    in order of the units. Yields float32; raises OptionError for options out of range, and DataError where
    a metric without factors gives negative distances.

    Source: Zhong et al. 2017, "Re-ranking person re-identification with k-reciprocal encoding", Eq. 1-12; re_ranking.m
    and re_ranking_ranklist.py of the authors.
    """

    def __init__(
        self, *, k1: int = 20, k2: int = 6, lam: float = 0.3, rounding: Literal["matlab", "python"] = "matlab"
    ) -> None:
        if k1 < 1 or k2 < 1 or not 0 <= lam <= 1:
            raise OptionError(f"k_reciprocal: expected k1 >= 1, k2 >= 1 and lam in 0..1, got {k1=}, {k2=}, {lam=}")
        self.k1, self.k2, self.lam = k1, k2, lam
        # MATLAB rounds a half up, numpy to the even neighbour; both count the unit itself.
        self.half = (k1 + 2) // 2 if rounding == "matlab" else round(k1 / 2) + 1

    def blocks(self, query: Tensor, gallery: Tensor, metric: Metric, rows: int) -> Iterator[Tensor]:
        """Yield the mixed distances [at most ``rows``, len(gallery)] float32 in query order."""
        units = torch.cat([query, gallery]).detach().cpu()
        neighbours, farthest = nearest(units, units, metric, max(self.k1 + 1, self.k2))
        form = _Form(units, metric)
        largest = form.largest(farthest)
        weights = self._weights(neighbours, form, largest)
        of_gallery = weights[len(query) :].tocsc()
        for start in range(0, len(query), rows):
            stop = min(start + rows, len(query))
            original = form.rows(start, stop, len(query)) / largest[start:stop, None]
            overlap = np.zeros(original.shape)
            sides = (weights[start:stop], of_gallery)
            _add_overlap(*(array for side in sides for array in (side.indptr, side.indices, side.data)), overlap)
            jaccard = 1 - overlap / (2 - overlap)
            yield torch.from_numpy(((1 - self.lam) * jaccard + self.lam * original).astype(np.float32))

    def _weights(self, neighbours: NDArray[np.int64], form: _Form, largest: NDArray[np.float64]) -> sparse.csr_array:
        """Return each unit's weights [N, N], sparse: a Gaussian over its expanded reciprocal neighbours, sum 1."""
        reciprocal = _mutual(neighbours[:, : self.k1 + 1])
        candidates = _mutual(neighbours[:, : self.half])
        # A neighbour's own, smaller set is added where more than two thirds of it are reciprocal neighbours already.
        shared = (reciprocal @ candidates.T).multiply(reciprocal).tocsr()
        sizes = candidates.sum(axis=1)
        shared.data = (3 * shared.data > 2 * sizes[shared.indices]).astype(np.int32)
        expanded = (reciprocal + shared @ candidates).tocsr()
        expanded.eliminate_zeros()
        expanded.sort_indices()
        unit = np.repeat(np.arange(len(largest)), np.diff(expanded.indptr))
        weight = np.exp(-form.pairs(unit, expanded.indices) / largest[unit])
        weight /= np.bincount(unit, weights=weight, minlength=len(largest))[unit]
        weights = sparse.csr_array((weight, expanded.indices, expanded.indptr), shape=expanded.shape)
        if self.k2 == 1:
            return weights
        averaged = neighbours[:, : self.k2]
        return (_members(averaged, 1 / averaged.shape[1]) @ weights).tocsr()


class _Form:
    """The metric's quadratic form between units: from its factors where there are any, else squared distances."""

    def __init__(self, units: Tensor, metric: Metric) -> None:
        self.metric = metric
        self.units = unit_rows(units.double()) if metric.normalize else units.double()
        factors = metric.factors(self.units)
        self.factors = None if factors is None else (factors[0].numpy(), factors[1].numpy())
        self.own = np.zeros(len(units))
        if factors is not None:
            self.own = self.pairs(np.arange(len(units)), np.arange(len(units)))

    def largest(self, farthest: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the divisor of each row, from its largest product or distance."""
        largest = farthest - self.own if self.factors is not None else farthest**2
        return np.where(largest > 0, largest, 1.0)

    def pairs(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the form of each pair; ``first`` rises."""
        values = np.empty(len(first))
        if self.factors is None:
            size = max(1, _VALUES // len(self.units))
            for start in range(0, len(self.units), size):
                low, high = np.searchsorted(first, [start, start + size])
                block = self.rows(start, min(start + size, len(self.units)), 0)
                values[low:high] = block[first[low:high] - start, second[low:high]]
            return values
        left, right = self.factors
        for start in range(0, len(first), _PAIRS):
            part = slice(start, start + _PAIRS)
            products = np.einsum("ij,ij->i", left[first[part]], right[second[part]])
            values[part] = products - self.own[first[part]]
        return values

    def rows(self, start: int, stop: int, first: int) -> NDArray[np.float64]:
        """Return the form of the units start..stop against all from ``first`` on."""
        if self.factors is not None:
            left, right = self.factors
            return left[start:stop] @ right[first:].T - self.own[start:stop, None]
        distances = self.metric.distances(self.units[start:stop], self.units[first:]).numpy()
        if (distances < 0).any():
            raise DataError(
                f"{type(self.metric).__name__}: has negative distances and no factors, so their squares have another "
                "order; expected factors, or distances of 0 or more"
            )
        return distances**2


def _members(lists: NDArray[np.int64], value: float) -> sparse.csr_array:
    """Return the sparse matrix [N, N] that has ``value`` where the row's list [N, k] names the column."""
    count, length = lists.shape
    data = np.full(lists.size, value, dtype=np.int32 if value == 1 else np.float64)
    return sparse.csr_array((data, lists.ravel(), np.arange(0, lists.size + 1, length)), shape=(count, count))


def _mutual(lists: NDArray[np.int64]) -> sparse.csr_array:
    """Return 1 where two units are in each other's lists."""
    members = _members(lists, 1)
    return members.multiply(members.T).tocsr()


@compiled
def _add_overlap(  # noqa: PLR0917, compiled functions take arrays by position
    row_starts: NDArray[np.int32],
    row_columns: NDArray[np.int32],
    row_values: NDArray[np.float64],
    starts: NDArray[np.int32],
    units: NDArray[np.int32],
    values: NDArray[np.float64],
    overlap: NDArray[np.float64],
) -> None:
    """Add to overlap [r, ng] the sum over columns of the smaller of a row's and a gallery unit's weight."""
    for i in range(overlap.shape[0]):
        target = overlap[i]
        for r in range(row_starts[i], row_starts[i + 1]):
            column, weight = row_columns[r], row_values[r]
            for u in range(starts[column], starts[column + 1]):
                target[units[u]] += min(weight, values[u])


@hookimpl
def register_rerankers() -> dict[str, Callable[..., Reranker]]:
    return {"k_reciprocal": KReciprocal}
