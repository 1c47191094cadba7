"""Compiled loops over float64 values, which decide the order: products in order, lists of nearest items, counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reidbench.utils.arrays import FloatArray, IntArray
from reidbench.utils.compiled import compiled


class PositiveValues(NamedTuple):
    """The positives of some queries, with which items are compared.

    Fields:
        starts: query q has the positives ``starts[q]`` to ``starts[q + 1]`` int64.
        places: their columns of the gallery, or where it does not contain them, the columns before which they would be
            inserted [m] int64.
        values: their v [m] float64.
    """

    starts: IntArray
    places: IntArray
    values: FloatArray


class Top(NamedTuple):
    """The nearest items of each query so far, nearest first.

    Fields:
        columns: [nq, k] int64, -1 where there are fewer items.
        values: their v [nq, k] float64, inf where there are fewer items.
    """

    columns: IntArray
    values: FloatArray

    @classmethod
    def empty(cls, queries: int, length: int) -> Top:
        """Return lists without an item."""
        return cls(np.full((queries, length), -1, dtype=np.int64), np.full((queries, length), np.inf))


@compiled
def dot(a: FloatArray, b: FloatArray) -> float:
    """Return v of two rows of factors [K]: a sum of single additions in order."""
    total = 0.0
    for k in range(a.shape[0]):
        total += a[k] * b[k]
    return total


@compiled
def dots(a: FloatArray, right: FloatArray, columns: IntArray) -> FloatArray:
    """Return v [c] of one row [K] and ``right[columns]``, in the order of ``dot``, four at a time."""
    values = np.empty(columns.shape[0])
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
    return values


@compiled
def pair_values(left: FloatArray, right: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    """Return v [m] of ``left[rows]`` and ``right[columns]``; equal rows are next to each other."""
    values = np.empty(rows.shape[0])
    first = 0
    while first < rows.shape[0]:
        last = first
        while last < rows.shape[0] and rows[last] == rows[first]:
            last += 1
        of_row = dots(left[rows[first]], right, columns[first:last])
        for pair in range(first, last):  # numba takes seconds to compile an assignment of slices
            values[pair] = of_row[pair - first]
        first = last
    return values


@compiled
def insert(value: float, column: int, top: Top, query: int) -> None:
    """Insert an item into a query's list; it is nearer than the last, and later in the gallery than all of them."""
    values, columns = top.values[query], top.columns[query]
    place = values.shape[0] - 1
    while place > 0 and values[place - 1] > value:
        values[place], columns[place] = values[place - 1], columns[place - 1]
        place -= 1
    values[place], columns[place] = value, column


@compiled
def insert_values(values: FloatArray, top: Top, first: int) -> None:
    """Insert the nearest items of each row of ``values`` [r, n] into its list; row 0 is query ``first``."""
    for i in range(values.shape[0] if top.values.shape[1] > 0 else 0):
        for e in range(values.shape[1]):
            if values[i, e] < top.values[first + i, -1]:
                insert(values[i, e], e, top, first + i)


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
def count_values(values: FloatArray, positives: PositiveValues, before: IntArray) -> None:
    """Add to ``before`` [m] how many items of each query's row of ``values`` [nq, n] stand before its positives."""
    for i in range(values.shape[0]):
        for m in range(positives.starts[i], positives.starts[i + 1]):
            before[m] += count_before(values[i], positives.values[m], positives.places[m])
