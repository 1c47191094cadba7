"""Cloth: the colour of a person's surface at a point of the body's own frame.

A *layer* is a row of numbers (its columns are named below): two colours and a pattern, a mark on chest and back, and
straps. x points to the person's left, y along the part (up on trunk and head, down on limbs), z to the front, in
metres. Because patterns are functions of these alone, they turn with the person.
"""

from __future__ import annotations

import math

from numpy.typing import NDArray

from reidbench import compiled

PLAIN, HOOPS, STRIPES, CHECKS, BLOCK, BAND, HALVES, DOTS, OPEN, SEAM, PATCH, FACE = range(12)
NO_MARK, DISC, SQUARE, BAR, DIAMOND, CROSS, RING = range(7)
NO_STRAP, DIAGONAL_STRAP, PAIR_OF_STRAPS = range(3)

PATTERN, PERIOD, LEVEL, FRONT_MARK, BACK_MARK, MARK_X, MARK_Y, MARK_SIZE, STRAP = range(9)
FIRST, SECOND, MARK_COLOUR, STRAP_COLOUR = 9, 12, 15, 18
LAYER_COLUMNS = 21


@compiled
def fraction(value: float) -> float:
    """Return value - floor(value), in [0, 1)."""
    return value - math.floor(value)


@compiled
def around(x: float, z: float) -> float:
    """Return the position of a point around its part: a pseudo-angle, 0 at the front, +-0.5 behind."""
    total = abs(x) + abs(z)
    if total < 1e-9:
        return 0.0
    side = 0.25 * (1.0 - z / total)
    return side if x >= 0.0 else -side


@compiled
def in_mark(kind: int, x: float, y: float) -> bool:
    """Return whether a point, in units of the mark's half size, lies on a mark of this kind."""
    if kind == DISC:
        return x * x + y * y < 1.0
    if kind == SQUARE:
        return max(abs(x), abs(y)) < 0.9
    if kind == BAR:
        return abs(x) < 1.5 and abs(y) < 0.5
    if kind == DIAMOND:
        return abs(x) + abs(y) < 1.2
    if kind == CROSS:
        return min(abs(x), abs(y)) < 0.35 and max(abs(x), abs(y)) < 1.15
    if kind == RING:
        return 0.35 < x * x + y * y < 1.25
    return False


@compiled
def on_second(layer: NDArray, x: float, y: float, z: float) -> bool:
    """Return whether the layer's pattern shows its second colour at a point."""
    pattern = int(layer[PATTERN])
    period = layer[PERIOD]
    level = layer[LEVEL]
    if pattern == HOOPS:
        return fraction(y / period) < 0.5
    if pattern == STRIPES:
        return fraction(around(x, z) / period + 0.25) < 0.5
    if pattern == CHECKS:
        return (fraction(y / period) < 0.5) != (fraction(around(x, z) / period + 0.25) < 0.5)
    if pattern == BLOCK:
        return y > level
    if pattern == BAND:
        return abs(y - level) < 0.5 * period
    if pattern == HALVES:
        return x > 0.0
    if pattern == DOTS:
        across = fraction(around(x, z) / period) - 0.5
        along = fraction(y / period) - 0.5
        return across * across + along * along < 0.09
    if pattern == OPEN:
        return z > 0.0 and abs(x) < period * (1.15 - y)
    if pattern == SEAM:
        return abs(z) < period and x * level > 0.0
    if pattern == PATCH:
        return z > 0.0 and abs(y - level) < period
    return False


@compiled
def face(layer: NDArray, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Return the colour of a head: skin with eyes and mouth in front, hair above the hairline and behind."""
    hairline = 0.205 - 0.35 * max(0.0, 0.02 - z) - layer[LEVEL]
    if y > hairline or z < -0.02 - layer[LEVEL]:
        return layer[SECOND], layer[SECOND + 1], layer[SECOND + 2]
    shade = 1.0
    if z > 0.03 and abs(y - 0.162) < 0.011 and abs(abs(x) - 0.032) < 0.015:
        shade = 0.25
    elif z > 0.03 and abs(y - 0.098) < 0.008 and abs(x) < 0.028:
        shade = 0.55
    return layer[FIRST] * shade, layer[FIRST + 1] * shade, layer[FIRST + 2] * shade


@compiled
def paint(layer: NDArray, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Return the linear RGB albedo of a layer at a point of the garment's frame."""
    if layer[PATTERN] == FACE:
        return face(layer, x, y, z)
    strap = int(layer[STRAP])
    if (strap == DIAGONAL_STRAP and abs(1.2 * x - y + 0.2) < 0.042) or (
        strap == PAIR_OF_STRAPS and z > -0.02 and y > 0.10 and abs(abs(x) - 0.105) < 0.023
    ):
        return layer[STRAP_COLOUR], layer[STRAP_COLOUR + 1], layer[STRAP_COLOUR + 2]
    mark = int(layer[FRONT_MARK]) if z > 0.0 else int(layer[BACK_MARK])
    if mark != NO_MARK:
        # The back's mark is centred and larger; the front's has its own position.
        size = layer[MARK_SIZE] if z > 0.0 else 1.4 * layer[MARK_SIZE]
        centre = layer[MARK_X] if z > 0.0 else 0.0
        if in_mark(mark, (x - centre) / size, (y - layer[MARK_Y]) / size):
            return layer[MARK_COLOUR], layer[MARK_COLOUR + 1], layer[MARK_COLOUR + 2]
    if on_second(layer, x, y, z):
        return layer[SECOND], layer[SECOND + 1], layer[SECOND + 2]
    return layer[FIRST], layer[FIRST + 1], layer[FIRST + 2]
