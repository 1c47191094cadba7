"""From a build and an outfit to the parts that are rendered and the layers that colour them.

Measures are those of a person of 1.77 m, scaled by the build.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidbench_datasets.synthetic import body, cloth, outfits
from reidbench_datasets.synthetic.outfits import Build, Colour, Outfit

# A part is a round cone along its bone's y axis, from START over LENGTH, with a radius at either end, widened by WIDE
# across and DEEP to the front. Beyond SPLIT of the garment's y (the part's y + SHIFT) it shows ABOVE, else BELOW.
# Where HANGING is 1 it is a skirt: open at its start, without a cap there.
BONE, START_X, START_Y, START_Z, LENGTH, RADIUS, RADIUS_END, WIDE, DEEP, ABOVE, BELOW, SPLIT, SHIFT, HANGING = range(14)

SKIN, TOP, SLEEVES, BOTTOM, SHOES, SOCKS, HEAD, HAIR, HAT, BAG = range(10)
LAYERS = 10

EVERYWHERE = -10.0


@dataclass(frozen=True, eq=False)
class Figure:
    """A person before posing; arrays are float64.

    ``build``: the body's measures.
    ``parts``: round cones [n, 14].
    ``layers``: colours and patterns [10, 21].
    ``skeleton``: lengths of the bones in metres [7].
    """

    build: Build
    parts: NDArray[np.float64]
    layers: NDArray[np.float64]
    skeleton: NDArray[np.float64]


def linear(colour: Colour) -> NDArray[np.float64]:
    """Return a colour as linear albedo: its square on the 0..1 scale, which a camera's square root undoes."""
    values = np.array(colour, dtype=np.float64) / 255.0
    return values * values


def _layer(first: Colour, second: Colour = (0, 0, 0), pattern: int = cloth.PLAIN) -> NDArray[np.float64]:
    layer = np.zeros(cloth.LAYER_COLUMNS)
    layer[cloth.PATTERN] = pattern
    layer[cloth.PERIOD] = 0.1
    layer[cloth.MARK_SIZE] = 0.075
    layer[cloth.MARK_Y] = 0.3
    layer[cloth.FIRST : cloth.FIRST + 3] = linear(first)
    layer[cloth.SECOND : cloth.SECOND + 3] = linear(second)
    return layer


def make_layers(outfit: Outfit) -> NDArray[np.float64]:
    """Return the layers [10, 21] of an outfit."""
    top = _layer(outfit.top_colour, outfit.accent, outfit.pattern)
    top[cloth.PERIOD] = outfit.period
    top[cloth.LEVEL] = 0.2
    if outfit.top == outfits.JACKET:
        top[cloth.PATTERN] = cloth.OPEN
        top[cloth.PERIOD] = 0.075
    top[cloth.FRONT_MARK] = cloth.NO_MARK if outfit.top == outfits.JACKET else outfit.front_mark
    top[cloth.BACK_MARK] = outfit.back_mark
    top[cloth.MARK_X] = outfit.mark_x
    top[cloth.MARK_SIZE] = 0.055 if outfit.mark_x else 0.085
    top[cloth.MARK_COLOUR : cloth.MARK_COLOUR + 3] = linear(outfit.mark_colour)
    top[cloth.STRAP] = {
        outfits.RUCKSACK: cloth.PAIR_OF_STRAPS,
        outfits.SATCHEL: cloth.DIAGONAL_STRAP,
    }.get(outfit.bag, cloth.NO_STRAP)
    top[cloth.STRAP_COLOUR : cloth.STRAP_COLOUR + 3] = 0.6 * linear(outfit.bag_colour)

    patterned = outfit.pattern in (cloth.HOOPS, cloth.CHECKS, cloth.DOTS, cloth.STRIPES)
    sleeves = _layer(
        outfit.accent if outfit.sleeves_in_accent else outfit.top_colour,
        outfit.accent,
        outfit.pattern if patterned and outfit.top != outfits.JACKET else cloth.PLAIN,
    )
    sleeves[cloth.PERIOD] = outfit.period

    bottom = _layer(outfit.bottom_colour, outfit.bottom_accent, outfit.bottom_pattern)
    bottom[cloth.PERIOD] = {cloth.SEAM: 0.026, cloth.PATCH: 0.07}.get(outfit.bottom_pattern, 0.1)
    bottom[cloth.LEVEL] = {cloth.SEAM: 1.0, cloth.PATCH: 0.4, cloth.BLOCK: 0.62}.get(outfit.bottom_pattern, 0.0)

    head = _layer(outfit.skin, outfit.hair_colour, cloth.FACE)
    if outfit.hair == outfits.BALD:
        head[cloth.SECOND : cloth.SECOND + 3] = linear(outfit.skin)
    layers = np.zeros((LAYERS, cloth.LAYER_COLUMNS))
    layers[SKIN] = _layer(outfit.skin)
    layers[TOP] = top
    layers[SLEEVES] = sleeves
    layers[BOTTOM] = bottom
    layers[SHOES] = _layer(outfit.shoes)
    layers[SOCKS] = _layer(outfit.socks)
    layers[HEAD] = head
    layers[HAIR] = _layer(outfit.hair_colour)
    layers[HAT] = _layer(outfit.hat_colour)
    layers[BAG] = _layer(outfit.bag_colour)
    return layers


