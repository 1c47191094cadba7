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
def lowest(part: Float32Array, lanes: Float32Array) -> np.float32:
    """Return the minimum. A single running one cannot use vector registers; that of ``lanes`` (64) can."""
    lanes[:] = np.inf
    whole = part.shape[0] // 64 * 64
    for begin in range(0, whole, 64):
        piece = part[begin : begin + 64]
        for lane in range(64):
            lanes[lane] = piece[lane] if piece[lane] < lanes[lane] else lanes[lane]
    for e in range(whole, part.shape[0]):
        lanes[e - whole] = min(lanes[e - whole], part[e])
    half = 32
    while half > 0:
        for lane in range(half):
            lanes[lane] = lanes[lane] if lanes[lane] < lanes[lane + half] else lanes[lane + half]
        half //= 2
    return np.float32(lanes[0])


@compiled
def cutoffs(product: Float32Array, length: int, width: FloatArray) -> Float32Array:
    """Return for each row a value that no product of its ``length`` closest items exceeds.

    The lowest of ``length`` groups are that many items; so the closest ones lie below the largest of the lowest, give
    or take the bound of both.
    """
    cutoffs = np.full(product.shape[0], np.float32(np.inf), dtype=np.float32)
    if length == 0:
        return cutoffs
    groups = max(length, min(16 * length, product.shape[1] // 4))
    if groups > product.shape[1]:
        return cutoffs
    lowest_values, lowest_groups = np.empty(length), np.empty(length, dtype=np.int64)
    minima = np.empty(groups, dtype=np.float32)
    for i in range(product.shape[0]):
        minima[:] = np.inf
        # Group g is every item at a multiple of ``groups`` from g on, so that neighbours fill vector registers.
        for begin in range(0, product.shape[1] - groups + 1, groups):
            piece = product[i, begin : begin + groups]
            for g in range(groups):
                minima[g] = piece[g] if piece[g] < minima[g] else minima[g]
        lowest_values[:] = np.inf
        for g in range(groups):
            if minima[g] < lowest_values[length - 1]:
                insert(np.float64(minima[g]), g, lowest_values, lowest_groups)
        cut = lowest_values[length - 1]
        cutoffs[i] = np.float32(cut + 2 * width[i] + CAST * abs(cut))
    return cutoffs


@compiled
def visit(  # noqa: PLR0917, compiled functions take arrays by position
    product: Float32Array,
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
    settled, lanes = np.empty(STRIP), np.empty(64, dtype=np.float32)
    flipped = np.empty((left.shape[1], STRIP))
    for strip in range(reach.shape[0]):
        begin = strip * STRIP
        end = min(begin + STRIP, product.shape[1])
        is_flipped = False
        for i in range(product.shape[0]):
            part = product[i, begin:end]
            nearest = lowest(part, lanes)
            width = slope[i] * reach[strip] + floor
            is_settled = False
            # One turn for each match, and a last one for the list of the closest.
            for m in range(starts[i], starts[i + 1] + 1):
                is_match = m < starts[i + 1]
                if is_match:
                    limit = values[m]
                elif length > 0:
                    limit = top_values[i, length - 1]
                else:
                    break
                # No product comes near 10^30, but a match in another chunk may lie beyond float32.
                threshold = min(max(scale * (limit - offset[i]), -1e30), 1e30)
                doubt = width + CAST * abs(threshold)
                low, high = np.float32(threshold - doubt), np.float32(threshold + doubt)
                if not is_match:
                    low, high = np.float32(-np.inf), min(high, cutoffs[i]) if limit < np.inf else cutoffs[i]
                if high < nearest:
                    continue
                below, within = count(part, low, high)
                if within - below > DENSE and not is_settled:
                    if not is_flipped:
                        for e in range(begin, end):
                            for k in range(left.shape[1]):
                                flipped[k, e - begin] = right[e, k]
                        is_flipped = True
                    settle_strip(left[i], flipped, part, settled)
                    is_settled = True
                if is_match and is_settled:
                    before[m] += count_before(settled[: end - begin], limit, columns[m] - first - begin)
                    continue
                if is_match:
                    before[m] += below
                if within == below:
                    continue
                for e in range(end - begin):
                    if low <= part[e] <= high and part[e] < np.inf:
                        value = settled[e] if is_settled else dot(left[i], right[begin + e])
                        column = first + begin + e
                        if is_match:
                            before[m] += value < limit or (value == limit and column < columns[m])
                        elif value < top_values[i, length - 1]:
                            insert(value, column, top_values[i], top_columns[i])


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
