"""Who may be an anchor, and passes over them: what losses that bring their own rounds have in common."""

from __future__ import annotations

import numpy as np

from reidbench import IntArray, TrainingError


def accompanied(labels: IntArray, name: str) -> IntArray:
    """Return the units, in order, whose identity has another unit; ``labels`` [n] are any integers, one per unit.

    Raises TrainingError, naming the loss ``name``, where there is no such unit, or where there is one identity only.
    """
    identities, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    found = np.flatnonzero(counts[inverse] > 1)
    if not len(found) or len(identities) == 1:
        lacking = "negative, as all are of one identity" if len(identities) == 1 else "positive, as no two share theirs"
        raise TrainingError(f"{name}: none of the {len(labels)} images to draw from has a {lacking}; use other data")
    return found


def passes(units: IntArray, count: int, generator: np.random.Generator) -> IntArray:
    """Return ``count`` of ``units`` in shuffled passes: none comes more than once more often than another."""
    copies = -(-count // len(units))
    return np.concatenate([generator.permutation(units) for _ in range(copies)])[:count]
