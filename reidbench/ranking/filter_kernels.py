"""Compiled loops over the float32 products of ``rank_counts``, whose text says what they compute and why it is exact.

A *strip* is STRIP columns of a chunk, a *group* some columns of a strip; v is the float64 product that decides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reidbench.ranking.exact_kernels import PositiveValues, Top, count_before, dot, dots, insert
from reidbench.utils.arrays import Float32Array, FloatArray, IntArray
from reidbench.utils.compiled import compiled

STRIP = 1024  # columns that are counted at once: they stay in the first-level cache for all positives of a query
DENSE = 32  # with more columns in doubt, v of the whole strip is computed at once, in vector instructions
CAST = 2.0**-22  # widens a float64 threshold for its rounding to float32
LOWEST = np.float32(-np.inf)


class Block(NamedTuple):
    """The filter's product of some queries with one chunk of the gallery.

    Fields:
        rows: the queries.
        first: the gallery column of the chunk's column 0.
        product: [r, n] float32, off by at most ``width[i]`` from ``scale * (v - offset[i])``.
        left: factors of the queries [r, K] float64.
        right: factors of the chunk [n, K] float64.
        offset: left . c of the text of ``rank_counts`` [r] float64.
        scale: the power of two that all products are multiplied by.
        width: the bound of the error [r] float64.
    """

    rows: slice
    first: int
    product: Float32Array
    left: FloatArray
    right: FloatArray
    offset: FloatArray
    scale: float
    width: FloatArray


class Strip(NamedTuple):
    """One query and the items of a strip.

    Fields:
        product: the filter's products [s] float32, infinite for excluded items.
        lowest: the lowest product of each group of columns.
        group: number of columns of a group.
        left: factors of the query [K] float64.
        right: factors of the items [s, K] float64.
    """

    product: Float32Array
    lowest: Float32Array
    group: int
    left: FloatArray
    right: FloatArray


@compiled
def fill(
    rows: FloatArray, centre: FloatArray, added: FloatArray, used: IntArray, scale: FloatArray, out: Float32Array
) -> FloatArray:
    """Write one side of the filter [n, used] to ``out``, and return the norms of its rows [n].

    ``rows`` [n, K] are the factors, ``added`` [n] the last column, ``used`` the columns that are written, and ``scale``
    their powers of two.
    """
    norms = np.empty(rows.shape[0])
    for i in range(rows.shape[0]):
        row, target, total = rows[i], out[i], 0.0
        for c in range(used.shape[0]):
            column = used[c]
            value = row[column] - centre[column] if column < row.shape[0] else added[i]
            target[c] = value * scale[c]
            total += np.float64(target[c]) * np.float64(target[c])
        norms[i] = np.sqrt(total)
    return norms


@compiled
def count(part: Float32Array, low: np.float32, high: np.float32) -> tuple[np.int32, np.int32]:
    """Return how many are below ``low`` and how many are not above ``high``; 32-bit counters fill vector registers."""
    below = np.int32(0)
    within = np.int32(0)
    for e in range(part.shape[0]):
        below = np.int32(below + (part[e] < low))
        within = np.int32(within + (part[e] <= high))
    return below, within


@compiled
def count_groups(strip: Strip, low: np.float32, high: np.float32) -> tuple[np.int64, np.int64]:
    """Return how many products of a strip are below ``low``, and how many from ``low`` to ``high``."""
    below, doubts = np.int64(0), np.int64(0)
    for g in range(strip.lowest.shape[0]):
        if strip.lowest[g] <= high:  # most groups have neither
            surely, within = count(strip.product[g * strip.group : (g + 1) * strip.group], low, high)
            below += surely
            doubts += within - surely
    return below, doubts


@compiled
def settle(strip: Strip, transposed: FloatArray) -> FloatArray:
    """Return v of all items of a strip [s], each sum in the order of ``dot``; excluded ones are infinite.

    ``transposed`` [K, s] holds the factors of the items.
    """
    settled = np.zeros(strip.product.shape[0])
    for k in range(transposed.shape[0]):
        factor, row = strip.left[k], transposed[k]
        for e in range(settled.shape[0]):
            settled[e] += factor * row[e]
    for e in range(settled.shape[0]):
        if strip.product[e] == np.inf:
            settled[e] = np.inf
    return settled


@compiled
def find_open(strip: Strip, low: np.float32, high: np.float32, count: np.int64) -> IntArray:
    """Return the ``count`` columns whose products are from ``low`` to ``high``."""
    columns, found = np.empty(count, dtype=np.int64), 0
    for g in range(strip.lowest.shape[0]):
        if found == count:
            break
        if strip.lowest[g] <= high:
            for e in range(g * strip.group, min((g + 1) * strip.group, strip.product.shape[0])):
                if low <= strip.product[e] <= high:
                    columns[found] = e
                    found += 1
    return columns


@compiled
def count_open(strip: Strip, open_columns: IntArray, value: float, place: int) -> np.int64:
    """Return how many of ``open_columns`` stand before a positive of this value; v settles them, ties before ``place``.

    The positive itself, which may be among them, is none of them: it is no less than its own v.
    """
    values = dots(strip.left, strip.right, open_columns)
    count = np.int64(0)
    for o in range(open_columns.shape[0]):
        count += values[o] < value or (values[o] == value and open_columns[o] < place)
    return count


@compiled
def exclude_columns(block: Block, starts: IntArray, columns: IntArray) -> None:
    """Set the products of ``columns[starts[q]:starts[q + 1]]`` of the gallery to infinity for every query q."""
    for i in range(block.product.shape[0]):
        query = block.rows.start + i
        for m in range(starts[query], starts[query + 1]):
            column = columns[m] - block.first
            if 0 <= column < block.product.shape[1]:
                block.product[i, column] = np.inf


@compiled
def bounds(block: Block, i: int, limit: float) -> tuple[np.float32, np.float32]:
    """Return the products below which an item is surely before one of v ``limit``, and above which it is not; of row i.

    No product comes near 10^30, but a positive of another chunk, or a bound, may lie beyond float32. Excluded items are
    infinite and must stay above.
    """
    threshold = min(max(block.scale * (limit - block.offset[i]), -1e30), 1e30)
    doubt = block.width[i] + CAST * abs(threshold)
    return np.float32(max(threshold - doubt, -1e30)), np.float32(min(threshold + doubt, 1e30))


@compiled
def all_bounds(block: Block, positives: PositiveValues, limits: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Return ``bounds`` of all positives of the block, and raise each row's limit [r] to the highest of them."""
    base = positives.starts[block.rows.start]
    low, high = np.empty((2, positives.starts[block.rows.stop] - base), dtype=np.float32)
    for i in range(limits.shape[0]):
        query = block.rows.start + i
        for m in range(positives.starts[query], positives.starts[query + 1]):
            low[m - base], high[m - base] = bounds(block, i, positives.values[m])
            limits[i] = max(limits[i], high[m - base])
    return low, high


