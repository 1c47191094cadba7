"""Rounds of batches: functions of the labels, the batch size and a generator of random numbers."""

from __future__ import annotations

import numpy as np

from reidbench.errors import contract_error
from reidbench.plugins.interfaces import Loss, TrainView, owner_of
from reidbench.training.recipe import Recipe
from reidbench.utils.arrays import IntArray


def sample_round(loss: Loss, recipe: Recipe, view: TrainView, number: int) -> list[IntArray]:
    """Return the batches of round ``number``, sampled by the loss or else by the recipe; each is int64, units.

    P×K batches have no units without identity; shuffled ones have.
    Raises PluginError where the loss returns no batch, an empty batch, or units that do not exist.
    """
    own = loss.next_round(view, number)
    if own is None:
        if recipe.batches == "pk":
            units = np.flatnonzero(view.labels >= 0)
            return [units[batch] for batch in pk_round(view.labels[units], recipe.p, recipe.k, view.generator)]
        return shuffled_round(view.labels, recipe.p * recipe.k, view.generator)
    batches = [np.asarray(batch) for batch in own] if isinstance(own, list | tuple) else []
    arrays = all(b.ndim == 1 and len(b) and np.issubdtype(b.dtype, np.integer) for b in batches)
    if not batches or not arrays or any(b.min() < 0 or b.max() >= len(view.labels) for b in batches):
        expected = f"a list of one or more batches, each an array of units in 0..{len(view.labels) - 1}"
        raise contract_error(owner_of(loss), "what next_round returns", expected, own)
    return [b.astype(np.int64) for b in batches]


def pk_round(labels: IntArray, p: int, k: int, generator: np.random.Generator) -> list[IntArray]:
    """Return one shuffled pass over the identities, in batches of ``p`` identities with ``k`` units each.

    ``labels`` [n] are any integers, one per unit. Each batch is int64 [p * k], indices into ``labels``, the units of
    one identity side by side; identities that do not fill a batch are dropped. An identity with fewer than ``k`` units
    contributes ceil(k / count) shuffled copies of all of them, cut to ``k``, so that how often any two of its units
    occur differs by at most one. There are at least ``p`` identities, which is checked before a training.
    Source: Hermans et al. 2017, sections 2 and 3.5 (P×K batches), with the shuffled passes of the authors' code.
    """
    identities, counts = np.unique(labels, return_counts=True)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    order = generator.permutation(len(identities))
    batches = order[: len(order) // p * p].reshape(-1, p)
    return [np.concatenate([_sample(members[identity], k, generator) for identity in batch]) for batch in batches]


def _sample(units: IntArray, k: int, generator: np.random.Generator) -> IntArray:
    copies = -(-k // len(units))
    return np.concatenate([generator.permutation(units) for _ in range(copies)])[:k]


def shuffled_round(labels: IntArray, size: int, generator: np.random.Generator) -> list[IntArray]:
    """Return one shuffled pass over the units in batches of ``size``; units that do not fill a batch are dropped.

    Each batch is int64 [size], indices into ``labels`` [n]; n is at least ``size``, which is checked before a training.
    """
    order = generator.permutation(len(labels))
    return list(order[: len(order) // size * size].reshape(-1, size))
