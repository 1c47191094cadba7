"""Counts what stands before each match of a query, without sorting: a float32 product filters, float64 decides.

The order of a query's gallery is that of v(q, g) = sum of left[q, k] * right[g, k], summed in float64 in the order of
k, and equal values stand in gallery order. So a rank is a function of the two rows' values alone, whatever the blocks.

The filter. For any vectors m and c, left . right = (left - m) . (right - c) + m . (right - c) + left . c, and the last
term is the same for the whole gallery of a query. With m and c near the means the first two terms are small even
where all embeddings are far from the origin. They are one product of K + 1 columns (the second term is a column whose
left side is 1), scaled column by column by powers of two, which are exact, so that nothing over- or underflows, and
computed in float32. All constant left columns vanish.

The bound. Let u = 2^-24 and w = 2^-53. Casting both sides to float32 and adding n = K + 1 products in any order, fused
or not, is off by at most (n + 2) u / (1 - (n + 2) u) * |left'| |right'| with the Euclidean norms of the filter's own
rows, plus what underflow can take, less than n * 2^-120 as no entry exceeds 1. Everything in float64 (the centring,
the added column, left . c and v itself) is off by less than 8 (K + 8) (w * M + 2^-1022), where M, the sum over k of
max |left_k| * max |right_k|, bounds every sum of absolute products in the chunk. A match's v, as computed, is what it
is compared by, so it has no error here; its threshold, v less left . c, is widened by both bounds, and by 2^-22 of
itself for its own rounding. That separates what is surely closer and surely farther than the match; what is left
between is settled by v. The factor 1.01 covers the rounding of the bounds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from reidbench.errors import DataError
from reidbench.ranking import rank_kernels as kernels
from reidbench.utils.arrays import Float32Array, FloatArray, IntArray
from reidbench.utils.threads import Workers

ROWS = 256  # queries in a block at most; its product with a chunk of 16,384 takes 16 MiB, which is reused
PIECE = 1_024  # gallery rows that are prepared at once: what is made of them stays in the cache
GROUPS = (256, 64, 16)  # columns whose lowest product says whether any of them counts; each divides a strip
ABOVE_ALL = 1e30  # above every product, below the infinity of what is hidden
_LARGEST = 1e300


@dataclass(frozen=True, eq=False)
class Block:
    """The filter's product of some queries with one chunk of the gallery, and what is needed to settle its doubts.

    ``product`` [r, n] float32 is off by at most ``width[i]`` from ``scale * (v - offset[i])``;
    ``left`` [r, K] and ``right`` [n, K] are the float64 factors; column 0 is column ``first`` of the gallery.
    """

    rows: slice
    first: int
    product: Float32Array
    left: FloatArray
    right: FloatArray
    offset: FloatArray
    scale: float
    width: FloatArray

    def hide(self, starts: IntArray, columns: IntArray) -> None:
        """Take ``columns[starts[q]:starts[q + 1]]`` out of every query's gallery."""
        kernels.hide(self.product, self.first, starts[self.rows.start : self.rows.stop + 1], columns)

    def visit(
        self,
        starts: IntArray,
        columns: IntArray,
        values: FloatArray,
        before: IntArray,
        top: Top,
        *,
        contained: bool = True,
    ) -> None:
        """Add to ``before`` what stands before each match, and put what is close enough into ``top``.

        The matches of query q are ``columns[starts[q]:starts[q + 1]]`` with their ``values`` v; where they are not
        ``contained`` in the gallery, the columns say before which of its items they stand.
        """
        lists = (top.values[self.rows], top.columns[self.rows])
        length, columns_here = lists[0].shape[1], self.product.shape[1]
        group = next(size for size in GROUPS if columns_here >= 4 * size * length or size == GROUPS[-1])
        lowest = np.minimum.reduceat(self.product, np.arange(0, columns_here, group), axis=1)
        kernels.visit(
            self.product,
            lowest,
            group,
            self.first,
            self.left,
            self.right,
            self.offset,
            self.scale,
            self.width,
            starts[self.rows.start : self.rows.stop + 1],
            columns,
            contained,
            values,
            before,
            *lists,
            self._cutoffs(lowest, length),
        )

    def _cutoffs(self, lowest: Float32Array, length: int) -> Float32Array:
        """Return for each row a value [r] that no product of its ``length`` closest items exceeds.

        The lowest of ``length`` groups are that many items; so the closest ones lie below the largest of the lowest,
        give or take the bound of both.
        """
        if not 0 < length <= lowest.shape[1]:
            return np.full(len(lowest), ABOVE_ALL, dtype=np.float32)
        cut = np.partition(lowest, length - 1, axis=1)[:, length - 1].astype(np.float64)
        cutoffs: Float32Array = np.minimum(cut + 2 * self.width + kernels.CAST * np.abs(cut), ABOVE_ALL).astype(
            np.float32
        )
        return cutoffs

    def farthest(self) -> FloatArray:
        """Return the largest v of each row [r]."""
        return kernels.farthest(self.product, self.left, self.right, self.width)


