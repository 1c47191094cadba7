"""Where decoded pixels lie, and how the images of a batch are cut out of them.

Whatever the store, the same windows give the same batch bit for bit: cutting moves whole bytes, and the arithmetic
after it is done on the batch's device, by ``normalise`` or by a table that it made.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.arrays import BoolArray, Float32Array, IntArray, PixelArray
from reidbench.utils.compiled import compiled


def normalise(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Return uint8 [B, H, W, 3] as the network's input: float32 [B, 3, H, W], (x / 255 - mean) / std per channel."""
    scale, shift = _scale_and_shift(preprocess, pixels.device)
    images = torch.empty((len(pixels), 3, *pixels.shape[1:3]), device=pixels.device)
    return images.copy_(pixels.permute(0, 3, 1, 2)).mul_(scale).sub_(shift)


@lru_cache
def _scale_and_shift(preprocess: Preprocess, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return 1 / (255 std) and mean / std [1, 3, 1, 1]; made once, since a GPU is waited for while they are sent."""
    with torch.inference_mode(False):
        mean = torch.tensor(preprocess.mean, device=device).view(1, 3, 1, 1)
        std = torch.tensor(preprocess.std, device=device).view(1, 3, 1, 1)
        return 1 / (255 * std), mean / std


@lru_cache
def levels(preprocess: Preprocess) -> Float32Array:
    """Return what ``normalise`` makes of each grey level of a channel on the CPU: float32 [3, 256]."""
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 256, 1).expand(1, 1, 256, 3)
    table: Float32Array = normalise(grey, preprocess)[0, :, 0].contiguous().numpy()
    return table


@compiled
def crop(
    pixels: PixelArray, images: IntArray, top: IntArray, left: IntArray, mirrored: BoolArray, out: PixelArray
) -> None:
    """Write the window of ``out``'s size [B, H, W, 3] at (top, left) of each of ``images`` [B], mirrored where asked.

    ``pixels`` [m, h, w, 3]; nothing is checked against its bounds.
    """
    height, width = out.shape[1:3]
    for place in range(len(images)):
        for y in range(height):
            row = pixels[images[place], top[place] + y, left[place] : left[place] + width]
            to = out[place, y]
            for x in range(width):
                source = width - 1 - x if mirrored[place] else x
                for channel in range(3):
                    to[x, channel] = row[source, channel]


@compiled
def crop_values(
    pixels: PixelArray,
    images: IntArray,
    top: IntArray,
    left: IntArray,
    mirrored: BoolArray,
    values: Float32Array,
    out: Float32Array,
) -> None:
    """As ``crop``, but write to ``out`` [B, 3, H, W] what ``values`` [3, 256] has for each grey level of a channel."""
    height, width = out.shape[2:]
    for place in range(len(images)):
        for y in range(height):
            row = pixels[images[place], top[place] + y, left[place] : left[place] + width]
            for channel in range(3):
                to = out[place, channel, y]
                level = values[channel]
                if mirrored[place]:
                    for x in range(width):
                        to[x] = level[row[width - 1 - x, channel]]
                else:
                    for x in range(width):
                        to[x] = level[row[x, channel]]
