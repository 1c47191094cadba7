"""Where decoded pixels lie, and how the images of a batch are cut out of them.

Whatever the store, the same windows give the same batch bit for bit: cutting moves whole bytes, and the arithmetic
after it is done on the batch's device, by ``normalise`` or by a table that it made.
"""

from __future__ import annotations

import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from mmap import MADV_WILLNEED, PAGESIZE, mmap
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.images.augment import Shape, Windows
from reidbench.images.crop import crop, crop_values, levels, normalise
from reidbench.images.decode import decode_images
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.arrays import Float32Array, IntArray, PixelArray
from reidbench.utils.device_copy import sent

# Images of a batch that one thread of a streaming store decodes before it takes the next ones.
STREAMED = 8


class PixelStore(Protocol):
    """All images of a Samples at one size, ``shape`` (m, h, w, 3), to be cut for a network on ``device``.

    ``ahead`` says that ``fetch`` is the processor's work, which may as well be done before the batch is needed.
    """

    shape: Shape
    device: torch.device
    ahead: bool

    def fetch(self, windows: Windows, preprocess: Preprocess) -> Tensor:
        """Return what ``finish`` takes; may run in another thread. Raises DataError for an unusable image."""
        ...

    def finish(self, fetched: Tensor, preprocess: Preprocess) -> Tensor:
        """Return the network's input [B, 3, H, W] float32 on the store's device."""
        ...

    def close(self) -> None:
        """End the store's threads, if it has any."""
        ...


class DevicePixels:
    """Pixels in the memory of a GPU, where batches are cut too: ``pixels`` uint8 [m, h, w, 3]."""

    ahead = False

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        images, height, width, channels = pixels.shape
        self.shape: Shape = (images, height, width, channels)
        self.device = pixels.device

    def fetch(self, windows: Windows, preprocess: Preprocess) -> Tensor:
        height, width = preprocess.height, preprocess.width
        _, stored_height, stored_width, _ = self.shape
        rows = (windows.images * stored_height + windows.top)[:, None] + np.arange(height)
        starts = rows * stored_width + windows.left[:, None]
        # The overlapping view has a row for every pixel, the run of pixels from it on, so that one gather copies whole
        # rows of all crops: 3 to 30 times faster than indexing single pixels.
        flat = self.pixels.view(-1)
        runs = flat.as_strided((len(flat) // 3 - width + 1, 3 * width), (3, 1))
        picked = runs.index_select(0, sent(starts.ravel(), self.device))
        batch = picked.view(*starts.shape, width, 3)
        mirrored = sent(windows.mirrored, self.device)
        return torch.where(mirrored[:, None, None, None], batch.flip(2), batch)

    def finish(self, fetched: Tensor, preprocess: Preprocess) -> Tensor:
        return normalise(fetched, preprocess)

    def close(self) -> None:
        pass


class HostPixels:
    """Pixels in the machine's memory, or mapped into it: ``pixels`` uint8 [m, h, w, 3].

    For a network on the CPU batches are made in one pass; for one on a GPU they are cut into pinned memory, from where
    they are copied while the GPU works.
    """

    def __init__(self, pixels: PixelArray, device: torch.device, *, ahead: bool) -> None:
        self.pixels = pixels
        self.shape: Shape = pixels.shape
        self.device = device
        self.ahead = ahead
        self._buffers = Buffers()

    def fetch(self, windows: Windows, preprocess: Preprocess) -> Tensor:
        if len(windows.images) and not 0 <= windows.images.min() <= windows.images.max() < self.shape[0]:
            raise IndexError(f"there are images 0..{self.shape[0] - 1}, asked for {windows.images.tolist()}")
        if isinstance(self.pixels, np.memmap):
            _read_ahead(self.pixels, windows.images)
        return _cut(np.asarray(self.pixels), windows, preprocess, self.device, self._buffers)

    def finish(self, fetched: Tensor, preprocess: Preprocess) -> Tensor:
        return _finish(fetched, preprocess, self.device)

    def close(self) -> None:
        pass


class StreamedPixels:
    """No pixels at all: the images of a batch are decoded for it, in ``threads`` threads."""

    ahead = True

    def __init__(self, samples: Samples, height: int, width: int, device: torch.device, threads: int) -> None:
        self.samples = samples
        self.shape: Shape = (len(samples.images), height, width, 3)
        self.device = device
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._buffers = Buffers()

    def fetch(self, windows: Windows, preprocess: Preprocess) -> Tensor:
        images, places = np.unique(windows.images, return_inverse=True)
        pixels = np.empty((len(images), *self.shape[1:]), dtype=np.uint8)

        def decode(first: int) -> None:
            part = slice(first, first + STREAMED)
            decode_images(self.samples, images[part], pixels[part])

        for _ in self._pool.map(decode, range(0, len(images), STREAMED)):
            pass
        there = Windows(places.reshape(-1), windows.top, windows.left, windows.mirrored)
        return _cut(pixels, there, preprocess, self.device, self._buffers)

    def finish(self, fetched: Tensor, preprocess: Preprocess) -> Tensor:
        return _finish(fetched, preprocess, self.device)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class Buffers:
    """Memory for batches that is used again: as soon as nothing holds a batch any more, its memory is lent anew.

    The first touch of fresh memory costs more than all the work on a batch.
    """

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()
        self._free: list[Float32Array] = []

    def lend(self, shape: tuple[int, ...]) -> Float32Array:
        """Return an array float32 of ``shape``, holding anything, that is nobody else's as long as it lives."""
        if shape != self._shape:
            self._shape, self._free = shape, []
        # torch's own memory is aligned as its arithmetic likes it.
        kept: Float32Array = self._free.pop() if self._free else torch.empty(shape).numpy()
        lent = kept.view()
        # A tensor, its views and the gradients that need it hold the array that it was made from.
        weakref.finalize(lent, self._free.append, kept).atexit = False
        return lent


def _cut(
    pixels: PixelArray, windows: Windows, preprocess: Preprocess, device: torch.device, buffers: Buffers
) -> Tensor:
    """Return the network's input for the CPU, else the pixels of the batch [B, H, W, 3] in pinned memory."""
    size, count = (preprocess.height, preprocess.width), len(windows.images)
    places = (windows.images, windows.top, windows.left, windows.mirrored)
    if device.type == "cpu":
        out = buffers.lend((count, 3, *size))
        crop_values(pixels, *places, levels(preprocess), out)
        return torch.from_numpy(out)
    on_gpu = device.type == "cuda" and torch.cuda.is_available()
    # Another thread than the first has its own present GPU, and pinning would otherwise wake number 0 in each process.
    with torch.cuda.device(device) if on_gpu else nullcontext():
        batch = torch.empty((count, *size, 3), dtype=torch.uint8, pin_memory=on_gpu)
    crop(pixels, *places, batch.numpy())
    return batch


def _finish(fetched: Tensor, preprocess: Preprocess, device: torch.device) -> Tensor:
    if device.type == "cpu":
        return fetched
    return normalise(fetched.to(device, non_blocking=True), preprocess)


def _read_ahead(mapped: np.memmap[Shape, np.dtype[np.uint8]], images: IntArray) -> None:
    """Ask for the pages of ``images`` at once, so that a disk reads them side by side and not one after the other."""
    opened: mmap = mapped._mmap  # type: ignore[attr-defined]
    size = int(np.prod(mapped.shape[1:]))
    # The mapping begins at the page in which the array does.
    begin = mapped.offset % PAGESIZE
    for image in images.tolist():
        first = begin + image * size
        page = first // PAGESIZE * PAGESIZE
        opened.madvise(MADV_WILLNEED, page, first + size - page)
