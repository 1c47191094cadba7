"""The compiled loops of ``counting``: what they compute and why it is exact stands there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reidbench.compilation import compiled
from reidbench.values import FloatArray, IntArray

Float32Array = NDArray[np.float32]

STRIP = 1024  # columns that are counted at once: they stay in the first-level cache for all matches of a query
DENSE = 32  # so many open columns in a strip, and the whole strip is settled at once, in vector instructions
CAST = 2.0**-22  # widens a float64 threshold for its rounding to float32


@compiled
def centre(
    right: FloatArray, centre: FloatArray, added: FloatArray, used: IntArray, scale: FloatArray, out: Float32Array
) -> FloatArray:
    norms = np.empty(right.shape[0])
    for i in range(right.shape[0]):
        row, target, total = right[i], out[i], 0.0
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
def pair_values(left: FloatArray, right: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    values = np.empty(rows.shape[0])
    for i in range(rows.shape[0]):
        values[i] = dot(left[rows[i]], right[columns[i]])
    return values


@compiled
def settle_strip(left: FloatArray, flipped: FloatArray, part: Float32Array, settled: FloatArray) -> None:
    """Write v of a whole strip, each sum in the order of ``_dot``; hidden columns stay infinitely far."""
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
def visit(  # noqa: PLR0917, compiled functions take arrays by position
    product: Float32Array,
    lowest: Float32Array,
    group: int,
    first: int,
    left: FloatArray,
    right: FloatArray,
    offset: FloatArray,
    scale: float,
    slope: FloatArray,
    reach: FloatArray,
    floor: float,
    starts: IntArray,
    columns: IntArray,
    values: FloatArray,
    before: IntArray,
    top_values: FloatArray,
    top_columns: IntArray,
    cutoffs: Float32Array,
) -> None:
    length = top_values.shape[1]
    settled = np.empty(STRIP)
    flipped = np.empty((left.shape[1], STRIP))
    for strip in range(reach.shape[0]):
        begin = strip * STRIP
        end = min(begin + STRIP, product.shape[1])
        groups = range(begin // group, (end + group - 1) // group)
        is_flipped = False
        for i in range(product.shape[0]):
            nearest = lowest[i, groups.start : groups.stop].min()
            width = slope[i] * reach[strip] + floor
            is_settled = False
            # One turn for each match, and a last one for the list of the closest.
            for m in range(starts[i], starts[i + 1] + 1):
                is_match = m < starts[i + 1]
                if is_match:
                    limit = values[m]
                    low, high = bounds(limit, scale, offset[i], width)
                elif length > 0:
                    limit, low, high = top_values[i, length - 1], np.float32(-np.inf), cutoffs[i]
                    if limit < np.inf:
                        high = min(high, bounds(limit, scale, offset[i], width)[1])
                else:
                    break
                if high < nearest:
                    continue
                below, doubts = np.int64(0), np.int64(0)
                own = columns[m] - first if is_match else -1  # a match does not stand before itself
                if begin <= own < end and low <= product[i, own] <= high:
                    doubts = np.int64(-1)
                for g in groups:
                    if lowest[i, g] <= high:
                        surely, within = count(product[i, g * group : min((g + 1) * group, end)], low, high)
                        below += surely
                        doubts += within - surely
                if doubts > DENSE and not is_settled:
                    if not is_flipped:
                        for e in range(begin, end):
                            for k in range(left.shape[1]):
                                flipped[k, e - begin] = right[e, k]
                        is_flipped = True
                    settle_strip(left[i], flipped, product[i, begin:end], settled)
                    is_settled = True
                if is_match and is_settled:
                    before[m] += count_before(settled[: end - begin], limit, columns[m] - first - begin)
                    continue
                if is_match:
                    before[m] += below
                for g in groups:
                    if doubts == 0:
                        break
                    if lowest[i, g] > high:
                        continue
                    for e in range(g * group, min((g + 1) * group, end)):
                        if low <= product[i, e] <= high and e != own:
                            doubts -= 1
                            value = settled[e - begin] if is_settled else dot(left[i], right[e])
                            if is_match:
                                before[m] += value < limit or (value == limit and first + e < columns[m])
                            elif value < top_values[i, length - 1]:
                                insert(value, first + e, top_values[i], top_columns[i])
                            if doubts == 0:
                                break


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
def visit_values(  # noqa: PLR0917
    values: FloatArray,
    starts: IntArray,
    columns: IntArray,
    hidden: NDArray[np.bool_],
    before: IntArray,
    top_values: FloatArray,
    top_columns: IntArray,
) -> None:
    length = top_values.shape[1]
    for i in range(values.shape[0]):
        row = values[i]
        limits = row[columns[starts[i] : starts[i + 1]]]
        for m in range(starts[i], starts[i + 1]):
            if hidden[m]:
                row[columns[m]] = np.inf
        for m in range(starts[i], starts[i + 1]):
            before[m] = count_before(row, limits[m - starts[i]], columns[m])
        for e in range(row.shape[0] if length > 0 else 0):
            if row[e] < top_values[i, length - 1]:
                insert(row[e], e, top_values[i], top_columns[i])
