"""Compiled loops over pixels: stretching an image, and cutting the images of a batch out of many.

They hold no global lock, so that threads that decode or prefetch run beside each other and beside the network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reidbench.compilation import compiled
from reidbench.values import IntArray

PixelArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
Float32Array = NDArray[np.float32]


@compiled
def _taps(size: int, wanted: int) -> tuple[IntArray, IntArray, Float32Array]:
    """Return for each of ``wanted`` places the first of ``size`` pixels that it mixes, their number and weights.

    The weights are a triangle as wide as a wanted pixel, and never narrower than one pixel of the source.
    """
    scale = size / wanted
    reach = max(scale, 1.0)
    first = np.empty(wanted, dtype=np.int64)
    count = np.empty(wanted, dtype=np.int64)
    weights = np.zeros((wanted, 2 * int(np.ceil(reach)) + 1), dtype=np.float32)
    for place in range(wanted):
        centre = (place + 0.5) * scale
        begin = max(int(centre - reach + 0.5), 0)
        end = min(int(centre + reach + 0.5), size)
        total = 0.0
        for pixel in range(begin, end):
            total += max(0.0, 1.0 - abs(pixel + 0.5 - centre) / reach)
        for pixel in range(begin, end):
            weights[place, pixel - begin] = max(0.0, 1.0 - abs(pixel + 0.5 - centre) / reach) / total
        first[place] = begin
        count[place] = end - begin
    return first, count, weights


@compiled
def _stretch_rows(source: NDArray[np.generic], out: Float32Array) -> None:
    """Stretch [h, n] to [H, n], column by column."""
    first, count, weights = _taps(len(source), len(out))
    for place in range(len(out)):
        row = out[place]
        row[:] = 0
        for tap in range(count[place]):
            weight = weights[place, tap]
            other = source[first[place] + tap]
            for column in range(len(row)):
                row[column] += weight * np.float32(other[column])


@compiled
def _stretch_columns(source: NDArray[np.generic], out: Float32Array) -> None:
    """Stretch [h, w, 3] to [h, W, 3]."""
    first, count, weights = _taps(source.shape[1], out.shape[1])
    for y in range(len(out)):
        row = source[y]
        for place in range(out.shape[1]):
            begin = first[place]
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            for tap in range(count[place]):
                weight = weights[place, tap]
                red += weight * np.float32(row[begin + tap, 0])
                green += weight * np.float32(row[begin + tap, 1])
                blue += weight * np.float32(row[begin + tap, 2])
            out[y, place, 0] = red
            out[y, place, 1] = green
            out[y, place, 2] = blue


@compiled
def resize(image: PixelArray, out: PixelArray) -> None:
    """Stretch ``image`` [h, w, 3] over ``out`` [H, W, 3], bilinear with antialias.

    Every value is the rounding of the exact one, or of one within 10⁻⁴ of it: between the two passes nothing is
    rounded. Pillow rounds there too, at most half a grey level, so it is never more than one grey level away.
    """
    height, width = image.shape[:2]
    tall, wide = out.shape[:2]
    if (height, width) == (tall, wide):
        out[:] = image
        return
    exact = np.empty((tall, wide, 3), dtype=np.float32)
    # The slower pass across a row runs over as few rows as it can.
    if tall < height:
        between = np.empty((tall, width, 3), dtype=np.float32)
        _stretch_rows(image.reshape(height, width * 3), between.reshape(tall, width * 3))
        _stretch_columns(between, exact)
    else:
        between = np.empty((height, wide, 3), dtype=np.float32)
        _stretch_columns(image, between)
        _stretch_rows(between.reshape(height, wide * 3), exact.reshape(tall, wide * 3))
    from_, to = exact.reshape(-1), out.reshape(-1)
    for place in range(len(to)):
        to[place] = np.uint8(from_[place] + np.float32(0.5))


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
            if mirrored[place]:
                for x in range(width):
                    for channel in range(3):
                        to[x, channel] = row[width - 1 - x, channel]
            else:
                to[:] = row


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
