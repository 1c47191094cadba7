"""One image: people, their position and the camera, sampled from the image's random stream, and the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidbench_datasets.synthetic import body, raster, sensor, wardrobe
from reidbench_datasets.synthetic.background import look
from reidbench_datasets.synthetic.camera import Camera
from reidbench_datasets.synthetic.outfits import Build, Difficulty
from reidbench_datasets.synthetic.random_numbers import RandomNumbers
from reidbench_datasets.synthetic.raster import FINE, HEIGHT, WIDTH, Light, Staged
from reidbench_datasets.synthetic.wardrobe import Figure

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Framing:
    """The position of the box.

    ``share``: the person's height as a share of the image's.
    ``across``, ``down``: offset of the person's centre, in pixels.
    """

    share: float
    across: float
    down: float


@dataclass(frozen=True, eq=False)
class Cast:
    """The people in an image.

    ``figure``: the person, or None.
    ``framing``: the position of the box.
    ``heading``: the direction of walking, in turns.
    ``passer``: the person who may occlude the other.
    """

    figure: Figure | None
    framing: Framing
    heading: float
    passer: Figure


def good_framing(rng: RandomNumbers) -> Framing:
    """Return the framing of a correct detection."""
    return Framing(rng.uniform(0.76, 1.02), rng.centred(8.0), rng.centred(8.0))


def bad_framing(rng: RandomNumbers) -> Framing:
    """Return the framing of a bad box: a part of a person, or a person mostly outside of it."""
    if rng.chance(0.6):
        return Framing(rng.uniform(1.6, 2.8), rng.uniform(-25.0, 25.0), rng.uniform(-80.0, 80.0))
    return Framing(
        rng.uniform(0.5, 0.9),
        rng.choice((-1.0, 1.0)) * rng.uniform(24.0, 34.0),
        rng.choice((-1.0, 1.0)) * rng.uniform(20.0, 60.0),
    )


def sample_stance(rng: RandomNumbers, build: Build) -> FloatArray:
    """Return a stance: mostly a step of the person's gait, sometimes standing, sometimes with an arm held up."""
    stance = np.zeros(body.STANCE_COLUMNS)
    walking = 0.15 if rng.chance(0.2) else rng.uniform(0.75, 1.15)
    stance[body.PHASE] = rng.uniform()
    stance[body.STRIDE] = walking * build.stride
    stance[body.SWING] = walking * build.swing
    stance[body.LEAN] = build.lean + rng.centred(0.015)
    stance[body.TWIST] = 0.025 * walking
    stance[body.HEAD_TURN] = rng.centred(0.12)
    stance[body.HEAD_NOD] = rng.uniform(-0.01, 0.05)
    stance[body.SPREAD] = build.spread
    stance[body.ELBOW_L] = rng.uniform(0.01, 0.07)
    stance[body.ELBOW_R] = rng.uniform(0.01, 0.07)
    if rng.chance(0.15):
        side = rng.integer(2)
        stance[body.LIFT_L + side] = rng.uniform(0.02, 0.09)
        stance[body.ELBOW_L + side] = rng.uniform(0.2, 0.36)
    stance[body.SWAY] = rng.centred(0.006)
    return stance


def _beside(staged: Staged, other: Staged, sideways: float, forward: float) -> Staged:
    """Return both as one, the other moved in view coordinates; its layers follow those of the first."""
    parts = other.parts.copy()
    parts[:, [wardrobe.ABOVE, wardrobe.BELOW]] += wardrobe.LAYERS
    centres = other.centres + np.array([sideways, 0.0, forward])
    return Staged(
        np.concatenate([staged.parts, parts]),
        np.concatenate([staged.centres, centres]),
        np.concatenate([staged.axes, other.axes]),
    )


