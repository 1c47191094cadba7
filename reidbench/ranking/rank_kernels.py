"""The compiled loops of ``rank_counts``, whose text says what they compute and why it is exact.

A *strip* is STRIP columns of a chunk, a *group* some columns of a strip; v is the float64 product that decides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reidbench.ranking.value_kernels import count_before, dot, dots, insert
from reidbench.utils.arrays import Float32Array, FloatArray, IntArray
from reidbench.utils.compiled import compiled

STRIP = 1024  # columns that are counted at once: they stay in the first-level cache for all positives of a query
DENSE = 32  # with more columns in doubt, v of the whole strip is computed at once, in vector instructions
CAST = 2.0**-22  # widens a float64 threshold for its rounding to float32


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
def settle(strip: Strip, begin: int, transposed: FloatArray, transposed_strip: IntArray, settled: FloatArray) -> None:
    """Write v of all items of a strip to ``settled`` [s], each sum in the order of ``dot``; excluded ones are infinite.

    ``transposed`` [K, STRIP] holds the factors of the strip that begins at ``transposed_strip`` [1]; this one begins
    at ``begin``.
    """
    product, right = strip.product, strip.right
    if transposed_strip[0] != begin:
        transposed_strip[0] = begin
        for e in range(right.shape[0]):
            for k in range(right.shape[1]):
                transposed[k, e] = right[e, k]
    for e in range(product.shape[0]):
        settled[e] = 0.0
    for k in range(right.shape[1]):
        factor, row = strip.left[k], transposed[k]
        for e in range(product.shape[0]):
            settled[e] += factor * row[e]
    for e in range(product.shape[0]):
        if product[e] == np.inf:
            settled[e] = np.inf


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
def find_open(strip: Strip, low: np.float32, high: np.float32, own: int, open_columns: IntArray) -> None:
    """Write the columns whose products are from ``low`` to ``high``, but ``own``, ; they fill ``open_columns``."""
    product, count = strip.product, 0
    for g in range(strip.lowest.shape[0]):
        if count == open_columns.shape[0]:
            break
        if strip.lowest[g] <= high:
            for e in range(g * strip.group, min((g + 1) * strip.group, product.shape[0])):
                if low <= product[e] <= high and e != own:
                    open_columns[count] = e
                    count += 1


@compiled
def exclude(product: Float32Array, first: int, starts: IntArray, columns: IntArray) -> None:
    """Set ``columns[starts[i]:starts[i + 1]]`` of each row i to infinity; column 0 is column ``first``."""
    for i in range(product.shape[0]):
        for m in range(starts[i], starts[i + 1]):
            if first <= columns[m] < first + product.shape[1]:
                product[i, columns[m] - first] = np.inf


@compiled
def bounds(limit: float, scale: float, offset: float, width: float) -> tuple[np.float32, np.float32]:
    """Return the products below which an item is surely before one of value ``limit``, and above which it is not."""
    # No product comes near 10^30, but a positive of another chunk, or a bound, may lie beyond float32. Excluded items
    # are infinite and must stay above.
    threshold = min(max(scale * (limit - offset), -1e30), 1e30)
    doubt = width + CAST * abs(threshold)
    return np.float32(max(threshold - doubt, -1e30)), np.float32(min(threshold + doubt, 1e30))


@compiled
def all_bounds(
    starts: IntArray, values: FloatArray, scale: float, offset: FloatArray, width: FloatArray, limits: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """Return ``bounds`` of all values [m], and raise each row's limit [r] to the highest of them."""
    low, high = np.empty((2, starts[-1] - starts[0]), dtype=np.float32)
    for i in range(width.shape[0]):
        for m in range(starts[i], starts[i + 1]):
            low[m - starts[0]], high[m - starts[0]] = bounds(values[m], scale, offset[i], width[i])
            limits[i] = max(limits[i], high[m - starts[0]])
    return low, high


@compiled
def count_open(  # noqa: PLR0917, compiled functions take arrays by position
    strip: Strip,
    low: np.float32,
    high: np.float32,
    limit: float,
    place: int,
    own: int,
    open_columns: IntArray,
    open_values: FloatArray,
) -> np.int64:
    """Return how many of the items from ``low`` to ``high`` stand before a positive of value ``limit``.

    The positive itself is column ``own``. There are as many items as ``open_columns`` has places; v settles them, and
    equal ones count before column ``place``.
    """
    find_open(strip, low, high, own, open_columns)
    dots(strip.left, strip.right, open_columns, open_values)
    count = np.int64(0)
    for o in range(open_columns.shape[0]):
        count += open_values[o] < limit or (open_values[o] == limit and open_columns[o] < place)
    return count


