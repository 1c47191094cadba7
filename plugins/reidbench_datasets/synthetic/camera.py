"""Cameras: position, light and effect on pixels, sampled from a random stream for each camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidbench_datasets.synthetic import background
from reidbench_datasets.synthetic.outfits import Difficulty
from reidbench_datasets.synthetic.random_numbers import RandomNumbers

TONES = 1024

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera.

    ``elevation``: the angle at which it looks down, in turns.
    ``direction``: the usual heading of people in its view, in turns; 0 is towards it.
    ``light``: vector to the lamp in view coordinates [3].
    ``lamp``, ``sky``: linear RGB [3].
    ``matrix``: mixes linear RGB, with gain [3, 3].
    ``tone``: table from linear 0..1 to 0..255 [1024].
    ``blur``: weight of the neighbouring pixels.
    ``noise``: standard deviation in grey levels.
    ``quality``: JPEG's quality.
    ``street``: the background, linear RGB [176, 640, 3].
    ``top``: row of the background at the top of an image.
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


def _tint(rng: RandomNumbers, low: float, high: float, spread: float) -> FloatArray:
    level = rng.uniform(low, high)
    return np.array([level * (1.0 + rng.uniform(-spread, spread)) for _ in range(3)])


def _street(rng: RandomNumbers) -> FloatArray:
    doors = np.empty((9, 8))
    for door in doors:
        left = rng.integer(background.WIDTH - 60)
        wide, top = 16 + rng.integer(44), 10 + rng.integer(50)
        glass = rng.chance(0.5)
        bottom = background.HORIZON - (14 + rng.integer(16) if glass else 0)
        door[:4] = (left, left + wide, top, bottom)
        door[4:7] = _tint(rng, 0.02, 0.3, 0.7)
        door[7] = 1.0 if glass else 0.0
    plants = np.array([rng.uniform(0.02, 0.1), rng.uniform(0.08, 0.2), rng.uniform(0.01, 0.06)])
    return background.paint_street(
        np.uint64(rng.raw()),
        background.Paints(_tint(rng, 0.06, 0.45, 0.35), _tint(rng, 0.08, 0.4, 0.2), plants),
        doors,
        rng.uniform(5.0, 16.0),
        rng.uniform(6.0, 18.0),
    )


def sample_camera(seed: int, difficulty: Difficulty, number: int) -> Camera:
    """Return camera ``number``; it depends only on the three arguments."""
    rng = RandomNumbers(seed, "camera", number)
    shift = difficulty.shift
    elevation = rng.uniform(0.01, 0.075)
    matrix = np.empty((3, 3))
    gain = 1.0 + shift * rng.uniform(-0.38, 0.5)
    mixing = shift * rng.uniform(0.04, 0.16)
    for channel in range(3):
        balance = gain * (1.0 + shift * rng.uniform(-0.24, 0.24))
        for other in range(3):
            matrix[channel, other] = balance * (1.0 - 2.0 * mixing if channel == other else mixing)
    sun = rng.uniform(0.25, 0.9)
    return Camera(
        elevation=elevation,
        direction=rng.uniform(),
        light=unit(rng.uniform(-1.0, 1.0), rng.uniform(0.2, 1.0), rng.uniform(0.2, 1.0)),
        lamp=sun * _tint(rng, 0.95, 1.05, 0.12 * shift),
        sky=(1.0 - 0.75 * sun) * _tint(rng, 0.8, 1.0, 0.12 * shift),
        matrix=matrix,
        tone=tone_curve(6 + rng.integer(5), 0.07 * shift * rng.uniform()),
        blur=rng.uniform(0.0, 0.3 + 0.15 * shift),
        noise=rng.uniform(1.0, 3.0 + 4.0 * shift),
        quality=70 + rng.integer(25),
        street=_street(rng),
        # The more steeply a camera looks down, the more ground is behind people.
        top=rng.uniform(2.0, 12.0) + 350.0 * elevation,
    )
