"""Count the items that stand before each positive without sorting: float32 products filter, float64 decides.

The order of a query's gallery is that of v(q, g) = sum of left[q, k] * right[g, k], summed in float64 in the order of
k; items of equal v are in gallery order. So a rank depends on the two rows' values alone, whatever the blocks.

The filter. For any vectors m and c, left . right = (left - m) . (right - c) + m . (right - c) + left . c, and the last
term is the same for the whole gallery of a query. With m and c near the means the first two terms are small even
where all embeddings are far from the origin. They are one product of K + 1 columns (the second term is a column whose
left side is 1), scaled column by column by powers of two, which are exact, so that nothing over- or underflows, and
computed in float32. Constant left columns vanish.

The bound. Let u = 2^-24 and w = 2^-53. Casting both sides to float32 and adding n = K + 1 products in any order, fused
or not, is off by at most (n + 2) u / (1 - (n + 2) u) * |left'| |right'| with the Euclidean norms of the filter's own
rows, plus what underflow can take, less than n * 2^-120 as no entry exceeds 1. Everything in float64 (the centring,
the added column, left . c and v itself) is off by less than 8 (K + 8) (w * M + 2^-1022), where M, the sum over k of
max |left_k| * max |right_k|, bounds every sum of absolute products in the chunk. A positive's v, as computed, is what
it is compared by, so it has no error here; its threshold, v less left . c, is widened by both bounds, and by 2^-22 of
itself for its own rounding. That separates what is surely closer and surely farther than the positive; the items
between are settled by v. The factor 1.01 covers the rounding of the bounds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import numpy as np

from reidbench.errors import DataError
from reidbench.ranking import filter_kernels as kernels
from reidbench.ranking.exact_kernels import PositiveValues, Top
from reidbench.ranking.filter_kernels import Block
from reidbench.utils.arrays import Float32Array, FloatArray, IntArray
from reidbench.utils.threads import Workers

ROWS = 256  # queries of a block at most; its product with a chunk of 16,384 takes 16 MiB, which is reused
PIECE = 1_024  # gallery rows that are prepared at once, so that they stay in the cache
GROUPS = (256, 64, 16)  # sizes of groups of columns whose lowest product is looked at first; each divides a strip
ABOVE_ALL = 1e30  # above every product, below the infinity of excluded items
_LARGEST = 1e300


def count_closer(block: Block, positives: PositiveValues, before: IntArray, top: Top) -> None:
    """Add to ``before`` [m] how many items of a block's chunk stand before each positive, and update ``top``."""
    length, columns = top.values.shape[1], block.product.shape[1]
    group = next(size for size in GROUPS if columns >= 4 * size * length or size == GROUPS[-1])
    lowest = np.minimum.reduceat(block.product, np.arange(0, columns, group), axis=1)
    kernels.count_block(block, lowest, group, _cutoffs(block, lowest, length), positives, before, top)


def _cutoffs(block: Block, lowest: Float32Array, length: int) -> Float32Array:
    """Return for each row [r] a value that no product of its ``length`` nearest items exceeds.

    The lowest of ``length`` groups are that many items, so the nearest ones lie below the largest of the lowest,
    give or take the bound of both.
    """
    if not 0 < length <= lowest.shape[1]:
        return np.full(len(lowest), ABOVE_ALL, dtype=np.float32)
    cut = np.partition(lowest, length - 1, axis=1)[:, length - 1].astype(np.float64)
    return np.minimum(cut + 2 * block.width + kernels.CAST * np.abs(cut), ABOVE_ALL).astype(np.float32)


def visit_blocks(left: FloatArray, chunks: Iterable[FloatArray], visit: Callable[[Block], None], crew: Workers) -> None:
    """Call ``visit`` with all blocks of ``left`` [nq, K] and the gallery, whose factors [n, K] come in gallery order.

    The crew visits the blocks of a chunk at the same time, each with rows of its own, and the chunks one by one. A
    block's product is overwritten afterwards. Raises DataError where values are so large that v could overflow.
    """
    if len(left) == 0:
        return
    queries, first = _Queries(left), 0
    for right in chunks:
        _visit_chunk(queries, right, first, visit, crew)
        first += len(right)


class _Queries:
    """What all chunks share: the left side of the filter before it is scaled, and memory for products."""

    def __init__(self, left: FloatArray) -> None:
        self.rows, self.ones, self.buffer = left, np.ones(len(left)), _Buffer()
        low, high = left.min(axis=0), left.max(axis=0)
        self.reach = np.maximum(np.abs(low), np.abs(high))
        largest_sum(self.reach, np.zeros_like(self.reach))
        self.centre = left.mean(axis=0)
        self.spread = np.append(np.maximum(high - self.centre, self.centre - low), 1.0)


