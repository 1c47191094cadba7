"""Anchors, triplets and batches that losses sample themselves."""

from __future__ import annotations

import numpy as np

from reidbench import IntArray, TrainingError


def units_with_positive(labels: IntArray, name: str) -> IntArray:
    """Return the units, in order, whose identity has another unit; ``labels`` [n] are any integers, one per unit.

    Raises TrainingError, naming the loss ``name``, where there is no such unit, or only one identity.
    """
    identities, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    units = np.flatnonzero(counts[inverse] > 1)
    if not len(units) or len(identities) == 1:
        lacking = (
            "negative, as all are of one identity" if len(identities) == 1 else "positive, as all identities differ"
        )
        raise TrainingError(f"{name}: none of the {len(labels)} training units has a {lacking}; use other data")
    return units


def shuffled_passes(units: IntArray, count: int, generator: np.random.Generator) -> IntArray:
    """Return ``count`` units from consecutive shuffled passes over ``units``."""
    passes = -(-count // len(units))
    return np.concatenate([generator.permutation(units) for _ in range(passes)])[:count]


def random_triplets(labels: IntArray, anchors: IntArray, generator: np.random.Generator) -> IntArray:
    """Return for each of ``anchors`` [T] a triplet [T, 3] of units: with a positive and a negative, sampled uniformly.

    ``labels`` [n] are integers, one per unit. The positive is another unit of the anchor's label, which must have two
    or more; the negative is one of any other label.
    """
    order = np.argsort(labels, kind="stable")
    place = np.argsort(order, kind="stable")[anchors]
    _, starts, inverse, counts = np.unique(labels[order], return_index=True, return_inverse=True, return_counts=True)
    start, count = starts[inverse[place]], counts[inverse[place]]
    # 1 to count - 1 places after the anchor, cyclically among the units of its label.
    positives = start + (place - start + generator.integers(1, count)) % count
    others = generator.integers(0, len(labels) - count)
    negatives = np.where(others < start, others, others + count)
    return np.stack([anchors, order[positives], order[negatives]], axis=1)


def stacked_batches(triplets: IntArray, size: int) -> list[IntArray]:
    """Return batches of ``size`` triplets [T, 3]: first their anchors, then their positives, then their negatives."""
    return [batch.T.reshape(-1) for batch in triplets.reshape(-1, size, 3)]
