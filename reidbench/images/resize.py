"""Compiled loops over pixels: stretching an image, and cutting the images of a batch out of many.

They hold no global lock, so that threads that decode or prefetch run beside each other and beside the network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reidbench.utils.arrays import Float32Array, IntArray, PixelArray
from reidbench.utils.compiled import compiled


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
def _stretch_down(source: NDArray[np.generic], out: Float32Array) -> None:
    """Stretch [h, n] to [H, n], the same way in every column."""
    first, count, weights = _taps(len(source), len(out))
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
def _stretch_across(source: NDArray[np.generic], out: Float32Array) -> None:
    """Stretch rows of pixels [h, 3 w] to [h, 3 W]."""
    first, count, weights = _taps(source.shape[1] // 3, out.shape[1] // 3)
    for y in range(len(out)):
        row, to = source[y], out[y]
        for place in range(len(first)):
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            for tap in range(count[place]):
                weight = weights[place, tap]
                pixel = 3 * (first[place] + tap)
                red += weight * np.float32(row[pixel])
                green += weight * np.float32(row[pixel + 1])
                blue += weight * np.float32(row[pixel + 2])
            to[3 * place] = red
            to[3 * place + 1] = green
            to[3 * place + 2] = blue


@compiled
def _stretch(image: PixelArray, out: PixelArray) -> None:
    """Stretch [h, 3 w] to [H, 3 W]; the slower pass, across, runs over as few rows as it can."""
    exact = np.empty(out.shape, dtype=np.float32)
    if len(out) < len(image):
        between = np.empty((len(out), image.shape[1]), dtype=np.float32)
        _stretch_down(image, between)
        _stretch_across(between, exact)
    else:
        between = np.empty((len(image), out.shape[1]), dtype=np.float32)
        _stretch_across(image, between)
        _stretch_down(between, exact)
    for y in range(len(out)):
        row, to = exact[y], out[y]
        for place in range(len(row)):
            to[place] = np.uint8(row[place] + np.float32(0.5))


@compiled
def _stretch_all(
    pixels: PixelArray, starts: IntArray, heights: IntArray, widths: IntArray, height: int, out: PixelArray
) -> None:
    """Stretch image i, the pixels [heights[i] * 3 widths[i]] from starts[i] on, to rows i * height... of ``out``."""
    for i in range(len(heights)):
        image = pixels[starts[i] : starts[i + 1]].reshape(heights[i], 3 * widths[i])
        to = out[i * height : (i + 1) * height]
        if image.shape == to.shape:
            to[:] = image
        else:
            _stretch(image, to)


def resize_all(images: Sequence[PixelArray], out: PixelArray) -> None:
    """Stretch ``images`` [h, w, 3], each of its own size, over ``out`` [len(images), H, W, 3], a contiguous array.

    Bilinear with antialias. Every value is the rounding of the exact one, or of one within 10⁻⁴ of it: between the two
    passes nothing is rounded. Pillow rounds there too, at most half a grey level, so it is never more than one grey
    level away.
    """
    heights, widths = (np.array([image.shape[axis] for image in images], dtype=np.int64) for axis in (0, 1))
    starts = np.concatenate(([0], np.cumsum(3 * heights * widths)))
    pixels = np.concatenate([image.reshape(-1) for image in images])
    # Plain rows of numbers: compiling anything on three dimensions takes numba seconds.
    _stretch_all(pixels, starts, heights, widths, out.shape[1], out.reshape(-1, 3 * out.shape[2]))
