"""The batches of a training, one after the other, the next ones made while the network works on the present one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.images.augment import draw_windows
from reidbench.images.pixel_store import PixelStore
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.arrays import IntArray

# Batches made ahead: one may be late while the one before it is used up.
DEPTH = 2


class Feed:
    """Batches from a store, drawn as ``draw_windows`` says.

    Of several processes each has its own share of a batch: ``places`` tells it from the batch's length.
    """

    def __init__(
        self,
        store: PixelStore,
        samples: Samples,
        preprocess: Preprocess,
        *,
        crop: bool,
        flip: bool,
        seed: int,
        places: Callable[[int], slice] = slice,
    ) -> None:
        self.store, self.samples, self.preprocess = store, samples, preprocess
        self.crop, self.flip, self.seed = crop, flip, seed
        self.places = places
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._coming: dict[int, tuple[IntArray, Future[Tensor]]] = {}

    def batch(self, units: IntArray, step: int, ahead: Sequence[IntArray] = ()) -> Tensor:
        """Return the batch of ``units`` [B] at ``step``: [B, 3, H, W] float32 on the store's device.

        ``ahead`` are the units of the steps that follow, as far as they are known; some of them are made in another
        thread where the store asks for it. Raises DataError where an image of this batch cannot be used.
        """
        made = self._coming.pop(step, None)
        # A guess that was wrong (a round that was drawn anew) is dropped.
        right = made if made is not None and np.array_equal(units, made[0]) else None
        fetched = right[1].result() if right is not None else self._fetch(units, step)
        self._coming = {at: kept for at, kept in self._coming.items() if step < at <= step + DEPTH}
        if self.store.ahead:
            for at, following in enumerate(ahead[:DEPTH], start=step + 1):
                if at not in self._coming:
                    self._coming[at] = (following, self._pool.submit(self._fetch, following, at))
        return self.store.finish(fetched, self.preprocess)

    def close(self) -> None:
        """End the threads of the feed and of its store."""
        self._pool.shutdown(cancel_futures=True)
        self.store.close()

    def _fetch(self, units: IntArray, step: int) -> Tensor:
        drawn: dict[str, Any] = {"crop": self.crop, "flip": self.flip, "part": self.places(len(units))}
        windows = draw_windows(
            self.store.shape, self.samples, units, self.preprocess, **drawn, seed=self.seed, step=step
        )
        return self.store.fetch(windows, self.preprocess)
