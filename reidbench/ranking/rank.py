"""Ranks of all positives of all queries, streamed: queries times gallery is never held.

Which item stands before which is decided in ``counting``; here the gallery is read in chunks, the metric gives the
factors of each, and what was counted becomes a ``Ranking``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench.data.ground_truth import EXCLUSION_RULES, Matches
from reidbench.errors import DataError
from reidbench.ranking import rank_kernels as kernels
from reidbench.ranking.rank_counts import PIECE, Block, Top, walk
from reidbench.ranking.rankings import Rankings, rankings_of
from reidbench.utils.arrays import FloatArray, IntArray
from reidbench.utils.threads import Workers, workers

if TYPE_CHECKING:
    from reidbench.plugins.interfaces import Metric

__all__ = ["nearest", "rank", "rank_distances", "unit_rows"]

Embeddings = Tensor | NDArray[Any]

CHUNK = 16_384
_TOGETHER = 2**18  # numbers of the rows that are measured at once: 2 MiB, which stay in the cache
_LEAST, _MOST = 1e-152, 1e150  # where squares and their sums stay within float64
_VALUES = 2_000_000  # distances at once, where a metric has no factors: 16 MB


def rank(  # noqa: PLR0917, one argument for each array of a query and a gallery
    query: Embeddings,
    gallery: Embeddings,
    query_pids: IntArray,
    query_cams: IntArray,
    gallery_pids: IntArray,
    gallery_cams: IntArray,
    metric: Metric,
    *,
    exclude: tuple[str, ...] = EXCLUSION_RULES,
    top: int = 10,
    chunk: int = CHUNK,
) -> Rankings:
    """Return where the positives of every query stand under a metric.

    ``query`` [nq, D] and ``gallery`` [ng, D] are float32 or float64, pids and cams int64 [nq] and [ng]; ``exclude``
    names the rules of what leaves a query's ranking: "junk" (pid -1) and "same_camera" (the query's identity in the
    query's camera). ``top`` closest items are kept; ``chunk`` gallery rows are in work at once.

    Items stand in the order of left . right of ``metric.factors`` in float64, equal ones in gallery order; where a
    metric has no factors, in the order of ``metric.distances``. Neither chunks, blocks nor threads change a rank.
    Distances are ``metric.distances`` in float64. Rows get unit length first where the metric asks for it.
    Raises DataError (shapes, dtypes, an embedding that is not finite, a query without an identity) and OptionError
    (an unknown rule).
    """
    matches = Matches.find(query_pids, query_cams, gallery_pids, gallery_cams, exclude)
    counts = _Counts(matches, top)
    with workers() as crew:
        query_rows, gallery_rows = _both(query, gallery, metric, (len(query_pids), len(gallery_pids)), crew)
        left = query_rows.factors("left")
        if left is None:
            for first, values in _value_blocks(query_rows, gallery_rows):
                counts.add_values(first, values)
        else:
            counts.add_factors(left, gallery_rows, chunk)
        pair_distances, top_distances = _shown(query_rows, gallery_rows, matches, counts.top)
    return rankings_of(matches, counts.closer, counts.closer_junk, pair_distances, counts.top.columns, top_distances)


def rank_distances(
    blocks: Iterable[Embeddings],
    query_pids: IntArray,
    query_cams: IntArray,
    gallery_pids: IntArray,
    gallery_cams: IntArray,
    *,
    exclude: tuple[str, ...] = EXCLUSION_RULES,
    top: int = 10,
) -> Rankings:
    """Return where the positives of every query stand under distances made elsewhere.

    ``blocks`` are rows [r, ng] of distances, float32 or float64, in query order, all queries once; the rest is as in
    ``rank``. Equal distances stand in gallery order. Raises DataError (shapes, a distance that is not finite, a query
    without an identity) and OptionError (an unknown rule).
    """
    matches = Matches.find(query_pids, query_cams, gallery_pids, gallery_cams, exclude)
    queries, size = len(query_pids), len(gallery_pids)
    counts = _Counts(matches, top)
    pair_distances = np.empty(len(matches.columns))
    first = 0
    for block in blocks:
        values = _array(block, "distances")
        if values.shape[1] != size or first + len(values) > queries:
            raise DataError(
                f"distances from query {first} on: expected at most {queries - first} rows of {size} gallery items, "
                f"got {len(values)} rows of {values.shape[1]}"
            )
        _refuse_not_finite(values, "distances of query", first)
        part = slice(matches.starts[first], matches.starts[first + len(values)])
        pair_distances[part] = counts.add_values(first, values)
        first += len(values)
    if first != queries:
        raise DataError(f"distances for {first} queries, expected {queries}: every query needs one row")
    listed = counts.top
    return rankings_of(matches, counts.closer, counts.closer_junk, pair_distances, listed.columns, listed.values)


def nearest(
    query: Embeddings, gallery: Embeddings, metric: Metric, k: int, *, chunk: int = CHUNK
) -> tuple[IntArray, FloatArray]:
    """Return the k nearest gallery rows of each query row, and how far the farthest one is.

    The first is int64 [nq, min(k, ng)], nearest first, in the order that ``rank`` has; the second, float64 [nq], is
    the largest left . right of ``metric.factors``, or of ``metric.distances`` where the metric has no factors. Shapes,
    dtypes and errors are those of ``rank``.
    """
    everything = np.arange(len(gallery))
    best = Top.empty(len(query), min(k, len(gallery)))
    farthest = np.full(len(query), -np.inf)
    starts, columns = np.zeros(len(query) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)  # no matches
    values = columns.astype(np.float64)

    def visit(block: Block) -> None:
        block.visit(starts, columns, values, columns, best)
        farthest[block.rows] = np.maximum(farthest[block.rows], block.farthest())

    with workers() as crew:
        query_rows, gallery_rows = _both(query, gallery, metric, (len(query), len(gallery)), crew)
        left = query_rows.factors("left")
        if left is None:
            for first, distances in _value_blocks(query_rows, gallery_rows):
                rows = slice(first, first + len(distances))
                farthest[rows] = distances.max(axis=1)
                kernels.insert_values(distances, best.values[rows], best.columns[rows])
            return best.columns, farthest
        walk(left, gallery_rows.chunks(everything, chunk), visit, crew)
    return best.columns, farthest


def unit_rows(embeddings: Tensor) -> Tensor:
    """Return rows [n, D] of Euclidean length 1 in the dtype of the input; a row of zeros stays as it is."""
    # float64, since the square of a small float32 number may be zero.
    rows = embeddings.double()
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if bool(((length < _LEAST) | (length > _MOST)).any()):
        # Squares of float64 leave it too: such rows are brought near 1 by a power of two, which rounds nothing.
        exponent = torch.frexp(rows.abs().amax(dim=1, keepdim=True)).exponent
        far = (length > 0) & (length < _LEAST) | (length > _MOST) | (length == 0) & (rows != 0).any(dim=1, keepdim=True)
        rows = torch.where(far, torch.ldexp(torch.ldexp(rows, -exponent // 2), -exponent - -exponent // 2), rows)
        length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return (rows / torch.where(length > 0, length, torch.ones_like(length))).to(embeddings.dtype)


class _Rows:
    """Embeddings as the metric sees them, piece by piece: checked, float64, of unit length where it asks for that."""

    def __init__(self, embeddings: Embeddings, name: str, metric: Metric, expected: int, crew: Workers) -> None:
        self.values = _array(embeddings, name)
        self.metric, self.crew = metric, crew
        if len(self.values) != expected:
            raise DataError(f"{name}: {len(self.values)} embeddings for {expected} pids; expected one row per unit")
        largest = 0.0
        for start in range(0, len(self.values), PIECE):
            piece = self.values[start : start + PIECE]
            _refuse_not_finite(piece, f"{name} embeddings: row", start)
            largest = max(largest, float(np.abs(piece).max(initial=0.0))) if piece.dtype == np.float64 else 1.0
        if 0 < largest < _LEAST and not metric.normalize:
            raise DataError(
                f"{name} embeddings: the largest number is {largest:.3g}, so that squares of them leave float64; "
                "multiply all embeddings by one constant"
            )

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: IntArray | slice) -> Tensor:
        """Return rows in float64, always as one contiguous copy, so that their sums do not depend on the layout."""
        piece = torch.from_numpy(np.array(self.values[rows], dtype=np.float64, order="C"))
        return unit_rows(piece) if self.metric.normalize else piece

    def factors(self, side: Literal["left", "right"], rows: IntArray | None = None) -> FloatArray | None:
        """Return the left or right factors [n, K] float64 of the rows (None: all); None where the metric has none."""
        rows = np.arange(len(self)) if rows is None else rows
        first = self._factors(side, rows[:PIECE])
        if first is None:
            return None
        result = np.empty((len(rows), first.shape[1]))
        result[:PIECE] = first

        def fill(start: int) -> None:
            result[start : start + PIECE] = self._factors(side, rows[start : start + PIECE])

        self.crew.each(fill, range(PIECE, len(rows), PIECE))
        return result

    def _factors(self, side: Literal["left", "right"], rows: IntArray) -> FloatArray | None:
        both = self.metric.factors(self.take(rows))
        return None if both is None else both[0 if side == "left" else 1].detach().cpu().numpy()

    def chunks(self, rows: IntArray, size: int) -> Iterator[FloatArray]:
        """Yield the right factors of the rows, ``size`` rows at a time."""
        for start in range(0, len(rows), size):
            right = self.factors("right", rows[start : start + size])
            assert right is not None  # the left factors of the same metric were there
            yield right


def _both(
    query: Embeddings, gallery: Embeddings, metric: Metric, expected: tuple[int, int], crew: Workers
) -> tuple[_Rows, _Rows]:
    """Return the rows of a query and a gallery, of which there must be so many."""
    sides = _Rows(query, "query", metric, expected[0], crew), _Rows(gallery, "gallery", metric, expected[1], crew)
    ours, theirs = (side.values.shape[1] for side in sides)
    if ours != theirs:
        raise DataError(f"query embeddings have {ours} dimensions, gallery embeddings {theirs}; expected the same")
    return sides


class _Counts:
    """What is counted for the matches of all queries.

    Fields:
        closer: how many items of ``matches.kept`` stand before each match [m] int64.
        closer_junk: the same of ``matches.junk``.
        top: the closest items of each query.
    """

    def __init__(self, matches: Matches, top: int) -> None:
        self.matches = matches
        self.junk_places = np.searchsorted(matches.junk, matches.units)
        self.closer, self.closer_junk = np.zeros((2, len(matches.columns)), dtype=np.int64)
        self.top = Top.empty(len(matches.ranked), top)

    def add_factors(self, left: FloatArray, gallery: _Rows, chunk: int) -> None:
        """Count by factors: first the value of every match, then the whole gallery against all values."""
        matches = self.matches
        chunks: Iterable[FloatArray]
        parts: Iterable[FloatArray]
        if len(matches.kept) <= chunk:  # one chunk serves both
            position = matches.columns
            parts = chunks = list(gallery.chunks(matches.kept, chunk))
        else:
            needed, position = np.unique(matches.columns, return_inverse=True)
            parts, chunks = gallery.chunks(matches.kept[needed], chunk), gallery.chunks(matches.kept, chunk)
        queries, values = matches.queries, np.empty(len(matches.columns))
        for number, right in enumerate(parts):
            here = np.flatnonzero(position // chunk == number)
            values[here] = kernels.pair_values(left, right, queries[here], position[here] - number * chunk)
        hidden = matches.hidden_only()

        def visit(block: Block) -> None:
            block.hide(*hidden)
            block.visit(matches.starts, matches.columns, values, self.closer, self.top)

        def visit_junk(block: Block) -> None:
            block.visit(matches.starts, self.junk_places, values, self.closer_junk, unlisted, contained=False)

        unlisted = Top.empty(len(left), 0)
        walk(left, chunks, visit, gallery.crew)
        walk(left, gallery.chunks(matches.junk, chunk), visit_junk, gallery.crew)

    def add_values(self, first: int, values: NDArray[Any]) -> FloatArray:
        """Count by ready values [r, ng] of queries from ``first`` on; return those of their matches."""
        rows, matches = slice(first, first + len(values)), self.matches
        starts = matches.starts[first : rows.stop + 1]
        own, starts = slice(starts[0], starts[-1]), starts - starts[0]
        queries, columns, hidden = (
            np.repeat(np.arange(len(values)), np.diff(starts)),
            matches.columns[own],
            matches.hidden[own],
        )
        kept, junk = (values[:, units].astype(np.float64) for units in (matches.kept, matches.junk))
        limits = kept[queries, columns]
        kept[queries[hidden], columns[hidden]] = np.inf
        kernels.count_values(kept, starts, limits, columns, self.closer[own])
        kernels.count_values(junk, starts, limits, self.junk_places[own], self.closer_junk[own])
        kernels.insert_values(kept, self.top.values[rows], self.top.columns[rows])
        return limits


def _value_blocks(query: _Rows, gallery: _Rows) -> Iterator[tuple[int, FloatArray]]:
    """Yield the first query and the distances [r, ng] of blocks of queries, for a metric without factors."""
    size = max(1, _VALUES // max(len(gallery), 1))
    candidates = gallery.take(slice(None))
    for first in range(0, len(query), size):
        values = query.metric.distances(query.take(slice(first, first + size)), candidates)
        block = np.array(values.detach().cpu().numpy(), dtype=np.float64, order="C")
        _refuse_not_finite(block, "the metric's distances of query", first)
        yield first, block


def _shown(query: _Rows, gallery: _Rows, matches: Matches, best: Top) -> tuple[FloatArray, FloatArray]:
    """Return the metric's distances in float64 of all matches and of the closest items, inf where there are fewer."""
    shown, top = np.empty(len(matches.columns)), np.full(best.columns.shape, np.inf)
    queries, listed = matches.queries, best.columns >= 0
    # Blocks of queries with about as many pairs each, so that a thread's memory is bounded.
    before = matches.starts[:-1] + listed.sum(axis=1).cumsum() - listed.sum(axis=1)
    firsts = np.flatnonzero(np.diff(before // max(1, _TOGETHER // query.values.shape[1]), prepend=-1)).tolist()

    def show(block: slice) -> None:
        own = slice(matches.starts[block.start], matches.starts[block.stop])
        rows = np.concatenate([queries[own] - block.start, np.nonzero(listed[block])[0]])
        columns = np.concatenate([matches.columns[own], best.columns[block][listed[block]]])
        columns, places = np.unique(columns, return_inverse=True)
        asked, found = query.take(block), gallery.take(matches.kept[columns])
        pairs = query.metric.pair_distances(asked, found, torch.from_numpy(rows), torch.from_numpy(places))
        shown[own], top[block][listed[block]] = np.split(pairs.detach().cpu().numpy(), [own.stop - own.start])

    query.crew.each(show, map(slice, firsts, [*firsts[1:], len(query)]))
    return shown, top


def _array(values: Embeddings, name: str) -> NDArray[Any]:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    if array.ndim != 2 or array.dtype not in (np.float32, np.float64):
        raise DataError(f"{name}: expected a matrix of float32 or float64, got {array.dtype} {list(array.shape)}")
    return array


def _refuse_not_finite(values: NDArray[Any], name: str, first: int) -> None:
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        column = int(np.argmin(np.isfinite(values[row])))
        raise DataError(f"{name} {first + row} holds {values[row, column]} at {column}; expected finite numbers only")
