"""Compiled loops over float64 values: products in order, counts and sorted lists."""

from __future__ import annotations

import numpy as np

from reidbench.utils.arrays import FloatArray, IntArray
from reidbench.utils.compiled import compiled


@compiled
def dot(a: FloatArray, b: FloatArray) -> float:
    """Return v of two rows of factors [K]: a sum of single additions in order."""
    total = 0.0
    for k in range(a.shape[0]):
        total += a[k] * b[k]
    return total


@compiled
def dots(a: FloatArray, right: FloatArray, columns: IntArray, values: FloatArray) -> None:
    """Write v of one row [K] and ``right[columns]`` to ``values`` [c], in the order of ``dot``, four at a time."""
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
    """Return v [m] of ``left[rows]`` and ``right[columns]``; equal rows are next to each other."""
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
def insert(value: float, column: int, values: FloatArray, columns: IntArray) -> None:
    """Insert an item into a sorted list [k]; it is nearer than the last, and later in the gallery than all of them."""
    place = values.shape[0] - 1
    while place > 0 and values[place - 1] > value:
        values[place], columns[place] = values[place - 1], columns[place - 1]
        place -= 1
    values[place], columns[place] = value, column


@compiled
def count_before(values: FloatArray, value: float, place: int) -> np.int64:
    """Return how many of ``values`` [n] are before an item of this value at ``place``; ties are in their order."""
    place = min(max(place, 0), values.shape[0])
    count = np.int64(0)
    for e in range(place):
        count += values[e] <= value
    for e in range(place, values.shape[0]):
        count += values[e] < value
    return count


@compiled
def count_values(values: FloatArray, starts: IntArray, limits: FloatArray, places: IntArray, before: IntArray) -> None:
    """Add to ``before`` [m] how many items of a row of ``values`` [r, n] stand before each of the row's positives.

    Row i has the positives ``starts[i]`` to ``starts[i + 1]`` with values ``limits`` and columns ``places`` [m].
    """
    for i in range(values.shape[0]):
        for m in range(starts[i], starts[i + 1]):
            before[m] += count_before(values[i], limits[m], places[m])


@compiled
def insert_values(values: FloatArray, top_values: FloatArray, top_columns: IntArray) -> None:
    """Put the nearest items of each row of ``values`` [r, n] into its list [r, k]."""
    length = top_values.shape[1]
    for i in range(values.shape[0]):
        for e in range(values.shape[1] if length > 0 else 0):
            if values[i, e] < top_values[i, length - 1]:
                insert(values[i, e], e, top_values[i], top_columns[i])