def _occluder(rng: RandomNumbers, image: FloatArray) -> None:
    kind = rng.choice((raster.POLE, raster.BLOCK, raster.BLOCK, raster.LEAVES))
    level = rng.uniform(0.02, 0.3)
    colour = np.array([level * rng.uniform(0.7, 1.3) for _ in range(3)])
    key = np.uint64(rng.raw())
    left, right, top = 0.0, float(WIDTH), 0.0
    if kind == raster.POLE:
        left = rng.uniform(8.0, 50.0)
        right = left + rng.uniform(4.0, 10.0)
    elif rng.chance(0.5):
        right = rng.uniform(14.0, 30.0)
    else:
        left = rng.uniform(34.0, 50.0)
    if kind == raster.BLOCK:
        top = rng.uniform(62.0, 108.0)
        if top > 84.0:
            left, right = 0.0, float(WIDTH)
    elif kind == raster.LEAVES:
        top = rng.uniform(-40.0, 70.0)
        colour = colour * np.array([0.5, 1.2, 0.4])
    raster.occlude(kind, (left, right, top), colour, key, image)


def _people(
    camera: Camera, difficulty: Difficulty, rng: RandomNumbers, cast: Cast, light: Light, image: FloatArray
) -> None:
    """Render the person, if any, and sometimes a passer-by in front or behind, over the street in ``image``."""
    seen = raster.Seen(
        np.full((FINE * HEIGHT, FINE * WIDTH), raster.FAR),
        np.full((FINE * HEIGHT, FINE * WIDTH), raster.NOBODY, dtype=np.int16),
    )
    figure = cast.figure
    if figure is None:
        raster.light_background(seen.owner, light, 0.0, -99.0, image)
        return
    yaw = cast.heading + rng.centred(0.06)
    stance = sample_stance(rng, figure.build)
    staged, extent = raster.stage(figure.parts, figure.skeleton, stance, yaw, camera.elevation)
    layers = figure.layers
    left, right, bottom, top = extent
    scale = cast.framing.share * HEIGHT / (top - bottom)
    across = 0.5 * WIDTH + cast.framing.across - 0.5 * scale * (left + right)
    down = 0.5 * HEIGHT + cast.framing.down + 0.5 * scale * (bottom + top)
    if rng.chance(0.5 * difficulty.occlusion):
        passer = cast.passer
        stance = sample_stance(rng, passer.build)
        other, _ = raster.stage(passer.parts, passer.skeleton, stance, rng.uniform(), camera.elevation)
        forward = rng.choice((-0.8, 0.8))
        staged = _beside(staged, other, rng.choice((-1.0, 1.0)) * rng.uniform(0.4, 0.6), forward)
        layers = np.concatenate([layers, passer.layers])
    lens = raster.Lens(FINE * scale, FINE * across, FINE * down)
    raster.rasterise(staged, lens, seen)
    raster.light_background(seen.owner, light, across, down - scale * bottom, image)
    raster.shade(staged, layers, lens, seen, light, image)


def render_pixels(camera: Camera, difficulty: Difficulty, rng: RandomNumbers, cast: Cast) -> NDArray[np.uint8]:
    """Return the pixels [128, 64, 3] of one image before JPEG."""
    direction = camera.light + np.array([rng.centred(0.4), rng.centred(0.3), rng.centred(0.3)])
    light = Light(direction, camera.lamp, camera.sky, rng.uniform())
    image = np.empty((HEIGHT, WIDTH, 3))
    step = rng.uniform(0.75, 1.05)
    look(camera.street, camera.top + rng.centred(10.0), rng.uniform(0.0, 560.0), step, image)
    _people(camera, difficulty, rng, cast, light, image)
    if rng.chance(difficulty.occlusion):
        _occluder(rng, image)
    scratch = np.empty_like(image)
    sensor.soften(image, camera.blur * rng.uniform(0.5, 1.0), scratch)
    sensor.soften(image, 0.2 * rng.uniform(), scratch)
    exposure = 1.0 + difficulty.shift * rng.centred(0.3)
    response = sensor.Sensor(exposure * camera.matrix, camera.tone, camera.noise)
    return sensor.develop(image, response, rng.centred(0.7), rng.centred(0.5), np.uint64(rng.raw()))
