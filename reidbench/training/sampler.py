"""Rounds of batches: pure functions of the labels, the sizes and a generator."""

from __future__ import annotations

import numpy as np

from reidbench.errors import OptionError
from reidbench.utils.arrays import IntArray


def pk_round(labels: IntArray, p: int, k: int, generator: np.random.Generator) -> list[IntArray]:
    """Return one shuffled pass over the identities in batches of ``p`` identities with ``k`` units each.

    ``labels`` [n] are any integers, one per unit. Each batch is int64 [p * k], indices into ``labels``, the units of
    one identity side by side; identities that fill no batch are dropped. An identity with fewer than ``k`` units gives
    ceil(k / count) shuffled copies of all of them, cut to ``k``, so that no unit comes more than once more often than
    another. Raises OptionError where a batch asks for more identities than there are. Source: Hermans et al. 2017,
    section 2 (P×K batches), with the shuffled passes of the authors' code.
    """
    identities, counts = np.unique(labels, return_counts=True)
    if not 1 <= p <= len(identities) or k < 1:
        raise OptionError(
            f"batches of p={p} identities with k={k} images each cannot be drawn from {len(identities)} training "
            f"identities; p must be 1 to {len(identities)} and k at least 1, so lower the recipe's p"
        )
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    order = generator.permutation(len(identities))
    batches = order[: len(order) // p * p].reshape(-1, p)
    return [np.concatenate([_draw(members[identity], k, generator) for identity in batch]) for batch in batches]


def _draw(units: IntArray, k: int, generator: np.random.Generator) -> IntArray:
    copies = -(-k // len(units))
    return np.concatenate([generator.permutation(units) for _ in range(copies)])[:k]


def shuffled_round(labels: IntArray, size: int, generator: np.random.Generator) -> list[IntArray]:
    """Return one shuffled pass over the units in batches of ``size``; units that fill no batch are dropped.

    Each batch is int64 [size], indices into ``labels`` [n]. Raises OptionError where ``size`` is above n.
    """
    if not 1 <= size <= len(labels):
        raise OptionError(
            f"batches of {size} images cannot be drawn from {len(labels)} training units; lower the recipe's p or k"
        )
    order = generator.permutation(len(labels))
    return list(order[: len(order) // size * size].reshape(-1, size))
