"""Mean and spread over seeds, and bootstrap intervals over the queries' identities."""

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
_AT_ONCE = 1_000_000  # sampled identities held at a time: 16 MB


def mean_and_sd(values: Iterable[float]) -> tuple[float, float | None]:
    """Return the mean of finite ``values`` and their sample standard deviation (n - 1), None for a single value.

    Both are correctly rounded sums, so the order of the values does not matter. Raises ValueError where there is none.
    """
    numbers = [float(value) for value in values]
    mean = statistics.fmean(numbers)
    return mean, statistics.stdev(numbers) if len(numbers) > 1 else None


def interval(values: NDArray[Any], pids: NDArray[Any], draws: int = DRAWS) -> tuple[float, float] | None:
    """Return the bootstrap interval of the mean of one value a query, over whole identities; None for a single one.

    ``values`` [nq] are finite floats, ``pids`` [nq] integers: the queries of one identity share their positives,
    so intervals that resample single queries are too narrow. Each of ``draws`` samples as many identities as there
    are, with replacement, and the mean over all their queries. The percentiles are those of
    Hesterberg's expanded interval (Student's t and n - 1 instead of n), without which few identities give too narrow
    a one. The order of the queries changes only the last digits.
    Source: Hesterberg 2015, What Teachers Should Know About the Bootstrap, The American Statistician 69(4), 3.3.
    """
    from scipy.special import ndtr, stdtrit  # noqa: PLC0415, not needed to read records

    _, identity = np.unique(pids, return_inverse=True)
    sums, counts = np.bincount(identity, weights=values), np.bincount(identity)
    identities = len(counts)
    if identities < 2:
        return None
    raw = stream(0, "bootstrap").bit_generator
    means = np.empty(draws)
    step = max(1, _AT_ONCE // identities)
    for first in range(0, draws, step):
        rows = min(step, draws - first)
        # numpy guarantees that these raw numbers never change; the bias of 64 bits is negligible.
        sampled = (raw.random_raw(rows * identities) % np.uint64(identities)).astype(np.intp).reshape(rows, identities)
        means[first : first + rows] = sums[sampled].sum(axis=1) / counts[sampled].sum(axis=1)
    tail = ndtr(math.sqrt(identities / (identities - 1)) * stdtrit(identities - 1, (1 - LEVEL) / 2))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def paired_difference(
    values_a: NDArray[Any], values_b: NDArray[Any], pids: NDArray[Any], draws: int = DRAWS
) -> tuple[float, tuple[float, float] | None]:
    """Return the mean of a - b over the queries and its ``interval``; both values of a query are resampled together.

    ``values_a``, ``values_b`` and ``pids`` [nq] are in the same order of queries. A difference is significant where the
    interval excludes 0.
    """
    difference = np.asarray(values_a, dtype=np.float64) - np.asarray(values_b, dtype=np.float64)
    return math.fsum(difference) / len(difference), interval(difference, pids, draws)
