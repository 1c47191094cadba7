"""Antialiased bilinear resize in compiled loops, which hold no global lock: threads that decode run in parallel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reidbench.utils.arrays import Float32Array, IntArray, PixelArray
from reidbench.utils.compiled import compiled


@compiled
def _filter_taps(size: int, new_size: int) -> tuple[IntArray, IntArray, Float32Array]:
    """Return the pixels of an axis of ``size`` that each of ``new_size`` output pixels averages, and their weights.

    The first pixel int64 [new_size], the number of pixels int64 [new_size], the weights float32 [new_size, most].
    The filter is a triangle with a half-width of one output pixel, and of at least one input pixel.
    """
    scale = size / new_size
    reach = max(scale, 1.0)
    first = np.empty(new_size, dtype=np.int64)
    count = np.empty(new_size, dtype=np.int64)
    weights = np.zeros((new_size, 2 * int(np.ceil(reach)) + 1), dtype=np.float32)
    for place in range(new_size):
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
def _resize_height(source: NDArray[np.generic], out: Float32Array) -> None:
    """Resize [h, n] to [H, n]: each column by itself."""
    first, count, weights = _filter_taps(len(source), len(out))
    for place in range(len(out)):
        row = out[place]
        for column in range(len(row)):
            row[column] = 0
        for tap in range(count[place]):
            weight = weights[place, tap]
            other = source[first[place] + tap]
            for column in range(len(row)):
                row[column] += weight * np.float32(other[column])


@compiled
def _resize_width(source: NDArray[np.generic], out: Float32Array) -> None:
    """Resize rows of RGB pixels [h, 3 w] to [h, 3 W]."""
    first, count, weights = _filter_taps(source.shape[1] // 3, out.shape[1] // 3)
    for y in range(len(out)):
        row, target = source[y], out[y]
        for place in range(len(first)):
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            for tap in range(count[place]):
                weight = weights[place, tap]
                pixel = 3 * (first[place] + tap)
                red += weight * np.float32(row[pixel])
                green += weight * np.float32(row[pixel + 1])
                blue += weight * np.float32(row[pixel + 2])
            target[3 * place] = red
            target[3 * place + 1] = green
            target[3 * place + 2] = blue


@compiled
def _resize(image: PixelArray, out: PixelArray) -> None:
    """Resize [h, 3 w] to [H, 3 W]; the slower pass, over the width, gets the smaller number of rows."""
    unrounded = np.empty(out.shape, dtype=np.float32)
    if len(out) < len(image):
        between = np.empty((len(out), image.shape[1]), dtype=np.float32)
        _resize_height(image, between)
        _resize_width(between, unrounded)
    else:
        between = np.empty((len(image), out.shape[1]), dtype=np.float32)
        _resize_width(image, between)
        _resize_height(between, unrounded)
    for y in range(len(out)):
        row, target = unrounded[y], out[y]
        for place in range(len(row)):
            target[place] = np.uint8(row[place] + np.float32(0.5))


def resize_image(image: PixelArray, out: PixelArray) -> None:
    """Resize ``image`` [h, w, 3] into the contiguous ``out`` [H, W, 3].

    Bilinear with antialias. Every value is the exact one, computed to within 10⁻⁴ and rounded once. Pillow also rounds
    between its two passes, by at most half a grey level, so the two never differ by more than one grey level.
    """
    # Numba takes seconds to compile anything on three dimensions, and as long again for a read-only array.
    rows = np.require(image, requirements=["C", "W"]).reshape(len(image), -1)
    _resize(rows, out.reshape(len(out), -1))