class _Parts:
    """Collects rows of parts; lengths are those of the average body."""

    def __init__(self) -> None:
        self.rows: list[list[float]] = []

    def add(
        self,
        bone: int,
        start: tuple[float, float, float],
        length: float,
        radii: tuple[float, float],
        layer: int,
        *,
        wide: float = 1.0,
        deep: float = 1.0,
        below: int | None = None,
        split: float = EVERYWHERE,
        shift: float = 0.0,
        hanging: bool = False,
    ) -> None:
        """Add one round cone; ``below`` is the layer where the garment's y is under ``split``."""
        under = layer if below is None else below
        self.rows.append([bone, *start, length, *radii, wide, deep, layer, under, split, start[1] + shift, hanging])


def _trunk(parts: _Parts, build: Build, outfit: Outfit) -> None:
    g, wide, hips = build.girth, 1.5 * build.shoulders, 1.42 * build.hips
    # The hem of the top, in the trunk's y; the pelvis is 0.10 lower.
    hem = {outfits.TEE: -0.04, outfits.HOODIE: -0.05, outfits.COAT: -0.15}.get(outfit.top, 0.0)
    bottom = TOP if outfit.bottom == outfits.DRESS else BOTTOM
    bulk = 0.012 if outfit.top in (outfits.HOODIE, outfits.JACKET, outfits.COAT) else 0.0
    parts.add(
        body.PELVIS, (0.0, -0.03, 0.0), 0.12, (0.104 * g, 0.098 * g), TOP,
        wide=hips, below=bottom, split=hem, shift=-0.1,
    )  # fmt: skip
    parts.add(
        body.TRUNK, (0.0, 0.0, 0.0), 0.2, (0.094 * g + bulk, 0.1 * g + bulk), TOP,
        wide=1.38, below=bottom, split=hem,
    )  # fmt: skip
    parts.add(body.TRUNK, (0.0, 0.17, 0.0), 0.17, (0.104 * g + bulk, 0.108 + bulk), TOP, wide=wide)
    parts.add(body.TRUNK, (0.0, 0.365, -0.005), 0.085, (0.085 + bulk, 0.05 + bulk), TOP, wide=1.3 * wide)
    if outfit.top == outfits.COAT:
        parts.add(body.PELVIS, (0.0, -0.36, 0.0), 0.44, (0.165 * g, 0.12 * g), TOP, wide=1.25, shift=-0.1, hanging=True)
    if outfit.top == outfits.HOODIE:
        parts.add(body.TRUNK, (0.0, 0.42, -0.085), 0.03, (0.062, 0.05), SLEEVES, wide=1.6)
    if outfit.bottom in (outfits.SKIRT, outfits.DRESS):
        layer = TOP if outfit.bottom == outfits.DRESS else BOTTOM
        parts.add(
            body.PELVIS, (0.0, -0.38, 0.0), 0.46, (0.2 * g, 0.112 * g), layer,
            wide=1.25, deep=1.05, shift=-0.1, hanging=True,
        )  # fmt: skip


def _arms(parts: _Parts, build: Build, outfit: Outfit) -> None:
    g = 0.5 + 0.5 * build.girth
    bulk = 0.008 if outfit.top in (outfits.HOODIE, outfits.JACKET, outfits.COAT) else 0.0
    # End of the sleeve, in metres down the arm from the shoulder; the arm below is skin.
    sleeve = {outfits.TEE: 0.2, outfits.VEST: -0.2}.get(outfit.top, 0.53)
    for side in range(2):
        parts.add(
            body.ARM_L + side, (0.0, 0.0, 0.0), 0.28, (0.056 * g + bulk, 0.045 * g + bulk), SKIN,
            below=SLEEVES, split=sleeve,
        )  # fmt: skip
        parts.add(
            body.FOREARM_L + side, (0.0, 0.0, 0.0), 0.24, (0.045 * g + bulk, 0.034 * g + bulk), SKIN,
            below=SLEEVES, split=sleeve, shift=0.28,
        )  # fmt: skip
        parts.add(body.FOREARM_L + side, (0.0, 0.275, 0.005), 0.06, (0.036, 0.03), SKIN, wide=0.7)