@compiled
def list_open(  # noqa: PLR0917
    strip: Strip,
    high: np.float32,
    first: int,
    settled: FloatArray,
    top_values: FloatArray,
    top_columns: IntArray,
    open_columns: IntArray,
    open_values: FloatArray,
) -> None:
    """Insert the items up to ``high`` that are nearer than the last of a query's list [k] into it.

    Column 0 of the strip is column ``first`` of the gallery; ``settled`` holds v of the whole strip, or is empty.
    """
    find_open(strip, np.float32(-np.inf), high, -1, open_columns)
    if settled.shape[0] > 0:
        for o in range(open_columns.shape[0]):
            open_values[o] = settled[open_columns[o]]
    else:
        dots(strip.left, strip.right, open_columns, open_values)
    for o in range(open_columns.shape[0]):
        if open_values[o] < top_values[-1]:
            insert(open_values[o], first + open_columns[o], top_values, top_columns)


@compiled
def count_block(  # noqa: PLR0917, compiled functions take arrays by position
    product: Float32Array,
    lowest: Float32Array,
    group: int,
    first: int,
    left: FloatArray,
    right: FloatArray,
    offset: FloatArray,
    scale: float,
    width: FloatArray,
    starts: IntArray,
    places: IntArray,
    contained: bool,
    values: FloatArray,
    before: IntArray,
    top_values: FloatArray,
    top_columns: IntArray,
    cutoffs: Float32Array,
) -> None:
    """Count the items of a chunk that stand before each positive of some queries, and list the nearest items.

    ``product`` [r, n] float32 is off by at most ``width[i]`` from ``scale * (v - offset[i])``, where v is the product
    of ``left`` [r, K] and ``right`` [n, K]; ``lowest`` [r, n / group] are the minima of its groups of columns. Query
    i has the positives ``starts[i]`` to ``starts[i + 1]`` with their ``values`` v; items of equal v count where their
    column of the gallery (from ``first``) is below that of ``places``, which is the positive itself where it is
    ``contained`` in the gallery. ``top_values`` and ``top_columns`` [r, k] are the lists, into which no product above
    ``cutoffs`` [r] can come.

    After each strip of columns ``before[m]`` has grown by exactly the items of the strip that stand before positive
    m, and the lists hold exactly the nearest items of all strips so far.
    """
    length = top_values.shape[1]
    open_columns, open_values = np.empty(STRIP, dtype=np.int64), np.empty(STRIP)
    settled, transposed = np.empty(STRIP), np.empty((left.shape[1], STRIP))
    transposed_strip = np.full(1, -1)
    farthest = cutoffs.copy()
    lows, highs = all_bounds(starts, values, scale, offset, width, farthest)
    for begin in range(0, product.shape[1], STRIP):
        end = min(begin + STRIP, product.shape[1])
        groups = slice(begin // group, (end + group - 1) // group)
        items = right[begin:end]
        for i in range(product.shape[0]):
            least = lowest[i, groups]
            nearest, known = least.min(), 0  # how many items of the strip are settled: none or all
            if nearest > farthest[i]:
                continue
            strip = Strip(product[i, begin:end], least, group, left[i], items)
            for m in range(starts[i], starts[i + 1]):
                low, high = lows[m - starts[0]], highs[m - starts[0]]
                if high < nearest:
                    continue
                place = places[m] - first - begin
                own = place if contained else -1  # a positive does not stand before itself
                below, doubts = count_groups(strip, low, high)
                if 0 <= own < end - begin and low <= strip.product[own] <= high:
                    doubts -= 1
                if doubts > DENSE and known == 0:
                    settle(strip, begin, transposed, transposed_strip, settled)
                    known = end - begin
                if known > 0:
                    below = count_before(settled[:known], values[m], place)
                elif doubts > 0:
                    below += count_open(strip, low, high, values[m], place, own, open_columns[:doubts], open_values)
                before[m] += below
            high = cutoffs[i]
            if length > 0 and top_values[i, -1] < np.inf:
                high = min(high, bounds(top_values[i, -1], scale, offset[i], width[i])[1])
            if length == 0 or high < nearest:
                continue
            _, doubts = count_groups(strip, np.float32(-np.inf), high)
            if doubts > DENSE and known == 0:
                settle(strip, begin, transposed, transposed_strip, settled)
                known = end - begin
            lists = top_values[i], top_columns[i], open_columns[:doubts], open_values
            list_open(strip, high, first + begin, settled[:known], *lists)


@compiled
def farthest(product: Float32Array, left: FloatArray, right: FloatArray, width: FloatArray) -> FloatArray:
    """Return the largest v of each row [r]; the arrays are those of ``count_block``."""
    values = np.full(product.shape[0], -np.inf)
    for i in range(product.shape[0]):
        row = product[i]
        highest = np.float64(row.max())
        limit = highest - 2 * width[i] - CAST * abs(highest)
        for e in range(row.shape[0]):
            if row[e] >= limit:
                values[i] = max(values[i], dot(left[i], right[e]))
    return values
