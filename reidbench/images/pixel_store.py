"""Decoded training images, in device memory or memory-mapped, and the batches cropped from them.

Both stores give the same batches bit for bit.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from mmap import MADV_WILLNEED, PAGESIZE, mmap

import numpy as np
import torch
from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.images.augment import Crops, Shape, sample_crops
from reidbench.images.crop import crop_normalised, crop_pixels, gather_crops, normalise, normalised_levels
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.arrays import Float32Array, IntArray, PixelArray

PREFETCHED_BATCHES = 2  # one may be late while the one before it is used up


class DevicePixels:
    """Images in the memory of the network's device, where they are cropped: ``pixels`` uint8 [m, h, w, 3]."""

    prefetch = False

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        images, height, width, channels = pixels.shape
        self.shape: Shape = (images, height, width, channels)
        self.device = pixels.device
        self._buffers = BatchBuffers()

    def fetch(self, crops: Crops, preprocess: Preprocess) -> Tensor:
        """Return the crops as ``network_input`` takes them: normalised on a CPU, uint8 [B, H, W, 3] on a GPU."""
        if self.device.type == "cpu":
            return _crop_on_cpu(self.pixels.numpy(), crops, preprocess, self.device, self._buffers)
        return gather_crops(self.pixels, crops, preprocess.height, preprocess.width)


class MappedPixels:
    """Images in a memory-mapped file: ``pixels`` uint8 [m, h, w, 3], for a network on ``device``.

    They are cropped by the CPU, for a GPU into pinned memory, from where batches are copied while the GPU works.
    """

    prefetch = True

    def __init__(self, pixels: np.memmap[Shape, np.dtype[np.uint8]], device: torch.device) -> None:
        self.pixels = pixels
        self.shape: Shape = pixels.shape
        self.device = device
        self._buffers = BatchBuffers()

    def fetch(self, crops: Crops, preprocess: Preprocess) -> Tensor:
        """Return the crops as ``network_input`` takes them; may run in another thread."""
        return _crop_on_cpu(self.pixels, crops, preprocess, self.device, self._buffers)


# ``prefetch``: whether ``fetch`` is work of the CPU that is worth doing while the network computes.
PixelStore = DevicePixels | MappedPixels


def network_input(fetched: Tensor, preprocess: Preprocess, device: torch.device) -> Tensor:
    """Return fetched crops as the network's input on ``device``: [B, 3, H, W] float32."""
    if device.type == "cpu":
        return fetched
    return normalise(fetched.to(device, non_blocking=True), preprocess)


class BatchLoader:
    """Training batches from a pixel store, cropped as ``sample_crops`` says; the next ones are prefetched.

    In a distributed training ``share`` gives this process's slice of a batch from the batch's length; the built-in
    ``slice`` gives all of it.
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
        share: Callable[[int], slice] = slice,
    ) -> None:
        self.store, self.samples, self.preprocess = store, samples, preprocess
        self.crop, self.flip, self.seed = crop, flip, seed
        self.share = share
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._prefetched: dict[int, tuple[IntArray, Future[Tensor]]] = {}

    def batch(self, units: IntArray, step: int, upcoming: Sequence[IntArray] = ()) -> Tensor:
        """Return the batch of ``units`` [B] at ``step``: [B, 3, H, W] float32 on the store's device.

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
        crops = sample_crops(
            self.store.shape,
            self.samples,
            units,
            self.preprocess,
            crop=self.crop,
            flip=self.flip,
            seed=self.seed,
            step=step,
            share=self.share(len(units)),
        )
        return self.store.fetch(crops, self.preprocess)


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


def _crop_on_cpu(
    pixels: PixelArray, crops: Crops, preprocess: Preprocess, device: torch.device, buffers: BatchBuffers
) -> Tensor:
    """Return the crops: normalised [B, 3, H, W] float32 for a CPU, else uint8 [B, H, W, 3] in pinned memory.

    Raises IndexError for an image that ``pixels`` does not hold.
    """
    size, count = (preprocess.height, preprocess.width), len(crops.images)
    if count and not 0 <= crops.images.min() <= crops.images.max() < len(pixels):
        raise IndexError(f"expected images in 0..{len(pixels) - 1}, got {crops.images.tolist()}")
    if isinstance(pixels, np.memmap):
        _read_ahead(pixels, crops.images)
        pixels = np.asarray(pixels)
    arrays = (crops.images, crops.top, crops.left, crops.flipped)
    if device.type == "cpu":
        out = buffers.take((count, 3, *size))
        crop_normalised(pixels, *arrays, normalised_levels(preprocess), out)
        return torch.from_numpy(out)
    on_gpu = device.type == "cuda" and torch.cuda.is_available()
    # Each thread has its own current GPU, and pinning would otherwise initialise number 0 in every process.
    with torch.cuda.device(device) if on_gpu else nullcontext():
        batch = torch.empty((count, *size, 3), dtype=torch.uint8, pin_memory=on_gpu)
    crop_pixels(pixels, *arrays, batch.numpy())
    return batch


def _read_ahead(pixels: np.memmap[Shape, np.dtype[np.uint8]], images: IntArray) -> None:
    """Request the pages of all ``images`` at once, so that the disk reads them in parallel."""
    mapping: mmap = pixels._mmap  # type: ignore[attr-defined]
    size = int(np.prod(pixels.shape[1:]))
    begin = pixels.offset % PAGESIZE  # the mapping begins at the page in which the array begins
    for image in images.tolist():
        first = begin + image * size
        page = first // PAGESIZE * PAGESIZE
        mapping.madvise(MADV_WILLNEED, page, first + size - page)
