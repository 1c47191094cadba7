"""The camera's effect on linear light: blur, colour, tone, uneven illumination and noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidbench import compiled
from reidbench_datasets.synthetic.background import mixed


class Sensor(NamedTuple):
    """The sensor of a camera.

    ``matrix``: colour matrix on linear RGB [3, 3].
    ``tone``: tone table of linear 0..1.
    ``noise``: standard deviation in grey levels.
    """

    matrix: NDArray[np.float64]
    tone: NDArray[np.float64]
    noise: float


@compiled
def soften(image: NDArray, weight: float, other: NDArray) -> None:
    """Blur ``image`` in place with (w, 1 - 2 w, w) along both axes; ``other`` is scratch space of the same shape."""
    rows, columns, _ = image.shape
    for row in range(rows):
        for column in range(columns):
            before, after = max(column - 1, 0), min(column + 1, columns - 1)
            for channel in range(3):
                other[row, column, channel] = (1.0 - 2.0 * weight) * image[row, column, channel] + weight * (
                    image[row, before, channel] + image[row, after, channel]
                )
    for row in range(rows):
        before, after = max(row - 1, 0), min(row + 1, rows - 1)
        for column in range(columns):
            for channel in range(3):
                image[row, column, channel] = (1.0 - 2.0 * weight) * other[row, column, channel] + weight * (
                    other[before, column, channel] + other[after, column, channel]
                )


@compiled
def develop(image: NDArray, sensor: Sensor, slope_x: float, slope_y: float, key: np.uint64) -> NDArray:
    """Return the sensor's image of linear light [H, W, 3]: colour matrix, tone table, noise, uint8.

    ``slope_x`` and ``slope_y`` are the gradients of the illumination; noise is the sum of four uniform 16-bit numbers.
    """
    matrix, tone, noise = sensor
    rows, columns, _ = image.shape
    pixels = np.empty((rows, columns, 3), dtype=np.uint8)
    tones = len(tone) - 1
    # Four uniform numbers of 0..65535 have a sum with mean 131070 and variance 4 * 65536^2 / 12.
    spread = noise * 1.7320508075688772 / 65536.0
    counter = key
    for row in range(rows):
        for column in range(columns):
            light = 1.0 + slope_x * ((column + 0.5) / columns - 0.5) + slope_y * ((row + 0.5) / rows - 0.5)
            r, g, b = image[row, column, 0] * light, image[row, column, 1] * light, image[row, column, 2] * light
            for channel in range(3):
                value = matrix[channel, 0] * r + matrix[channel, 1] * g + matrix[channel, 2] * b
                grey = tone[int(min(max(value, 0.0), 1.0) * tones + 0.5)]
                counter += np.uint64(0x9E3779B97F4A7C15)
                bits = mixed(counter)
                total = (
                    (bits & np.uint64(65535))
                    + ((bits >> np.uint64(16)) & np.uint64(65535))
                    + ((bits >> np.uint64(32)) & np.uint64(65535))
                    + (bits >> np.uint64(48))
                )
                grey += spread * (float(np.int64(total)) - 131070.0)
                pixels[row, column, channel] = np.uint8(int(min(max(grey, 0.0), 255.0) + 0.5))
    return pixels
