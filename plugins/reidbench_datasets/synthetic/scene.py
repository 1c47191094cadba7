"""One image: who stands where in front of which camera, drawn from the image's own stream, and its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidbench_datasets.synthetic import body, draw, wardrobe
from reidbench_datasets.synthetic.background import look
from reidbench_datasets.synthetic.camera import Camera
from reidbench_datasets.synthetic.draw import FINE, HEIGHT, WIDTH, Light, Staged
from reidbench_datasets.synthetic.draws import Draws
from reidbench_datasets.synthetic.outfits import Build, Difficulty
from reidbench_datasets.synthetic.wardrobe import Figure

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Framing:
    """Where the box lies: the person's height as a share of the image's, and the offset of its middle, in pixels."""

    share: float
    across: float
    down: float


@dataclass(frozen=True, eq=False)
class Cast:
    """Who is in the picture: a person or nobody, where the box lies, which way they walk (turns), who may pass by."""

    figure: Figure | None
    framing: Framing
    heading: float
    passer: Figure


def good_framing(draws: Draws) -> Framing:
    """Return the framing of a detector that does well."""
    return Framing(draws.uniform(0.76, 1.02), draws.centred(8.0), draws.centred(8.0))


def bad_framing(draws: Draws) -> Framing:
    """Return the framing of a bad box: a part of a person, or a person who is mostly outside."""
    if draws.chance(0.6):
        return Framing(draws.uniform(1.6, 2.8), draws.uniform(-25.0, 25.0), draws.uniform(-80.0, 80.0))
    return Framing(
        draws.uniform(0.5, 0.9),
        draws.choice((-1.0, 1.0)) * draws.uniform(24.0, 34.0),
        draws.choice((-1.0, 1.0)) * draws.uniform(20.0, 60.0),
    )


def draw_stance(draws: Draws, build: Build) -> FloatArray:
    """Return a stance: mostly a step of the person's own gait, at times standing, an arm at times held up."""
    stance = np.zeros(body.STANCE_COLUMNS)
    walking = 0.15 if draws.chance(0.2) else draws.uniform(0.75, 1.15)
    stance[body.PHASE] = draws.uniform()
    stance[body.STRIDE] = walking * build.stride
    stance[body.SWING] = walking * build.swing
    stance[body.LEAN] = build.lean + draws.centred(0.015)
    stance[body.TWIST] = 0.025 * walking
    stance[body.HEAD_TURN] = draws.centred(0.12)
    stance[body.HEAD_NOD] = draws.uniform(-0.01, 0.05)
    stance[body.SPREAD] = build.spread
    stance[body.ELBOW_L] = draws.uniform(0.01, 0.07)
    stance[body.ELBOW_R] = draws.uniform(0.01, 0.07)
    if draws.chance(0.15):
        side = draws.integer(2)
        stance[body.LIFT_L + side] = draws.uniform(0.02, 0.09)
        stance[body.ELBOW_L + side] = draws.uniform(0.2, 0.36)
    stance[body.SWAY] = draws.centred(0.006)
    return stance


def _beside(staged: Staged, other: Staged, sideways: float, forward: float) -> Staged:
    """Return both together, the other one moved in view coordinates; its layers follow the first one's."""
    parts = other.parts.copy()
    parts[:, [wardrobe.ABOVE, wardrobe.BELOW]] += wardrobe.LAYERS
    centres = other.centres + np.array([sideways, 0.0, forward])
    return Staged(
        np.concatenate([staged.parts, parts]),
        np.concatenate([staged.centres, centres]),
        np.concatenate([staged.axes, other.axes]),
    )