def _legs(parts: _Parts, build: Build, outfit: Outfit) -> None:
    g = build.girth
    loose = 0.008 if outfit.bottom in (outfits.TROUSERS, outfits.SHORTS) else 0.0
    # End of the cloth, in metres down the leg from the hip; below it skin, then the sock or boot.
    cloth_end = {outfits.TROUSERS: 0.9, outfits.SHORTS: 0.4}.get(outfit.bottom, -0.2)
    foot = SHOES if outfit.boots else SOCKS
    for side in range(2):
        parts.add(
            body.THIGH_L + side, (0.0, 0.0, 0.0), 0.42, (0.09 * g + loose, 0.062 * g + loose), SKIN,
            below=BOTTOM, split=cloth_end,
        )  # fmt: skip
        if outfit.bottom == outfits.TROUSERS:
            shin, under, split = BOTTOM, BOTTOM, EVERYWHERE
            if outfit.boots:
                shin, split = SHOES, 0.62
        else:
            shin, under, split = foot, SKIN, 0.6 if outfit.boots else 0.7
        ends = (0.064 * g + loose, 0.044 + 1.4 * loose)
        parts.add(body.SHIN_L + side, (0.0, 0.0, 0.0), 0.4, ends, shin, below=under, split=split, shift=0.42)
        parts.add(body.FOOT_L + side, (0.0, -0.035, -0.035), 0.15, (0.044, 0.036), SHOES, wide=1.05, deep=0.9)


def _head(parts: _Parts, build: Build, outfit: Outfit) -> None:
    h = build.head
    parts.add(body.HEAD, (0.0, -0.05, -0.01), 0.12, (0.056, 0.05), SKIN)
    parts.add(body.HEAD, (0.0, 0.115, 0.0), 0.06, (0.078 * h, 0.092 * h), HEAD, wide=0.86, deep=1.05)
    hair = outfit.hair
    if hair != outfits.BALD:
        parts.add(body.HEAD, (0.0, 0.165, -0.022), 0.025, (0.09 * h, 0.094 * h), HAIR, wide=0.95, deep=1.0)
    if hair == outfits.LONG_HAIR:
        parts.add(body.HEAD, (0.0, -0.1, -0.055), 0.26, (0.075, 0.082), HAIR, wide=1.15, deep=0.75)
    elif hair == outfits.BUN:
        parts.add(body.HEAD, (0.0, 0.235, -0.085), 0.02, (0.045, 0.045), HAIR)
    elif hair == outfits.PONYTAIL:
        parts.add(body.HEAD, (0.0, -0.06, -0.135), 0.2, (0.026, 0.036), HAIR)
    if outfit.hat == outfits.CAP:
        parts.add(body.HEAD, (0.0, 0.2, -0.01), 0.03, (0.098 * h, 0.085 * h), HAT, wide=0.95, deep=1.05)
        parts.add(body.HEAD, (0.0, 0.2, 0.11), 0.005, (0.016, 0.016), HAT, wide=4.6, deep=4.6)
    elif outfit.hat == outfits.BEANIE:
        parts.add(body.HEAD, (0.0, 0.195, -0.012), 0.07, (0.102 * h, 0.07 * h), HAT, wide=0.95)


def _bag(parts: _Parts, outfit: Outfit) -> None:
    side = outfit.bag_side
    if outfit.bag == outfits.RUCKSACK:
        parts.add(body.TRUNK, (0.0, 0.06, -0.19), 0.25, (0.105, 0.09), BAG, wide=1.45, deep=0.95)
        parts.add(body.TRUNK, (0.0, 0.07, -0.275), 0.07, (0.06, 0.055), BAG, wide=1.6, deep=0.8)
    elif outfit.bag == outfits.SATCHEL:
        parts.add(body.PELVIS, (-0.2, -0.13, 0.0), 0.1, (0.075, 0.07), BAG, wide=0.75, deep=1.9)
    elif outfit.bag == outfits.HANDBAG:
        hand = body.FOREARM_L if side > 0 else body.FOREARM_R
        parts.add(hand, (0.0, 0.42, 0.0), 0.1, (0.06, 0.085), BAG, wide=0.65, deep=1.7)


def dress(build: Build, outfit: Outfit) -> Figure:
    """Return the figure of a person."""
    parts = _Parts()
    _trunk(parts, build, outfit)
    _arms(parts, build, outfit)
    _legs(parts, build, outfit)
    _head(parts, build, outfit)
    _bag(parts, outfit)
    skeleton = np.empty(body.SKELETON_COLUMNS)
    skeleton[body.HIP] = 0.088 * build.hips
    skeleton[body.THIGH] = 0.42 * build.legs
    skeleton[body.SHIN] = 0.42 * build.legs
    skeleton[body.WAIST] = 0.1
    skeleton[body.SHOULDER] = 0.168 * build.shoulders + 0.03 * (build.girth - 1.0)
    skeleton[body.NECK] = 0.47
    skeleton[body.UPPER_ARM] = 0.28
    return Figure(build, np.array(parts.rows), make_layers(outfit), skeleton)
