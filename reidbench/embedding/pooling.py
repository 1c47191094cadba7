"""One embedding per unit: the mean or maximum over the embeddings of its images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reidbench.utils.arrays import IntArray, MappedRows


@dataclass(frozen=True, eq=False)
class UnitEmbeddings:
    """The embeddings of n units of one part of the data.

    ``embeddings``: [n, D] float32 or float64, [n, 0] where only distances are known; rows of files only of a gallery.
    ``pids``: identity of each unit, int64 [n].
    ``cams``: camera of each unit, int64 [n].
    """

    embeddings: Tensor | MappedRows
    pids: IntArray
    cams: IntArray


def pool_units(images: Tensor, starts: IntArray, pool: Literal["mean", "max"]) -> Tensor:
    """Return one embedding per unit [n, D]: the mean or maximum, per dimension, over its rows of ``images`` [m, D].

    ``starts`` [n + 1] is that of the Samples; dtype and device are those of ``images``.
    """
    if len(images) == len(starts) - 1:  # single images; a copy may be gigabytes
        return images
    offsets = torch.from_numpy(starts).to(images.device)
    return torch.segment_reduce(images, pool, offsets=offsets, axis=0)