@dataclass(frozen=True, eq=False)
class Top:
    """The closest items so far, best first: ``columns`` and ``values`` [n, k], -1 and inf where there are fewer."""

    columns: IntArray
    values: FloatArray

    @classmethod
    def empty(cls, queries: int, length: int) -> Top:
        """Return lists without an item."""
        return cls(np.full((queries, length), -1, dtype=np.int64), np.full((queries, length), np.inf))


def walk(left: FloatArray, chunks: Iterable[FloatArray], visit: Callable[[Block], None], crew: Workers) -> None:
    """Show ``visit`` all blocks of ``left`` [nq, K] against the gallery, whose factors [n, K] come in gallery order.

    The crew visits blocks with rows of their own at once, a chunk after the one before it.
    A block's product is overwritten afterwards. Raises DataError where values are so large that v could overflow.
    """
    if len(left) == 0:
        return
    queries, buffer = _Queries(left), _Buffer()
    first = 0
    for right in chunks:
        chunk = _Chunk(queries, right, first, crew)

        def visit_rows(rows: slice, chunk: _Chunk = chunk) -> None:
            visit(chunk.block(rows, buffer))

        crew.each(visit_rows, _parts(len(left), crew.count))
        first += len(right)


class _Queries:
    """The left side of the filter before it is scaled, which all chunks share."""

    def __init__(self, left: FloatArray) -> None:
        self.rows, self.ones = left, np.ones(len(left))
        low, high = left.min(axis=0), left.max(axis=0)
        self.reach = np.maximum(np.abs(low), np.abs(high))
        magnitude_of(self.reach, np.zeros_like(self.reach))
        self.centre = left.mean(axis=0)
        self.spread = np.append(np.maximum(high - self.centre, self.centre - low), 1.0)