def _occluder(draws: Draws, image: FloatArray) -> None:
    kind = draws.choice((draw.POLE, draw.BLOCK, draw.BLOCK, draw.LEAVES))
    level = draws.uniform(0.02, 0.3)
    colour = np.array([level * draws.uniform(0.7, 1.3) for _ in range(3)])
    key = np.uint64(draws.raw())
    left, right, top = 0.0, float(WIDTH), 0.0
    if kind == draw.POLE:
        left = draws.uniform(8.0, 50.0)
        right = left + draws.uniform(4.0, 10.0)
    elif draws.chance(0.5):
        right = draws.uniform(14.0, 30.0)
    else:
        left = draws.uniform(34.0, 50.0)
    if kind == draw.BLOCK:
        top = draws.uniform(62.0, 108.0)
        if top > 84.0:
            left, right = 0.0, float(WIDTH)
    elif kind == draw.LEAVES:
        top = draws.uniform(-40.0, 70.0)
        colour = colour * np.array([0.5, 1.2, 0.4])
    draw.occlude(kind, (left, right, top), colour, key, image)


def _people(camera: Camera, difficulty: Difficulty, draws: Draws, cast: Cast, light: Light, image: FloatArray) -> None:
    """Lay the person, if there is one, and at times a passer-by before or behind, over the street in ``image``."""
    seen = draw.Seen(
        np.full((FINE * HEIGHT, FINE * WIDTH), draw.FAR),
        np.full((FINE * HEIGHT, FINE * WIDTH), draw.NOBODY, dtype=np.int16),
    )
    figure = cast.figure
    if figure is None:
        draw.make_room(seen.owner, light, 0.0, -99.0, image)
        return
    yaw = cast.heading + draws.centred(0.06)
    stance = draw_stance(draws, figure.build)
    staged, extent = draw.stage(figure.parts, figure.skeleton, stance, yaw, camera.elevation)
    layers = figure.layers
    left, right, bottom, top = extent
    scale = cast.framing.share * HEIGHT / (top - bottom)
    across = 0.5 * WIDTH + cast.framing.across - 0.5 * scale * (left + right)
    down = 0.5 * HEIGHT + cast.framing.down + 0.5 * scale * (bottom + top)
    if draws.chance(0.5 * difficulty.occlusion):
        passer = cast.passer
        stance = draw_stance(draws, passer.build)
        other, _ = draw.stage(passer.parts, passer.skeleton, stance, draws.uniform(), camera.elevation)
        forward = draws.choice((-0.8, 0.8))
        staged = _beside(staged, other, draws.choice((-1.0, 1.0)) * draws.uniform(0.4, 0.6), forward)
        layers = np.concatenate([layers, passer.layers])
    lens = draw.Lens(FINE * scale, FINE * across, FINE * down)
    draw.rasterise(staged, lens, seen)
    draw.make_room(seen.owner, light, across, down - scale * bottom, image)
    draw.shade(staged, layers, lens, seen, light, image)


def draw_pixels(camera: Camera, difficulty: Difficulty, draws: Draws, cast: Cast) -> NDArray[np.uint8]:
    """Return the pixels [128, 64, 3] of one image before JPEG."""
    direction = camera.light + np.array([draws.centred(0.4), draws.centred(0.3), draws.centred(0.3)])
    light = Light(direction, camera.lamp, camera.sky, draws.uniform())
    image = np.empty((HEIGHT, WIDTH, 3))
    step = draws.uniform(0.75, 1.05)
    look(camera.street, camera.top + draws.centred(10.0), draws.uniform(0.0, 560.0), step, image)
    _people(camera, difficulty, draws, cast, light, image)
    if draws.chance(difficulty.occlusion):
        _occluder(draws, image)
    room = np.empty_like(image)
    draw.soften(image, camera.blur * draws.uniform(0.5, 1.0), room)
    draw.soften(image, 0.2 * draws.uniform(), room)
    exposure = 1.0 + difficulty.shift * draws.centred(0.3)
    sensor = draw.Sensor(exposure * camera.matrix, camera.tone, camera.noise)
    return draw.develop(image, sensor, draws.centred(0.7), draws.centred(0.5), np.uint64(draws.raw()))
