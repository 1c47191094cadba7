"""From one embedding a unit to a ranking: for runs and for embeddings made elsewhere alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reidbench.errors import OptionError
from reidbench.utils.arrays import IntArray


@dataclass(frozen=True, eq=False)
class Embedded:
    """Units with one embedding each [n, D] float32 or float64 (or none), their ``pids`` and ``cams`` int64 [n]."""

    embeddings: Tensor
    pids: IntArray
    cams: IntArray


def pool_units(images: Tensor, starts: IntArray, pool: Literal["mean", "max"]) -> Tensor:
    """Return one embedding per unit [n, D]: the mean or maximum, per dimension, over its rows of ``images`` [m, D].

    ``starts`` [n + 1] is that of the Samples; the dtype and the device are kept. Raises OptionError for another pool.
    """
    if pool not in ("mean", "max"):
        raise OptionError(f"there is no pool {pool!r}; expected mean or max")
    offsets = torch.from_numpy(starts).to(images.device)
    return torch.segment_reduce(images, pool, offsets=offsets, axis=0)
