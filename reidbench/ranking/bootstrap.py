"""What several seeds say together, and how far the queries that happened to be asked can be trusted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidbench.utils.random_streams import stream

DRAWS = 5_000
LEVEL = 0.95
_AT_ONCE = 1_000_000  # drawn identities held at a time: 16 MB


def mean_and_sd(values: Iterable[float]) -> tuple[float, float | None]:
    """Return the mean of finite ``values`` and their sample standard deviation (n - 1), None for a single value.

    Both are correctly rounded sums, so the order of the values does not matter. Raises ValueError where there is none.
    """
    numbers = [float(value) for value in values]
    mean = statistics.fmean(numbers)
    return mean, statistics.stdev(numbers) if len(numbers) > 1 else None


def interval(
    values: NDArray[Any], pids: NDArray[Any], seed: int = 0, *, draws: int = DRAWS, level: float = LEVEL
) -> tuple[float, float] | None:
    """Return the bootstrap interval of the mean of one value a query, drawing whole identities; None for a single one.

    ``values`` [nq] are finite floats, ``pids`` [nq] whole numbers: the queries of one identity share their positives
    and rise and fall together, so intervals that draw single queries are too narrow. Each of ``draws`` takes as many
    identities as there are, with replacement, and the mean over all their queries. The percentiles are those of
    Hesterberg's expanded interval (Student's t and n - 1 instead of n), without which few identities give too narrow
    a one. The order of the queries changes only the last digits.
    Source: Hesterberg 2015, What Teachers Should Know About the Bootstrap, The American Statistician 69(4), 3.3.
    """
    from scipy.special import ndtr, stdtrit  # noqa: PLC0415, whoever only reads records needs none of it

    if len(values) != len(pids):
        raise ValueError(f"expected one pid for each of {len(values)} values, got {len(pids)}")
    _, person = np.unique(pids, return_inverse=True)
    sums, counts = np.bincount(person, weights=values), np.bincount(person)
    identities = len(counts)
    if identities < 2:
        return None
    raw = stream(seed, "bootstrap").bit_generator
    means = np.empty(draws)
    step = max(1, _AT_ONCE // identities)
    for first in range(0, draws, step):
        rows = min(step, draws - first)
        # numpy promises that the raw numbers stay the same for ever; 64 bits leave no bias that could be seen.
        drawn = (raw.random_raw(rows * identities) % np.uint64(identities)).astype(np.intp).reshape(rows, identities)
        means[first : first + rows] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    tail = ndtr(math.sqrt(identities / (identities - 1)) * stdtrit(identities - 1, (1 - level) / 2))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def paired_difference(
    values_a: NDArray[Any],
    values_b: NDArray[Any],
    pids: NDArray[Any],
    seed: int = 0,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> tuple[float, tuple[float, float] | None]:
    """Return the mean of a - b over the queries and its ``interval``; both values of a query are drawn together.

    ``values_a``, ``values_b`` and ``pids`` [nq] stand in one order of queries. A difference is called one where the
    interval lies on one side of 0.
    """
    if len(values_a) != len(values_b):
        raise ValueError(f"expected two values for every query, got {len(values_a)} and {len(values_b)}")
    difference = np.asarray(values_a, dtype=np.float64) - np.asarray(values_b, dtype=np.float64)
    return math.fsum(difference) / len(difference), interval(difference, pids, seed, draws=draws, level=level)
