"""Decoded training images, in device memory or memory-mapped, and the batches cropped from them.

Both stores give the same batches bit for bit.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from mmap import MADV_WILLNEED, PAGESIZE, mmap
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.images.augment import Augmentation, Changes, Crops, Shape, sample_changes, sample_crops
from reidbench.images.crop import crop_normalised, crop_pixels, gather_crops, normalise, normalised_levels, with_changes
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.arrays import Float32Array, IntArray

PREFETCHED_BATCHES = 2  # one may be late while the one before it is used up


class PixelStore:
    """Images uint8 [m, h, w, 3] for a network on ``device``: a tensor in its memory, or a memory-mapped file.

    Mapped images are cropped by the CPU, for a GPU into pinned memory, from where batches are copied while the GPU
    works. ``prefetch``: whether fetching is work of the CPU that is worth doing while the network computes. ``check``
    raises an error where one of some images is damaged; it is called with each image once, before its first use.
    """

    def __init__(
        self,
        pixels: Tensor | np.memmap[Shape, np.dtype[np.uint8]],
        device: torch.device,
        check: Callable[[IntArray], None] | None = None,
    ) -> None:
        self.pixels, self.device, self.check = pixels, device, check
        self._unchecked = np.full(len(pixels), check is not None)
        images, height, width, channels = pixels.shape
        self.shape: Shape = (images, height, width, channels)
        self.prefetch = isinstance(pixels, np.memmap)
        self._buffers = BatchBuffers()

    def fetch(self, crops: Crops, preprocess: Preprocess, changes: Changes | None = None) -> Tensor:
        """Return the crops as ``network_input`` takes them: normalised for a CPU, uint8 [B, H, W, 3] for a GPU.

        May run in another thread. All images are ones that the store holds. Only with ``changes`` may crops leave the
        images, where they are black.
        """
        size, count = (preprocess.height, preprocess.width), len(crops.images)
        if isinstance(self.pixels, Tensor) and self.device.type != "cpu":
            return with_changes(gather_crops(self.pixels, crops, *size), changes)
        if isinstance(self.pixels, np.memmap):
            _read_ahead(self.pixels, crops.images)
            if self.check:
                new = np.unique(crops.images[self._unchecked[crops.images]])
                self.check(new)
                self._unchecked[new] = False
        pixels = np.asarray(self.pixels)
        if self.device.type == "cpu" and not changes:
            out = self._buffers.take((count, 3, *size))
            crop_normalised(pixels, crops, normalised_levels(preprocess), out)
            return torch.from_numpy(out)
        on_gpu = self.device.type == "cuda" and torch.cuda.is_available()
        # Each thread has its own current GPU, and pinning would otherwise initialise number 0 in every process.
        with torch.cuda.device(self.device) if on_gpu else nullcontext():
            batch = torch.empty((count, *size, 3), dtype=torch.uint8, pin_memory=on_gpu)
        crop_pixels(pixels, crops, batch.numpy())
        batch = with_changes(batch, changes)
        return normalise(batch, preprocess) if self.device.type == "cpu" else batch


def network_input(fetched: Tensor, preprocess: Preprocess, device: torch.device) -> Tensor:
    """Return fetched crops as the network's input on ``device``: [B, 3, H, W] float32."""
    if device.type == "cpu":
        return fetched
    return normalise(fetched.to(device, non_blocking=True), preprocess)


class BatchLoader:
    """Training batches from a pixel store, cropped as ``sample_crops`` says; the next ones are prefetched.

    ``flip`` and ``sampling`` (seed and frames) are arguments of ``sample_crops``; ``augmentation`` adds padding and
    changes of pixels. In a distributed training ``share`` gives this process's slice of a batch from the batch's
    length; the built-in ``slice`` gives all of it.
    """

    def __init__(
        self,
        store: PixelStore,
        samples: Samples,
        preprocess: Preprocess,
        share: Callable[[int], slice] = slice,
        augmentation: Augmentation | None = None,
        *,
        flip: bool,
        **sampling: Any,
    ) -> None:
        self.store, self.preprocess, self.share = store, preprocess, share
        augmentation = augmentation or Augmentation()
        sampling = {"preprocess": preprocess, "frames": 1, **sampling}
        self._crops = partial(sample_crops, store.shape, samples, flip=flip, pad=augmentation.pad, **sampling)
        self._changes = partial(sample_changes, augmentation, **sampling) if augmentation.changes_pixels else None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._prefetched: dict[int, tuple[IntArray, Future[Tensor]]] = {}

    def batch(self, units: IntArray, step: int, upcoming: Sequence[IntArray] = ()) -> Tensor:
        """Return the batch of ``units`` [B] at ``step``: [B * frames, 3, H, W] float32 on the store's device.

        ``upcoming`` are the units of the next steps as far as they have been sampled; up to two of them are prefetched.
        """
        guess = self._prefetched.pop(step, None)
        # A prefetched batch of other units (the round was sampled anew) is dropped.
        fetched = guess[1].result() if guess and np.array_equal(units, guess[0]) else self._fetch(units, step)
        last = step + PREFETCHED_BATCHES
        self._prefetched = {at: batch for at, batch in self._prefetched.items() if step < at <= last}
        if self.store.prefetch:
            for at, following in enumerate(upcoming[:PREFETCHED_BATCHES], start=step + 1):
                if at not in self._prefetched:
                    self._prefetched[at] = (following, self._pool.submit(self._fetch, following, at))
        return network_input(fetched, self.preprocess, self.store.device)

    def close(self) -> None:
        """End the prefetching thread."""
        self._pool.shutdown(cancel_futures=True)

    def _fetch(self, units: IntArray, step: int) -> Tensor:
        share = self.share(len(units))
        changes = self._changes(count=len(units), step=step, share=share) if self._changes else None
        return self.store.fetch(self._crops(units=units, step=step, share=share), self.preprocess, changes)


class BatchBuffers:
    """Memory for batches, reused as soon as no batch refers to it.

    The first touch of new memory costs more than all other work on a batch.
    """

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()
        self._free: list[Float32Array] = []

    def take(self, shape: tuple[int, ...]) -> Float32Array:
        """Return an uninitialised float32 array of ``shape`` that shares no memory with any living one."""
        if shape != self._shape:
            self._shape, self._free = shape, []
        # Allocated by torch, whose alignment suits its arithmetic.
        memory: Float32Array = self._free.pop() if self._free else torch.empty(shape).numpy()
        buffer = memory.view()
        # A tensor made from the buffer, its views and the gradients that need it keep the buffer alive.
        weakref.finalize(buffer, self._free.append, memory).atexit = False
        return buffer


def _read_ahead(pixels: np.memmap[Shape, np.dtype[np.uint8]], images: IntArray) -> None:
    """Request the pages of all ``images`` at once, so that the disk reads them in parallel."""
    mapping: mmap = pixels._mmap  # type: ignore[attr-defined]
    size = int(np.prod(pixels.shape[1:]))
    begin = pixels.offset % PAGESIZE  # the mapping begins at the page in which the array begins
    for image in images.tolist():
        first = begin + image * size
        page = first // PAGESIZE * PAGESIZE
        with suppress(OSError):  # a hint
            mapping.madvise(MADV_WILLNEED, page, first + size - page)
