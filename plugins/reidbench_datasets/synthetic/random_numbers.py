"""Random numbers that are the same in every numpy version: the raw Philox stream and our own arithmetic on it.

numpy guarantees the raw stream of a bit generator; the methods of ``Generator`` may change between versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from reidbench import stream_key

T = TypeVar("T")

BLOCK = 64
TWO_TO_53 = 9007199254740992.0


class RandomNumbers:
    """The numbers of the stream that ``seed`` and ``names`` choose, in the order of the calls."""

    def __init__(self, seed: int, *names: str | int) -> None:
        self._bits = np.random.Philox(key=stream_key(seed, "synthetic", *names))
        self._ready: list[int] = []

    def raw(self) -> int:
        """Return the next 64 bits, 0..2^64-1."""
        if not self._ready:
            self._ready = self._bits.random_raw(BLOCK).tolist()[::-1]
        return self._ready.pop()

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a float64 in [low, high), from the upper 53 bits."""
        return low + (high - low) * ((self.raw() >> 11) / TWO_TO_53)

    def centred(self, width: float) -> float:
        """Return a float64 in (-width, width) that is more likely near 0: the mean of two uniform ones."""
        return 0.5 * (self.uniform(-width, width) + self.uniform(-width, width))

    def integer(self, below: int) -> int:
        """Return an integer in 0..below-1, from the upper 32 bits."""
        return ((self.raw() >> 32) * below) >> 32

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.uniform() < probability

    def choice(self, values: Sequence[T]) -> T:
        """Return one of ``values``, each equally likely."""
        return values[self.integer(len(values))]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        """Return the values in a random order (Fisher-Yates)."""
        order = list(values)
        for last in range(len(order) - 1, 0, -1):
            other = self.integer(last + 1)
            order[last], order[other] = order[other], order[last]
        return order
