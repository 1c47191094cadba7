"""What several seeds say together."""

from __future__ import annotations

import statistics
from collections.abc import Iterable


def mean_and_sd(values: Iterable[float]) -> tuple[float, float | None]:
    """Return the mean of finite ``values`` and their sample standard deviation (n - 1), None for a single value.

    Both are correctly rounded sums, so the order of the values does not matter. Raises ValueError where there is none.
    """
    numbers = [float(value) for value in values]
    mean = statistics.fmean(numbers)
    return mean, statistics.stdev(numbers) if len(numbers) > 1 else None
