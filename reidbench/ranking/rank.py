"""Ranks of all positives of all queries, streamed: the matrix of queries times gallery is never held.

``rank_counts`` counts which item stands before which; here the gallery is read in chunks, the metric gives the factors
of each, and the counts become rankings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench.data.positives_and_exclusions import Positives
from reidbench.errors import DataError
from reidbench.plugins.interfaces import Metric
from reidbench.ranking.checked_metric import CheckedMetric
from reidbench.ranking.exact_kernels import PositiveValues, Top, count_values, insert_values, pair_values
from reidbench.ranking.filter_kernels import Block, exclude_columns, farthest_values
from reidbench.ranking.rank_counts import PIECE, count_closer, visit_blocks
from reidbench.ranking.rankings import Ranking, Rankings
from reidbench.utils.arrays import FloatArray, IntArray, MappedRows, in_memory
from reidbench.utils.threads import Workers, workers

Embeddings = Tensor | NDArray[Any] | MappedRows

CHUNK = 16_384  # gallery rows that are processed at a time
_PAIR_NUMBERS = 2**18  # numbers in the rows whose distances are computed at once: 2 MiB, which stay in the cache
_VALUES = 2_000_000  # distances computed at once, where a metric has no factors: 16 MB


def rank(query: Embeddings, gallery: Embeddings, positives: Positives, metric: Metric, *, top: int = 10) -> Rankings:
    """Return the rankings of every query's positives under a metric, with and without junk.

    ``query`` [nq, D] and ``gallery`` [ng, D] are float32 or float64. The ``top`` nearest items are listed.

    Items are ordered by left . right of ``metric.factors`` in float64, ties in gallery order; by ``metric.distances``
    where a metric has no factors. Neither chunks, blocks nor threads change a rank. Distances are
    ``metric.distances`` in float64. Rows get unit length first where ``metric.normalize`` is set.
    Raises DataError (shapes, dtypes, an embedding that is not finite).
    """
    counts = _Counts(positives, top)
    expected = len(positives.ranked), len(positives.candidates) + len(positives.junk)
    with workers() as crew:
        query_rows, gallery_rows = _check_both(query, gallery, metric, expected, crew)
        left = query_rows.factors("left")
        if left is None:
            in_memory(gallery, query_rows.metric.plugin_item)
            for first, values in _value_blocks(query_rows, gallery_rows):
                counts.add_values(first, values)
        else:
            counts.add_factors(left, gallery_rows)
        return counts.rankings(*_distances(query_rows, gallery_rows, positives, counts.top))


def rank_distances(blocks: Iterable[Tensor | NDArray[Any]], positives: Positives, *, top: int = 10) -> Rankings:
    """Return the rankings of every query's positives by given distances, with and without junk.

    ``blocks`` are rows [r, ng] of distances, float32 or float64, in query order, all queries once, which the
    caller has checked; the rest is as in ``rank``. Ties are in gallery order. Raises DataError (a dtype, a distance
    that is not finite).
    """
    counts = _Counts(positives, top)
    pair_distances = np.empty(len(positives.columns))
    first = 0
    for block in blocks:
        values = _array(block, "distances")
        refuse_not_finite(values, "distances of query", first)
        part = slice(positives.starts[first], positives.starts[first + len(values)])
        pair_distances[part] = counts.add_values(first, values)
        first += len(values)
    return counts.rankings(pair_distances, counts.top.values)


def nearest(query: Embeddings, gallery: Embeddings, metric: Metric, k: int) -> tuple[IntArray, FloatArray]:
    """Return the k nearest gallery rows of each query row, and the value of the farthest one.

    The first is int64 [nq, min(k, ng)], nearest first, in the order of ``rank``; the second, float64 [nq], is the
    largest left . right of ``metric.factors``, or of ``metric.distances`` where the metric has no factors. Shapes,
    dtypes and errors are those of ``rank``.
    """
    top = Top.empty(len(query), min(k, len(gallery)))
    farthest = np.full(len(query), -np.inf)
    no_positives = PositiveValues(np.zeros(len(query) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))

    def visit(block: Block) -> None:
        count_closer(block, no_positives, no_positives.places, top)
        farthest[block.rows] = np.maximum(farthest[block.rows], farthest_values(block))

    with workers() as crew:
        query_rows, gallery_rows = _check_both(query, gallery, metric, (len(query), len(gallery)), crew)
        left = query_rows.factors("left")
        if left is None:
            for first, distances in _value_blocks(query_rows, gallery_rows):
                farthest[first : first + len(distances)] = distances.max(axis=1)
                insert_values(distances, top, first)
        else:
            visit_blocks(left, gallery_rows.chunks(np.arange(len(gallery))), visit, crew)
    return top.columns, farthest


def unit_rows(embeddings: Tensor) -> Tensor:
    """Return rows [n, D] of Euclidean length 1 in the dtype of the input; a row of zeros stays as it is."""
    rows = embeddings.double()  # since the square of a small float32 number may be zero
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return (rows / torch.where(length > 0, length, torch.ones_like(length))).to(embeddings.dtype)


class _Rows:
    """Embeddings as the metric gets them, piece by piece: checked, float64, of unit length where it normalizes."""

    def __init__(self, embeddings: Embeddings, name: str, metric: Metric, expected: int, crew: Workers) -> None:
        self.values = embeddings if isinstance(embeddings, MappedRows) else _array(embeddings, name)
        self.metric, self.crew = metric, crew
        if len(self.values) != expected:
            raise DataError(f"{name}: {len(self.values)} embeddings for {expected} pids; expected one row per unit")
        parts: Iterable[tuple[object, int, int]] = [(f"{name} embeddings", 0, len(self.values))]
        for place, first, last in self.values.parts if isinstance(self.values, MappedRows) else parts:
            for start in range(first, last, PIECE):
                refuse_not_finite(self.values[start : min(start + PIECE, last)], f"{place}: row", start - first)

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

    def chunks(self, rows: IntArray) -> Iterator[FloatArray]:
        """Yield the right factors of the rows, ``CHUNK`` rows at a time."""
        for start in range(0, len(rows), CHUNK):
            right = self.factors("right", rows[start : start + CHUNK])
            assert right is not None  # the left factors of the same metric were there
            yield right


def _check_both(
    query: Embeddings, gallery: Embeddings, metric: Metric, expected: tuple[int, int], crew: Workers
) -> tuple[_Rows, _Rows]:
    """Return the rows of a query and a gallery, which must have the ``expected`` numbers of rows.

    All results of the metric are checked from here on, since compiled loops read them.
    """
    metric = metric if isinstance(metric, CheckedMetric) else CheckedMetric(metric)
    sides = _Rows(query, "query", metric, expected[0], crew), _Rows(gallery, "gallery", metric, expected[1], crew)
    dimensions = [side.values.shape[1] for side in sides]
    if dimensions[0] != dimensions[1]:
        raise DataError(f"query embeddings have {dimensions[0]} dimensions, gallery embeddings {dimensions[1]}")
    return sides


class _Counts:
    """The counts of all positives [m], and the lists of the nearest items.

    Fields:
        positives: of all queries.
        closer: how many of ``positives.candidates`` stand before each positive [m] int64.
        closer_junk: how many of ``positives.junk`` do [m] int64.
        junk_places: before which of ``positives.junk`` each positive comes in gallery order [m] int64.
        top: the nearest candidates of each query.
    """

    def __init__(self, positives: Positives, top: int) -> None:
        self.positives = positives
        self.junk_places = np.searchsorted(positives.junk, positives.units)
        self.closer, self.closer_junk = np.zeros((2, len(positives.columns)), dtype=np.int64)
        self.top = Top.empty(len(positives.ranked), top)

    def add_factors(self, left: FloatArray, gallery: _Rows) -> None:
        """Count by the queries' factors [nq, K]: first v of every positive, then all items against these values."""
        positives, queries, values = self.positives, self.positives.queries, np.empty(len(self.closer))
        needed, columns = np.unique(positives.columns, return_inverse=True)
        for number, right in enumerate(gallery.chunks(positives.candidates[needed])):
            here = np.flatnonzero(columns // CHUNK == number)
            values[here] = pair_values(left, right, queries[here], columns[here] - number * CHUNK)
        excluded = positives.starts_of(positives.excluded), positives.columns[positives.excluded]
        among_candidates = PositiveValues(positives.starts, positives.columns, values)
        among_junk, no_lists = among_candidates._replace(places=self.junk_places), Top.empty(len(left), 0)

        def count(block: Block) -> None:
            exclude_columns(block, *excluded)
            count_closer(block, among_candidates, self.closer, self.top)

        def count_junk(block: Block) -> None:
            count_closer(block, among_junk, self.closer_junk, no_lists)

        visit_blocks(left, gallery.chunks(positives.candidates), count, gallery.crew)
        visit_blocks(left, gallery.chunks(positives.junk), count_junk, gallery.crew)

    def add_values(self, first: int, values: NDArray[Any]) -> FloatArray:
        """Count by distances [r, ng] of the queries from ``first`` on; return those of their positives."""
        positives, last = self.positives, first + len(values)
        own, starts = slice(positives.starts[first], positives.starts[last]), positives.starts[first : last + 1]
        rows = np.repeat(np.arange(len(values)), np.diff(starts))
        columns, excluded = positives.columns[own], positives.excluded[own]
        candidates, junk = (values[:, units].astype(np.float64) for units in (positives.candidates, positives.junk))
        limits = candidates[rows, columns]
        candidates[rows[excluded], columns[excluded]] = np.inf
        among_candidates = PositiveValues(starts - own.start, columns, limits)
        among_junk = among_candidates._replace(places=self.junk_places[own])
        count_values(candidates, among_candidates, self.closer[own])
        count_values(junk, among_junk, self.closer_junk[own])
        insert_values(candidates, self.top, first)
        return limits

    def rankings(self, distances: FloatArray, top_distances: FloatArray) -> Rankings:
        """Return the rankings that follow from the counts and the distances of positives [m] and of ``top`` [nq, k]."""
        positives, columns = self.positives, self.top.columns
        # Excluded positives do not count each other, so several may share a rank: the closer one comes first.
        order = np.lexsort((distances, positives.queries * (len(positives.candidates) + 1) + self.closer))
        excluded = positives.excluded[order]
        units, ranks, junk = positives.units[order], self.closer[order], self.closer_junk[order]
        top = np.full(columns.shape, -1, dtype=np.int64)
        top[columns >= 0] = positives.candidates[columns[columns >= 0]]
        ranking = Ranking(
            starts=positives.starts_of(~positives.excluded),
            units=units[~excluded],
            ranks=ranks[~excluded],
            distances=distances[order][~excluded],
            same_camera_starts=positives.starts_of(positives.excluded),
            same_camera_units=units[excluded],
            same_camera_ranks=ranks[excluded],
            ranked=positives.ranked,
            top=top,
            top_distances=top_distances,
        )
        with_junk = replace(
            ranking,
            ranks=ranking.ranks + junk[~excluded],
            same_camera_ranks=ranking.same_camera_ranks + junk[excluded],
            ranked=ranking.ranked + len(positives.junk),
            top=top[:, :0],
            top_distances=top_distances[:, :0],
        )
        return Rankings(ranking, with_junk)


def _value_blocks(query: _Rows, gallery: _Rows) -> Iterator[tuple[int, FloatArray]]:
    """Yield the first query and the distances [r, ng] of blocks of queries, for a metric without factors."""
    size = max(1, _VALUES // max(len(gallery), 1))
    units = gallery.take(slice(None))
    for first in range(0, len(query), size):
        values = query.metric.distances(query.take(slice(first, first + size)), units)
        block = np.array(values.detach().cpu().numpy(), dtype=np.float64, order="C")
        refuse_not_finite(block, "the metric's distances of query", first)
        yield first, block


def _distances(query: _Rows, gallery: _Rows, positives: Positives, top: Top) -> tuple[FloatArray, FloatArray]:
    """Return the metric's distances in float64 of all positives [m] and of the nearest items [nq, k].

    The latter are inf where there are fewer items.
    """
    distances, top_distances = np.empty(len(positives.columns)), np.full(top.columns.shape, np.inf)
    queries, listed = positives.queries, top.columns >= 0
    # Blocks of queries with about as many pairs each, so that a thread's memory is bounded.
    before = positives.starts[:-1] + listed.sum(axis=1).cumsum() - listed.sum(axis=1)
    firsts = np.flatnonzero(np.diff(before // max(1, _PAIR_NUMBERS // query.values.shape[1]), prepend=-1)).tolist()

    def measure(block: slice) -> None:
        own = slice(positives.starts[block.start], positives.starts[block.stop])
        rows = np.concatenate([queries[own] - block.start, np.nonzero(listed[block])[0]])
        columns = np.concatenate([positives.columns[own], top.columns[block][listed[block]]])
        columns, places = np.unique(columns, return_inverse=True)
        sides = query.take(block), gallery.take(positives.candidates[columns])
        pairs = query.metric.pair_distances(*sides, torch.from_numpy(rows), torch.from_numpy(places))
        values = pairs.detach().cpu().numpy()
        distances[own], top_distances[block][listed[block]] = np.split(values, [own.stop - own.start])

    query.crew.each(measure, map(slice, firsts, [*firsts[1:], len(query)]))
    return distances, top_distances


def _array(values: Tensor | NDArray[Any], name: str) -> NDArray[Any]:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    if array.ndim != 2 or array.dtype not in (np.float32, np.float64):
        raise DataError(f"{name}: expected a matrix of float32 or float64, got {array.dtype} {list(array.shape)}")
    return array


def refuse_not_finite(values: NDArray[Any], name: str, first: int) -> None:
    """Raise DataError, naming row and column, where a number is not finite; row 0 is number ``first``."""
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        column = int(np.argmin(np.isfinite(values[row])))
        raise DataError(f"{name} {first + row} holds {values[row, column]} at {column}; expected finite numbers only")