@compiled
def count_block(  # noqa: PLR0917, compiled functions take arrays by position
    block: Block,
    lowest: Float32Array,
    group: int,
    cutoffs: Float32Array,
    positives: PositiveValues,
    before: IntArray,
    top: Top,
) -> None:
    """Count the items of a chunk that stand before each positive of some queries, and list the nearest items.

    ``lowest`` [r, n / group] are the minima of groups of columns of the product. No product above ``cutoffs`` [r] can
    come into the list of a row. After each strip of columns ``before[m]`` has grown by exactly the items of the strip
    that stand before positive m, and the lists hold exactly the nearest items of all strips so far.
    """
    base, length = positives.starts[block.rows.start], top.values.shape[1]
    limits, unsettled = cutoffs.copy(), np.empty(0)
    lows, highs = all_bounds(block, positives, limits)
    for begin in range(0, block.product.shape[1], STRIP):
        end = min(begin + STRIP, block.product.shape[1])
        groups = slice(begin // group, (end + group - 1) // group)
        first, items, transposed = block.first + begin, block.right[begin:end], np.empty((block.right.shape[1], 0))
        for i in range(block.product.shape[0]):
            query, nearest, settled = block.rows.start + i, lowest[i, groups].min(), unsettled
            if nearest > limits[i]:
                continue
            strip = Strip(block.product[i, begin:end], lowest[i, groups], group, block.left[i], items)
            for m in range(positives.starts[query], positives.starts[query + 1]):
                low, high = lows[m - base], highs[m - base]
                if high < nearest:
                    continue
                value, place = positives.values[m], positives.places[m] - first
                below, doubts = count_groups(strip, low, high)
                if doubts > DENSE and settled.shape[0] == 0:
                    if transposed.shape[1] == 0:
                        transposed = np.ascontiguousarray(items.T)
                    settled = settle(strip, transposed)
                if settled.shape[0] > 0:
                    below = count_before(settled, value, place)
                elif doubts > 0:
                    below += count_open(strip, find_open(strip, low, high, doubts), value, place)
                before[m] += below
            high = cutoffs[i]
            if length > 0 and top.values[query, -1] < np.inf:
                high = min(high, bounds(block, i, top.values[query, -1])[1])
            if length == 0 or high < nearest:
                continue
            _, doubts = count_groups(strip, LOWEST, high)
            if doubts > DENSE and settled.shape[0] == 0:
                if transposed.shape[1] == 0:
                    transposed = np.ascontiguousarray(items.T)
                settled = settle(strip, transposed)
            columns = find_open(strip, LOWEST, high, doubts)
            values = settled[columns] if settled.shape[0] > 0 else dots(strip.left, items, columns)
            for o in range(columns.shape[0]):
                if values[o] < top.values[query, -1]:
                    insert(values[o], first + columns[o], top, query)


@compiled
def farthest_values(block: Block) -> FloatArray:
    """Return the largest v of each row of a block [r] float64."""
    values = np.full(block.product.shape[0], -np.inf)
    for i in range(block.product.shape[0]):
        row = block.product[i]
        highest = np.float64(row.max())
        limit = highest - 2 * block.width[i] - CAST * abs(highest)
        for e in range(row.shape[0]):
            if row[e] >= limit:
                values[i] = max(values[i], dot(block.left[i], block.right[e]))
    return values
