"""Cameras and shots: where a camera stands, what light falls, and what it does to pixels, drawn from its own stream."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidbench_datasets.synthetic import background
from reidbench_datasets.synthetic.draws import Draws
from reidbench_datasets.synthetic.outfits import Difficulty

TONES = 1024

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera.

    ``elevation`` is how steeply it looks down and ``direction`` how people usually face it (0: towards it), in turns.
    ``light`` [3] points to the lamp in view coordinates; ``lamp`` [3] and ``sky`` [3] are linear RGB. ``matrix``
    [3, 3] mixes linear RGB, gain included; ``tone`` [1024] is what linear 0..1 becomes on the 0..255 scale. ``blur``
    is the weight of the farther pixels, ``noise`` a standard deviation in grey levels, ``quality`` JPEG's.
    """

    elevation: float
    direction: float
    light: FloatArray
    lamp: FloatArray
    sky: FloatArray
    matrix: FloatArray
    tone: FloatArray
    blur: float
    noise: float
    quality: int
    street: FloatArray
    top: float


def tone_curve(sixteenths: int, lift: float) -> FloatArray:
    """Return a tone table [1024]: 255 * (lift + (1 - lift) * x^(sixteenths / 16)), by repeated square roots."""
    x = np.arange(TONES, dtype=np.float64) / (TONES - 1)
    root = np.sqrt(np.sqrt(np.sqrt(np.sqrt(x))))
    curve = np.ones(TONES)
    for _ in range(sixteenths):
        curve = curve * root
    return 255.0 * (lift + (1.0 - lift) * curve)


def unit(x: float, y: float, z: float) -> FloatArray:
    """Return the vector (x, y, z) at length 1."""
    length = math.sqrt(x * x + y * y + z * z)
    return np.array([x / length, y / length, z / length])


def _tint(draws: Draws, low: float, high: float, spread: float) -> FloatArray:
    level = draws.uniform(low, high)
    return np.array([level * (1.0 + draws.uniform(-spread, spread)) for _ in range(3)])


def _street(draws: Draws) -> FloatArray:
    doors = np.empty((9, 8))
    for door in doors:
        left = draws.integer(background.WIDTH - 60)
        wide, top = 16 + draws.integer(44), 10 + draws.integer(50)
        glass = draws.chance(0.5)
        bottom = background.HORIZON - (14 + draws.integer(16) if glass else 0)
        door[:4] = (left, left + wide, top, bottom)
        door[4:7] = _tint(draws, 0.02, 0.3, 0.7)
        door[7] = 1.0 if glass else 0.0
    plants = np.array([draws.uniform(0.02, 0.1), draws.uniform(0.08, 0.2), draws.uniform(0.01, 0.06)])
    return background.paint_street(
        np.uint64(draws.raw()),
        background.Paints(_tint(draws, 0.06, 0.45, 0.35), _tint(draws, 0.08, 0.4, 0.2), plants),
        doors,
        draws.uniform(5.0, 16.0),
        draws.uniform(6.0, 18.0),
    )


def draw_camera(seed: int, difficulty: Difficulty, number: int) -> Camera:
    """Return camera ``number``, a function of these three alone."""
    draws = Draws(seed, "camera", number)
    shift = difficulty.shift
    elevation = draws.uniform(0.01, 0.075)
    matrix = np.empty((3, 3))
    gain = 1.0 + shift * draws.uniform(-0.38, 0.5)
    mixing = shift * draws.uniform(0.04, 0.16)
    for channel in range(3):
        balance = gain * (1.0 + shift * draws.uniform(-0.24, 0.24))
        for other in range(3):
            matrix[channel, other] = balance * (1.0 - 2.0 * mixing if channel == other else mixing)
    sun = draws.uniform(0.25, 0.9)
    return Camera(
        elevation=elevation,
        direction=draws.uniform(),
        light=unit(draws.uniform(-1.0, 1.0), draws.uniform(0.2, 1.0), draws.uniform(0.2, 1.0)),
        lamp=sun * _tint(draws, 0.95, 1.05, 0.12 * shift),
        sky=(1.0 - 0.75 * sun) * _tint(draws, 0.8, 1.0, 0.12 * shift),
        matrix=matrix,
        tone=tone_curve(6 + draws.integer(5), 0.07 * shift * draws.uniform()),
        blur=draws.uniform(0.0, 0.3 + 0.15 * shift),
        noise=draws.uniform(1.0, 3.0 + 4.0 * shift),
        quality=70 + draws.integer(25),
        street=_street(draws),
        # The steeper a camera looks down, the more ground it sees behind people.
        top=draws.uniform(2.0, 12.0) + 350.0 * elevation,
    )
