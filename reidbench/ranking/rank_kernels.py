"""The compiled loops of ``counting``: what they compute and why it is exact stands there."""

from __future__ import annotations

import numpy as np

from reidbench.utils.arrays import Float32Array, FloatArray, IntArray
from reidbench.utils.compiled import compiled

STRIP = 1024  # columns that are counted at once: they stay in the first-level cache for all matches of a query
DENSE = 32  # so many open columns in a strip, and the whole strip is settled at once, in vector instructions
CAST = 2.0**-22  # widens a float64 threshold for its rounding to float32


@compiled
def fill(
    rows: FloatArray, centre: FloatArray, added: FloatArray, used: IntArray, scale: FloatArray, out: Float32Array
) -> FloatArray:
    """Write one side of the filter, and return the norms of its rows."""
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
def dot(a: FloatArray, b: FloatArray) -> float:
    total = 0.0
    for k in range(a.shape[0]):
        total += a[k] * b[k]
    return total


@compiled
def dots(a: FloatArray, right: FloatArray, columns: IntArray, values: FloatArray) -> None:
    """Write the products of one row with some others, each in the order of ``dot``, four sums at a time."""
    full = columns.shape[0] // 4 * 4
    for c in range(0, full, 4):
        b0, b1, b2, b3 = right[columns[c]], right[columns[c + 1]], right[columns[c + 2]], right[columns[c + 3]]
        t0, t1, t2, t3 = 0.0, 0.0, 0.0, 0.0
        for k in range(a.shape[0]):
            t0 += a[k] * b0[k]
            t1 += a[k] * b1[k]
            t2 += a[k] * b2[k]
            t3 += a[k] * b3[k]
        values[c], values[c + 1], values[c + 2], values[c + 3] = t0, t1, t2, t3
    for c in range(full, columns.shape[0]):
        values[c] = dot(a, right[columns[c]])