class _Chunk:
    """The filter of all queries and one chunk of the gallery, whose first column is ``first``."""

    def __init__(self, queries: _Queries, right: FloatArray, first: int, crew: Workers) -> None:
        self.left, self.right, self.first = queries.rows, right, first
        pieces = [slice(start, start + PIECE) for start in range(0, len(right), PIECE)]
        extremes, projected = np.empty((3, len(pieces), right.shape[1])), np.empty(len(right))

        def survey(number: int) -> None:
            piece = right[pieces[number]]
            with np.errstate(over="ignore", invalid="ignore"):  # sums that leave float64 are refused below
                extremes[:, number] = piece.min(axis=0), piece.max(axis=0), piece.sum(axis=0)

        def project(own: slice) -> None:
            projected[own] = right[own] @ queries.centre

        crew.each(survey, range(len(pieces)))
        low, high = extremes[0].min(axis=0), extremes[1].max(axis=0)
        magnitude = magnitude_of(queries.reach, np.maximum(np.abs(low), np.abs(high)))
        centre = extremes[2].sum(axis=0) / len(right)
        crew.each(project, pieces)
        added = projected - centre @ queries.centre
        spread = np.append(np.maximum(high - centre, centre - low), np.abs(added).max())
        used, left_power, right_power, self.scale = powers(queries.spread, spread)
        self.filter_left, left_norms = _side(queries.rows, queries.centre, queries.ones, used, left_power, crew)
        self.filter_right, right_norms = _side(right, centre, added, used, right_power, crew)
        terms = len(used) + 2
        error = 1.01 * terms * 2.0**-24 / (1 - terms * 2.0**-24)
        in_float64 = 8 * (len(centre) + 8) * (2.0**-53 * magnitude + 2.0**-1022)
        floor = 1.01 * (in_float64 * self.scale + terms * 2.0**-120)
        self.width = error * left_norms * right_norms.max() + floor
        self.offset = self.left @ centre

    def block(self, rows: slice, buffer: _Buffer) -> Block:
        product = buffer.matrix(rows.stop - rows.start, len(self.right))
        np.matmul(self.filter_left[rows], self.filter_right.T, out=product)
        bound = (self.offset[rows], self.scale, self.width[rows])
        return Block(rows, self.first, product, self.left[rows], self.right, *bound)


def _side(
    rows: FloatArray, centre: FloatArray, added: FloatArray, used: IntArray, power: IntArray, crew: Workers
) -> tuple[Float32Array, FloatArray]:
    """Return one side of the filter [n, len(used)], the last column being ``added`` [n], and the norms of its rows."""
    side, norms, scale = np.empty((len(rows), len(used)), dtype=np.float32), np.empty(len(rows)), np.ldexp(1.0, power)

    def fill(start: int) -> None:
        own = slice(start, start + PIECE)
        norms[own] = kernels.fill(rows[own], centre, added[own], used, scale, side[own])

    crew.each(fill, range(0, len(rows), PIECE))
    return side, norms


class _Buffer(threading.local):
    """Memory for one product, each thread's own."""

    memory: Float32Array = np.empty(0, dtype=np.float32)

    def matrix(self, rows: int, columns: int) -> Float32Array:
        if len(self.memory) < rows * columns:
            self.memory = np.empty(rows * columns, dtype=np.float32)
        return self.memory[: rows * columns].reshape(rows, columns)


def _parts(count: int, threads: int) -> list[slice]:
    """Cut rows into equal parts of at most ``ROWS``, as many for each thread."""
    parts = -(-count // (ROWS * threads)) * threads
    size = -(-count // parts)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def magnitude_of(left_reach: FloatArray, right_reach: FloatArray) -> float:
    """Return the largest possible sum of absolute products; raises DataError where sums could leave float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        magnitude = float(left_reach @ right_reach)
    if not np.max([magnitude, left_reach.max(), right_reach.max()]) < _LARGEST:
        raise DataError(
            "the embeddings are too large to be ranked, their products leave float64; "
            "expected products below 1e300, so divide all embeddings by one constant"
        )
    return magnitude


def powers(left_spread: FloatArray, right_spread: FloatArray) -> tuple[IntArray, IntArray, IntArray, float]:
    """Return the columns that count, powers of two that bring both sides of each to 1 at most, and their product.

    Both sides of a column get the same size, so that neither the one nor the other leaves float32.
    """
    used = np.flatnonzero((left_spread > 0) & (right_spread > 0))
    if len(used) == 0:
        return used, used, used, 1.0
    left_exponent, right_exponent = (np.frexp(side[used])[1].astype(np.int64) for side in (left_spread, right_spread))
    # The limits keep the powers themselves within float64; beyond them float32 underflows, which the bound covers.
    shift = np.clip((right_exponent - left_exponent) // 2, -500, 500)
    common = max(int(np.maximum(left_exponent + shift, right_exponent - shift).max()), -400)
    return used, shift - common, -shift - common, float(np.ldexp(1.0, -2 * common))
