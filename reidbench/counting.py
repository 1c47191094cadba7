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

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from reidbench import kernels
from reidbench.errors import DataError
from reidbench.kernels import STRIP, Float32Array
from reidbench.values import FloatArray, IntArray

ROWS = 256  # queries in a block; its product with a chunk of 16,384 takes 16 MiB, which is reused
GROUPS = (256, 64, 16)  # columns whose lowest product says whether any of them counts; each divides a strip
ABOVE_ALL = 1e30  # above every product, below the infinity of what is hidden
_LARGEST = 1e300


@dataclass(frozen=True, eq=False)
class Block:
    """The filter's product of some queries with one chunk of the gallery, and what is needed to settle its doubts.

    ``product`` [r, n] float32 is off by at most ``slope[i] * reach[strip] + floor`` from ``scale * (v - offset[i])``;
    ``left`` [r, K] and ``right`` [n, K] are the float64 factors; column 0 is column ``first`` of the gallery.
    """

    rows: slice
    first: int
    product: Float32Array
    left: FloatArray
    right: FloatArray
    offset: FloatArray
    scale: float
    slope: FloatArray
    reach: FloatArray
    floor: float

    def hide(self, starts: IntArray, columns: IntArray) -> None:
        """Take ``columns[starts[q]:starts[q + 1]]`` out of every query's gallery."""
        kernels.hide(self.product, self.first, starts[self.rows.start : self.rows.stop + 1], columns)

    def visit(self, starts: IntArray, columns: IntArray, values: FloatArray, before: IntArray, top: Top) -> None:
        """Add to ``before`` what stands before each match, and put what is close enough into ``top``.

        The matches of query q are ``columns[starts[q]:starts[q + 1]]`` with their ``values`` v.
        """
        lists = (top.values[self.rows], top.columns[self.rows])
        length, columns_here = lists[0].shape[1], self.product.shape[1]
        group = next(size for size in GROUPS if columns_here >= 4 * size * length or size == GROUPS[-1])
        lowest = np.minimum.reduceat(self.product, np.arange(0, columns_here, group), axis=1)
        bound = (self.offset, self.scale, self.slope, self.reach, self.floor)
        kernels.visit(
            self.product,
            lowest,
            group,
            self.first,
            self.left,
            self.right,
            *bound,
            starts[self.rows.start : self.rows.stop + 1],
            columns,
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
        width = self.slope * self.reach.max() + self.floor
        cutoffs: Float32Array = np.minimum(cut + 2 * width + kernels.CAST * np.abs(cut), ABOVE_ALL).astype(np.float32)
        return cutoffs

    def farthest(self) -> FloatArray:
        """Return the largest v of each row [r]."""
        width = self.slope * self.reach.max() + self.floor
        return kernels.farthest(self.product, self.left, self.right, width)


@dataclass(frozen=True, eq=False)
class Top:
    """The closest items so far, best first: ``columns`` and ``values`` [n, k], -1 and inf where there are fewer."""

    columns: IntArray
    values: FloatArray

    @classmethod
    def empty(cls, queries: int, length: int) -> Top:
        """Return lists without an item."""
        return cls(np.full((queries, length), -1, dtype=np.int64), np.full((queries, length), np.inf))


def stream(left: FloatArray, chunks: Iterable[FloatArray]) -> Iterator[Block]:
    """Yield the blocks of ``left`` [nq, K] against the gallery, whose factors [n, K] come in chunks, in gallery order.

    The product of a block is overwritten by the next one. Raises DataError where values are so large that v could
    overflow.
    """
    if len(left) == 0:
        return
    left_reach = np.abs(left).max(axis=0)
    _magnitude(left_reach, np.zeros_like(left_reach))
    left_centre = left.mean(axis=0)
    centred = np.column_stack([left - left_centre, np.ones(len(left))])
    left_spread = np.abs(centred).max(axis=0)
    buffer = np.empty(0, dtype=np.float32)
    first = 0
    for right in chunks:
        low, high = right.min(axis=0), right.max(axis=0)
        magnitude = _magnitude(left_reach, np.maximum(np.abs(low), np.abs(high)))
        centre = right.mean(axis=0)
        added = right @ left_centre - centre @ left_centre
        spread = np.append(np.maximum(high - centre, centre - low), np.abs(added).max())
        used, left_power, right_power, scale = _powers(left_spread, spread)
        filter_left = np.ldexp(centred[:, used], left_power).astype(np.float32)
        filter_right = np.empty((len(right), len(used)), dtype=np.float32)
        norms = kernels.centre(right, centre, added, used, np.ldexp(1.0, right_power), filter_right)
        terms = len(used) + 2
        slope = (
            1.01 * terms * 2.0**-24 / (1 - terms * 2.0**-24) * np.linalg.norm(filter_left.astype(np.float64), axis=1)
        )
        in_float64 = 8 * (len(centre) + 8) * (2.0**-53 * magnitude + 2.0**-1022)
        floor = 1.01 * (in_float64 * scale + terms * 2.0**-120)
        strips = np.maximum.reduceat(norms, np.arange(0, len(norms), STRIP))
        offset = left @ centre
        for start in range(0, len(left), ROWS):
            rows = slice(start, min(start + ROWS, len(left)))
            size = (rows.stop - start) * len(right)
            if len(buffer) < size:
                buffer = np.empty(size, dtype=np.float32)
            product = buffer[:size].reshape(rows.stop - start, len(right))
            np.matmul(filter_left[rows], filter_right.T, out=product)
            yield Block(rows, first, product, left[rows], right, offset[rows], scale, slope[rows], strips, floor)
        first += len(right)


def _magnitude(left_reach: FloatArray, right_reach: FloatArray) -> float:
    """Return the largest possible sum of absolute products; raises DataError where sums could leave float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        magnitude = float(left_reach @ right_reach)
    if not np.max([magnitude, left_reach.max(), right_reach.max()]) < _LARGEST:
        raise DataError(
            "the embeddings are too large to be ranked, their products leave float64; "
            "expected products below 1e300, so divide all embeddings by one constant"
        )
    return magnitude


def _powers(left_spread: FloatArray, right_spread: FloatArray) -> tuple[IntArray, IntArray, IntArray, float]:
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