@compiled
def pair_values(left: FloatArray, right: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    """Return v of each row of ``left`` with the item of ``right`` beside it; those of one row stand together."""
    values = np.empty(rows.shape[0])
    first = 0
    while first < rows.shape[0]:
        last = first
        while last < rows.shape[0] and rows[last] == rows[first]:
            last += 1
        dots(left[rows[first]], right, columns[first:last], values[first:last])
        first = last
    return values


@compiled
def flip(right: FloatArray, begin: int, end: int, flipped: FloatArray) -> None:
    """Write the rows of a strip as columns."""
    for e in range(begin, end):
        for k in range(right.shape[1]):
            flipped[k, e - begin] = right[e, k]


@compiled
def settle_strip(left: FloatArray, flipped: FloatArray, part: Float32Array, settled: FloatArray) -> None:
    """Write v of a whole strip, each sum in the order of ``dot``; hidden columns stay infinitely far."""
    for e in range(part.shape[0]):
        settled[e] = 0.0
    for k in range(left.shape[0]):
        factor, row = left[k], flipped[k]
        for e in range(part.shape[0]):
            settled[e] += factor * row[e]
    for e in range(part.shape[0]):
        if part[e] == np.inf:
            settled[e] = np.inf


@compiled
def insert(value: float, column: int, values: FloatArray, columns: IntArray) -> None:
    """Put an item that comes after all of the list in gallery order, and is closer than the last, into its place."""
    place = values.shape[0] - 1
    while place > 0 and values[place - 1] > value:
        values[place], columns[place] = values[place - 1], columns[place - 1]
        place -= 1
    values[place], columns[place] = value, column


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
def count_groups(
    part: Float32Array, lowest: Float32Array, group: int, low: np.float32, high: np.float32
) -> tuple[np.int64, np.int64]:
    """Return how many of a strip are below ``low``, and how many from there to ``high``; most groups have neither."""
    below, doubts = np.int64(0), np.int64(0)
    for g in range(lowest.shape[0]):
        if lowest[g] <= high:
            surely, within = count(part[g * group : (g + 1) * group], low, high)
            below += surely
            doubts += within - surely
    return below, doubts


@compiled
def find_open(  # noqa: PLR0917
    part: Float32Array,
    lowest: Float32Array,
    group: int,
    low: np.float32,
    high: np.float32,
    own: int,
    found: IntArray,
) -> None:
    """Write the columns of a strip from ``low`` to ``high``, all but one's own; ``found`` has as many places."""
    count = 0
    for g in range(lowest.shape[0]):
        if count == found.shape[0]:
            break
        if lowest[g] <= high:
            for e in range(g * group, min((g + 1) * group, part.shape[0])):
                if low <= part[e] <= high and e != own:
                    found[count] = e
                    count += 1


@compiled
def count_before(values: FloatArray, value: float, place: int) -> np.int64:
    """Return how many of ``values`` stand before an item of this value at this place; equal ones stand by place."""
    place = min(max(place, 0), values.shape[0])
    count = np.int64(0)
    for e in range(place):
        count += values[e] <= value
    for e in range(place, values.shape[0]):
        count += values[e] < value
    return count


@compiled
def hide(product: Float32Array, first: int, starts: IntArray, columns: IntArray) -> None:
    for i in range(product.shape[0]):
        for m in range(starts[i], starts[i + 1]):
            if first <= columns[m] < first + product.shape[1]:
                product[i, columns[m] - first] = np.inf


@compiled
def bounds(limit: float, scale: float, offset: float, width: float) -> tuple[np.float32, np.float32]:
    """Return below which products a value v surely lies above, and above which it surely lies below."""
    # No product comes near 10^30, but a match in another chunk, or a bound, may lie beyond float32. What is hidden is
    # infinite and must stay above.
    threshold = min(max(scale * (limit - offset), -1e30), 1e30)
    doubt = width + CAST * abs(threshold)
    return np.float32(max(threshold - doubt, -1e30)), np.float32(min(threshold + doubt, 1e30))


@compiled
def all_bounds(
    starts: IntArray, values: FloatArray, scale: float, offset: FloatArray, width: FloatArray, limits: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """Return the bounds of all values, and raise the limit of each row to the highest of its own."""
    low, high = np.empty((2, starts[-1] - starts[0]), dtype=np.float32)
    for i in range(width.shape[0]):
        for m in range(starts[i], starts[i + 1]):
            low[m - starts[0]], high[m - starts[0]] = bounds(values[m], scale, offset[i], width[i])
            limits[i] = max(limits[i], high[m - starts[0]])
    return low, high


@compiled
def visit(  # noqa: PLR0917, compiled functions take arrays by position
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
    columns: IntArray,
    contained: bool,
    values: FloatArray,
    before: IntArray,
    top_values: FloatArray,
    top_columns: IntArray,
    cutoffs: Float32Array,
) -> None:
    length = top_values.shape[1]
    settled, open_values = np.empty((2, STRIP))
    open_columns = np.empty(STRIP, dtype=np.int64)
    flipped = np.empty((left.shape[1], STRIP))
    farthest = cutoffs.copy()
    lows, highs = all_bounds(starts, values, scale, offset, width, farthest)
    for begin in range(0, product.shape[1], STRIP):
        end = min(begin + STRIP, product.shape[1])
        groups = slice(begin // group, (end + group - 1) // group)
        is_flipped = False
        for i in range(product.shape[0]):
            part, least = product[i, begin:end], lowest[i, groups]
            nearest = least.min()
            if nearest > farthest[i]:
                continue
            is_settled = False
            # One turn for each match, and a last one for the list of the closest.
            for m in range(starts[i], starts[i + 1] + (length > 0)):
                is_match = m < starts[i + 1]
                if is_match:
                    limit, low, high = values[m], lows[m - starts[0]], highs[m - starts[0]]
                else:
                    limit, low, high = top_values[i, length - 1], np.float32(-np.inf), cutoffs[i]
                    if limit < np.inf:
                        high = min(high, bounds(limit, scale, offset[i], width[i])[1])
                if high < nearest:
                    continue
                place = columns[m] - first - begin if is_match else -1
                own = place if contained else -1  # a match does not stand before itself
                below, doubts = count_groups(part, least, group, low, high)
                if 0 <= own < part.shape[0] and low <= part[own] <= high:
                    doubts -= 1
                if doubts > DENSE and not is_settled:
                    if not is_flipped:
                        flip(right, begin, end, flipped)
                        is_flipped = True
                    settle_strip(left[i], flipped, part, settled)
                    is_settled = True
                if is_match and is_settled:
                    before[m] += count_before(settled[: part.shape[0]], limit, place)
                    continue
                if is_match:
                    before[m] += below
                if doubts == 0:
                    continue
                find_open(part, least, group, low, high, own, open_columns[:doubts])
                if is_settled:
                    open_values[:doubts] = settled[open_columns[:doubts]]
                else:
                    dots(left[i], right[begin:end], open_columns[:doubts], open_values)
                for o in range(doubts):
                    value, e = open_values[o], open_columns[o]
                    if is_match:
                        before[m] += value < limit or (value == limit and e < place)
                    elif value < top_values[i, length - 1]:
                        insert(value, first + begin + e, top_values[i], top_columns[i])


@compiled
def farthest(product: Float32Array, left: FloatArray, right: FloatArray, width: FloatArray) -> FloatArray:
    values = np.full(product.shape[0], -np.inf)
    for i in range(product.shape[0]):
        row = product[i]
        highest = np.float64(row.max())
        limit = highest - 2 * width[i] - CAST * abs(highest)
        for e in range(row.shape[0]):
            if row[e] >= limit:
                values[i] = max(values[i], dot(left[i], right[e]))
    return values


@compiled
def count_values(values: FloatArray, starts: IntArray, limits: FloatArray, places: IntArray, before: IntArray) -> None:
    """Add to ``before`` [m] how many items of a row of ``values`` [r, n] stand before each of the row's matches."""
    for i in range(values.shape[0]):
        for m in range(starts[i], starts[i + 1]):
            before[m] += count_before(values[i], limits[m], places[m])


@compiled
def insert_values(values: FloatArray, top_values: FloatArray, top_columns: IntArray) -> None:
    """Put the closest items of each row of ``values`` [r, n] into its lists [r, k]."""
    length = top_values.shape[1]
    for i in range(values.shape[0]):
        for e in range(values.shape[1] if length > 0 else 0):
            if values[i, e] < top_values[i, length - 1]:
                insert(values[i, e], e, top_values[i], top_columns[i])