def _visit_chunk(
    queries: _Queries, right: FloatArray, first: int, visit: Callable[[Block], None], crew: Workers
) -> None:
    """Call ``visit`` with all blocks of the queries and a chunk ``right`` [n, K] that begins at column ``first``."""
    low, high, centre, projected = _survey(right, queries.centre, crew)
    magnitude = largest_sum(queries.reach, np.maximum(np.abs(low), np.abs(high)))
    added = projected - centre @ queries.centre
    spread = np.append(np.maximum(high - centre, centre - low), np.abs(added).max())
    used, left_power, right_power, scale = column_powers(queries.spread, spread)
    filter_left, left_norms = _filter_side(queries.rows, queries.centre, queries.ones, used, left_power, crew)
    filter_right, right_norms = _filter_side(right, centre, added, used, right_power, crew)
    offset = queries.rows @ centre
    width = _error_bound(len(used), len(centre), magnitude, scale, left_norms * right_norms.max())

    def visit_rows(rows: slice) -> None:
        product = queries.buffer.matrix(rows.stop - rows.start, len(right))
        np.matmul(filter_left[rows], filter_right.T, out=product)
        visit(Block(rows, first, product, queries.rows[rows], right, offset[rows], scale, width[rows]))

    crew.each(visit_rows, _row_parts(len(queries.rows), crew.count))


def _survey(
    right: FloatArray, centre: FloatArray, crew: Workers
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the lowest, highest and mean value of each column [K] of ``right`` [n, K], and right . centre [n]."""
    pieces, projected = _pieces(len(right)), np.empty(len(right))
    parts = np.empty((3, len(pieces), right.shape[1]))

    def survey(number: int) -> None:
        piece = right[pieces[number]]
        with np.errstate(over="ignore", invalid="ignore"):  # sums that leave float64 are refused by largest_sum
            parts[:, number] = piece.min(axis=0), piece.max(axis=0), piece.sum(axis=0)
            projected[pieces[number]] = piece @ centre

    crew.each(survey, range(len(pieces)))
    with np.errstate(over="ignore", invalid="ignore"):
        return parts[0].min(axis=0), parts[1].max(axis=0), parts[2].sum(axis=0) / len(right), projected


def _filter_side(
    rows: FloatArray, centre: FloatArray, added: FloatArray, used: IntArray, power: IntArray, crew: Workers
) -> tuple[Float32Array, FloatArray]:
    """Return one side of the filter [n, len(used)], the last column being ``added`` [n], and the norms of its rows."""
    side, norms, scale = np.empty((len(rows), len(used)), dtype=np.float32), np.empty(len(rows)), np.ldexp(1.0, power)

    def fill(piece: slice) -> None:
        norms[piece] = kernels.fill(rows[piece], centre, added[piece], used, scale, side[piece])

    crew.each(fill, _pieces(len(rows)))
    return side, norms


def _error_bound(used: int, dimensions: int, magnitude: float, scale: float, norms: FloatArray) -> FloatArray:
    """Return by how much each query's products [nq] can be off: the bound of the module's text, term by term.

    ``used`` is n, ``dimensions`` K, ``magnitude`` M, and ``norms`` [nq] are |left'| |right'|.
    """
    terms = used + 2
    in_float32 = 1.01 * terms * 2.0**-24 / (1 - terms * 2.0**-24)
    in_float64 = 8 * (dimensions + 8) * (2.0**-53 * magnitude + 2.0**-1022)
    return in_float32 * norms + 1.01 * (in_float64 * scale + terms * 2.0**-120)


class _Buffer(threading.local):
    """Memory for one product in each thread."""

    memory: Float32Array = np.empty(0, dtype=np.float32)

    def matrix(self, rows: int, columns: int) -> Float32Array:
        """Return a matrix [rows, columns] in this memory."""
        if len(self.memory) < rows * columns:
            self.memory = np.empty(rows * columns, dtype=np.float32)
        return self.memory[: rows * columns].reshape(rows, columns)


def _pieces(count: int) -> list[slice]:
    return [slice(start, start + PIECE) for start in range(0, count, PIECE)]


def _row_parts(count: int, threads: int) -> list[slice]:
    """Return rows cut into equal parts of at most ``ROWS``, as many for each thread."""
    parts = -(-count // (ROWS * threads)) * threads
    size = -(-count // parts)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def largest_sum(left_reach: FloatArray, right_reach: FloatArray) -> float:
    """Return the largest possible sum of absolute products; raises DataError where sums could leave float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        magnitude = float(left_reach @ right_reach)
    if not np.max([magnitude, left_reach.max(), right_reach.max()]) < _LARGEST:
        raise DataError("the embeddings are too large: their products reach 1e300; divide all of them by one constant")
    return magnitude


def column_powers(left_spread: FloatArray, right_spread: FloatArray) -> tuple[IntArray, IntArray, IntArray, float]:
    """Return the columns that are not constant, powers of two that bring their sides to 1 at most, and the scale.

    Both sides of a column get the same size, so that neither leaves float32.
    """
    used = np.flatnonzero((left_spread > 0) & (right_spread > 0))
    if len(used) == 0:
        return used, used, used, 1.0
    left_exponent, right_exponent = (np.frexp(side[used])[1].astype(np.int64) for side in (left_spread, right_spread))
    # The limits keep the powers themselves within float64; beyond them float32 underflows, which the bound covers.
    shift = np.clip((right_exponent - left_exponent) // 2, -500, 500)
    common = max(int(np.maximum(left_exponent + shift, right_exponent - shift).max()), -400)
    return used, shift - common, -shift - common, float(np.ldexp(1.0, -2 * common))
