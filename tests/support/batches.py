"""A batch of a training the plain way: drawn, cut and finished in one thread, with nothing made ahead."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.images.augment import draw_windows
from reidbench.images.pixel_store import PixelStore
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.arrays import IntArray


def training_batch(store: PixelStore, samples: Samples, units: IntArray, preprocess: Preprocess, **how: Any) -> Tensor:
    """Return one image of each of ``units`` [B] as the network's input [B, 3, H, W] float32 on the store's device.

    ``how`` is what ``draw_windows`` takes besides.
    """
    windows = draw_windows(store.shape, samples, units, preprocess, **how)
    return store.finish(store.fetch(windows, preprocess), preprocess)
