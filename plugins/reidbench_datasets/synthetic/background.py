"""The background: one wide painted street for each camera, of which every image shows a part."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidbench import compiled

HEIGHT, WIDTH = 176, 640
HORIZON = 96  # the row where wall and ground meet


class Paints(NamedTuple):
    """Linear RGB [3] of wall, ground and plants."""

    wall: NDArray[np.float64]
    ground: NDArray[np.float64]
    plants: NDArray[np.float64]


@compiled
def mixed(x: np.uint64) -> np.uint64:
    """Return 64 bits that each depend on all bits of x (the finisher of splitmix64: integer arithmetic only)."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def hashed(key: np.uint64, row: int, column: int) -> float:
    """Return a number in [0, 1) that depends on the key and the position."""
    place = np.uint64(row + 65536) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(column + 65536) * np.uint64(
        0xC2B2AE3D27D4EB4F
    )
    return float(np.int64(mixed(key ^ place) >> np.uint64(40))) / 16777216.0


@compiled
def blotches(key: np.uint64, y: float, x: float) -> float:
    """Return smooth noise in [0, 1) with a grain of 1: hashed lattice values, blended by a cubic."""
    row, column = math.floor(y), math.floor(x)
    v, u = y - row, x - column
    v = v * v * (3.0 - 2.0 * v)
    u = u * u * (3.0 - 2.0 * u)
    r, c = int(row), int(column)
    above = hashed(key, r, c) * (1.0 - u) + hashed(key, r, c + 1) * u
    below = hashed(key, r + 1, c) * (1.0 - u) + hashed(key, r + 1, c + 1) * u
    return above * (1.0 - v) + below * v


@compiled
def paint_street(key: np.uint64, paints: Paints, doors: NDArray, bricks: float, tiles: float) -> NDArray:
    """Return a street [176, 640, 3], linear RGB float64.

    ``doors`` [n, 8] are left, right, top, bottom, linear RGB, and 1 where it is glass; ``bricks`` and ``tiles`` are
    sizes in pixels.
    """
    street = np.empty((HEIGHT, WIDTH, 3))
    for row in range(HEIGHT):
        for column in range(WIDTH):
            grain = 0.75 + 0.35 * blotches(key, row / 2.0, column / 2.0)
            patch = 0.7 + 0.6 * blotches(key + np.uint64(1), row / 17.0, column / 23.0)
            light = grain * patch
            if row < HORIZON:
                course = math.floor(row / bricks)
                joint = (row - course * bricks < 1.0) or (
                    (column + 1.1 * bricks * (course % 2.0)) % (2.2 * bricks) < 1.0
                )
                light *= 0.72 if joint else 0.9 + 0.25 * hashed(key, int(course), int(column / (2.2 * bricks)))
                colour = paints.wall
                for door in range(len(doors)):
                    left, right, top, bottom = doors[door, 0], doors[door, 1], doors[door, 2], doors[door, 3]
                    if left <= column < right and top <= row < bottom:
                        colour = doors[door, 4:7]
                        edge = min(column - left, right - 1 - column, row - top, bottom - 1 - row)
                        light = patch * (0.45 if edge < 2 else 1.0)
                        if doors[door, 7] > 0.0:
                            light *= 0.6 + 0.8 * blotches(
                                key + np.uint64(3), (row + column) / 9.0, (column - row) / 9.0
                            )
                leaves = blotches(key + np.uint64(5), row / 30.0, column / 42.0)
                if leaves + 0.35 * row / HORIZON > 0.95:
                    colour = paints.plants
                    light = 0.35 + 1.3 * blotches(key + np.uint64(7), row / 2.5, column / 2.5)
            else:
                # Tiles shrink towards the wall as 1 / distance: a plane seen from above.
                depth = 40.0 / (row - HORIZON + 14.0)
                across = (column - 0.5 * WIDTH) * depth / tiles
                along = 234.0 * depth / tiles
                tile_row, tile_column = math.floor(along), math.floor(across)
                if across - tile_column < 0.05 or along - tile_row < 0.09:
                    light *= 0.8
                light *= 0.92 + 0.16 * hashed(key + np.uint64(9), tile_row, tile_column)
                if row < HORIZON + 5:
                    light *= 0.6
                colour = paints.ground
            for channel in range(3):
                street[row, column, channel] = colour[channel] * light
    return street


@compiled
def look(street: NDArray, top: float, left: float, step: float, image: NDArray) -> None:
    """Fill ``image`` [H, W, 3] with the street from (top, left), ``step`` of its pixels apart, bilinear."""
    for row in range(image.shape[0]):
        y = min(max(top + step * row, 0.0), HEIGHT - 1.001)
        r = int(y)
        v = y - r
        for column in range(image.shape[1]):
            x = min(max(left + step * column, 0.0), WIDTH - 1.001)
            c = int(x)
            u = x - c
            for channel in range(3):
                upper = street[r, c, channel] * (1.0 - u) + street[r, c + 1, channel] * u
                lower = street[r + 1, c, channel] * (1.0 - u) + street[r + 1, c + 1, channel] * u
                image[row, column, channel] = upper * (1.0 - v) + lower * v
