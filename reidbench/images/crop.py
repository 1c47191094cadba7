"""Crop stored pixels, change them, and normalise them into the network's input.

Cropping copies whole bytes and changes are integer arithmetic; normalisation runs on the batch's device. So the same
crops give the same batch bit for bit whether they are normalised as a tensor or through the table of grey levels that
the same function computed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from reidbench.images.augment import BITS, GREY, Changes, Crops
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.arrays import Float32Array, PixelArray
from reidbench.utils.compiled import compiled
from reidbench.utils.device import to_device


def normalise(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Return uint8 [B, H, W, 3] as the network's input: float32 [B, 3, H, W], (x / 255 - mean) / std per channel."""
    scale, shift = _scale_and_shift(preprocess, pixels.device)
    images = torch.empty((len(pixels), 3, *pixels.shape[1:3]), device=pixels.device)
    return images.copy_(pixels.permute(0, 3, 1, 2)).mul_(scale).sub_(shift)


@lru_cache
def _scale_and_shift(preprocess: Preprocess, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return 1 / (255 std) and mean / std, each [1, 3, 1, 1]; cached, because sending them to a GPU waits for it."""
    with torch.inference_mode(False):
        mean = torch.tensor(preprocess.mean, device=device).view(1, 3, 1, 1)
        std = torch.tensor(preprocess.std, device=device).view(1, 3, 1, 1)
        return 1 / (255 * std), mean / std


@lru_cache
def normalised_levels(preprocess: Preprocess) -> Float32Array:
    """Return the normalised value of each grey level of each channel on the CPU: float32 [3, 256]."""
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 256, 1).expand(1, 1, 256, 3)
    table: Float32Array = normalise(grey, preprocess)[0, :, 0].contiguous().numpy()
    return table


@compiled
def crop_pixels(pixels: PixelArray, crops: Crops, out: PixelArray) -> None:
    """Write the H x W crops of ``pixels`` [m, h, w, 3] to ``out`` [B, H, W, 3], zeros where they leave the image."""
    images, top, left, flipped = crops
    height, width = out.shape[1:3]
    for place in range(len(images)):
        source = pixels[images[place]]
        for y in range(height):
            row = top[place] + y
            target = out[place, y]
            for x in range(width):
                column = left[place] + (width - 1 - x if flipped[place] else x)
                inside = 0 <= row < source.shape[0] and 0 <= column < source.shape[1]
                for channel in range(3):
                    target[x, channel] = source[row, column, channel] if inside else 0


@compiled
def crop_normalised(pixels: PixelArray, crops: Crops, levels: Float32Array, out: Float32Array) -> None:
    """Write crops as ``crop_pixels`` to ``out`` [B, 3, H, W], each grey level replaced by its value in ``levels``.

    ``levels`` [3, 256] is the table of ``normalised_levels``.
    """
    images, top, left, flipped = crops
    height, width = out.shape[2:]
    for place in range(len(images)):
        for y in range(height):
            source = pixels[images[place], top[place] + y, left[place] : left[place] + width]
            for channel in range(3):
                target = out[place, channel, y]
                level = levels[channel]
                if flipped[place]:
                    for x in range(width):
                        target[x] = level[source[width - 1 - x, channel]]
                else:
                    for x in range(width):
                        target[x] = level[source[x, channel]]


def with_changes(batch: Tensor, changes: Changes | None) -> Tensor:
    """Return the crops ``batch`` uint8 [B, H, W, 3], changed in place: colours, limited to 0..255 once, then boxes.

    Integer arithmetic, element by element, so that a CPU and a GPU give the same bytes.
    """
    if changes is None:
        return batch
    matrices, greys, boxes, fill = (to_device(array, batch.device) for array in changes)
    _, height, width, _ = batch.shape
    planes = batch.permute(3, 0, 1, 2).contiguous().int()
    red, green, blue = planes.sum(dim=(2, 3))
    grey = GREY[0] * red + GREY[1] * green + GREY[2] * blue
    offset = (greys * grey).div(256 * height * width, rounding_mode="floor").int()[:, None, None] + (1 << BITS >> 1)
    rows, columns = torch.arange(height, device=batch.device)[:, None], torch.arange(width, device=batch.device)
    top, left, bottom, right = boxes.T[:, :, None, None]
    erased = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    for channel in range(3):
        products = (planes[source] * matrices[:, channel, source, None, None] for source in range(3))
        colours = (sum(products, offset) >> BITS).clamp(0, 255)
        batch[..., channel] = torch.where(erased, fill[channel], colours)
    return batch


def gather_crops(pixels: Tensor, crops: Crops, height: int, width: int) -> Tensor:
    """Return the crops [B, height, width, 3] uint8 of ``pixels`` [m, h, w, 3], cut on the pixels' own device.

    They are zeros where they leave the image.
    """
    _, stored_height, stored_width, _ = pixels.shape
    overhangs = [-crops.top, -crops.left, crops.top + height - stored_height, crops.left + width - stored_width]
    pad = int(np.max(overhangs, initial=0))
    if pad:
        padded = nn.functional.pad(pixels[to_device(crops.images, pixels.device)], (0, 0, pad, pad, pad, pad))
        within = Crops(np.arange(len(padded)), crops.top + pad, crops.left + pad, crops.flipped)
        return gather_crops(padded, within, height, width)
    rows = (crops.images * stored_height + crops.top)[:, None] + np.arange(height)
    starts = rows * stored_width + crops.left[:, None]
    # The overlapping view has one row per stored pixel: the ``width`` pixels from it on. One gather then copies whole
    # rows of all crops, 3 to 30 times faster than indexing single pixels.
    flat = pixels.view(-1)
    runs = flat.as_strided((len(flat) // 3 - width + 1, 3 * width), (3, 1))
    batch = runs.index_select(0, to_device(starts.ravel(), pixels.device)).view(*starts.shape, width, 3)
    flipped = to_device(crops.flipped, pixels.device)
    return torch.where(flipped[:, None, None, None], batch.flip(2), batch)
