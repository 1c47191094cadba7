"""Identities: body, clothes, hair and bags, sampled from a small palette, and look-alikes that differ in one detail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from reidbench_datasets.synthetic.cloth import (
    BAND,
    BAR,
    BLOCK,
    CHECKS,
    CROSS,
    DIAMOND,
    DISC,
    DOTS,
    HALVES,
    HOOPS,
    NO_MARK,
    PATCH,
    PLAIN,
    RING,
    SEAM,
    SQUARE,
    STRIPES,
)
from reidbench_datasets.synthetic.random_numbers import RandomNumbers

Colour = tuple[int, int, int]

# Clothes, sRGB-like 0..255; a difficulty takes the first few.
PALETTE: tuple[Colour, ...] = (
    (26, 26, 30),
    (226, 224, 218),
    (40, 52, 104),
    (120, 122, 128),
    (170, 38, 42),
    (62, 108, 176),
    (192, 168, 124),
    (50, 104, 66),
    (104, 68, 46),
    (218, 178, 56),
    (206, 126, 146),
    (94, 60, 118),
    (140, 182, 208),
    (210, 108, 44),
    (98, 100, 58),
    (40, 118, 120),
)
SKIN: tuple[Colour, ...] = ((236, 196, 170), (222, 176, 142), (196, 146, 112), (150, 102, 74), (96, 64, 48))
HAIR: tuple[Colour, ...] = ((28, 24, 24), (62, 42, 30), (108, 72, 42), (186, 148, 88), (142, 138, 134))

TEE, LONG_SLEEVES, HOODIE, JACKET, COAT, VEST = range(6)
TROUSERS, SHORTS, SKIRT, DRESS = range(4)
SHORT_HAIR, LONG_HAIR, BUN, PONYTAIL, BALD = range(5)
NO_HAT, CAP, BEANIE = range(3)
NO_BAG, RUCKSACK, SATCHEL, HANDBAG = range(4)

MARKS = (DISC, SQUARE, BAR, DIAMOND, CROSS, RING)


@dataclass(frozen=True)
class Build:
    """The measures of a body as factors of an average one (the first five), and its gait (angles in turns)."""

    girth: float
    shoulders: float
    hips: float
    legs: float
    head: float
    stride: float
    swing: float
    lean: float
    spread: float


@dataclass(frozen=True)
class Outfit:
    """What a person wears; colours are RGB 0..255, kinds are the constants of this module and of ``cloth``."""

    skin: Colour
    hair: int
    hair_colour: Colour
    hat: int
    hat_colour: Colour
    top: int
    top_colour: Colour
    accent: Colour
    pattern: int
    period: float
    sleeves_in_accent: bool
    front_mark: int
    back_mark: int
    mark_colour: Colour
    mark_x: float
    bottom: int
    bottom_colour: Colour
    bottom_pattern: int
    bottom_accent: Colour
    shoes: Colour
    socks: Colour
    boots: bool
    bag: int
    bag_colour: Colour
    bag_side: float


@dataclass(frozen=True)
class Difficulty:
    """The effect of the option ``difficulty``.

    ``palette``: number of colours of clothes.
    ``group``: number of consecutive identities that may be look-alikes.
    ``lookalikes``: probability that one of them has the outfit of the first, except for one detail.
    ``occlusion``: share of images with an occluder.
    ``shift``: scale of the differences between cameras in light, colour and tone.
    ``turn``: largest deviation from a camera's usual heading, in turns.
    """

    palette: int
    group: int
    lookalikes: float
    occlusion: float
    shift: float
    turn: float


DIFFICULTIES = {
    "easy": Difficulty(palette=16, group=1, lookalikes=0.0, occlusion=0.1, shift=0.5, turn=0.25),
    "normal": Difficulty(palette=9, group=3, lookalikes=0.5, occlusion=0.2, shift=1.0, turn=0.5),
    "hard": Difficulty(palette=5, group=5, lookalikes=0.9, occlusion=0.5, shift=1.5, turn=0.5),
}


def sample_build(rng: RandomNumbers) -> Build:
    """Return a body's measures; only sizes differ, not women, men and children."""
    return Build(
        girth=0.96 + rng.uniform(-0.12, 0.2),
        shoulders=1.0 + rng.centred(0.14),
        hips=1.0 + rng.centred(0.14),
        legs=1.0 + rng.centred(0.07),
        head=1.0 + rng.centred(0.06),
        stride=rng.uniform(0.05, 0.085),
        swing=rng.uniform(0.02, 0.09),
        lean=rng.uniform(0.0, 0.018),
        spread=rng.uniform(0.012, 0.03),
    )


def _weighted(rng: RandomNumbers, *weights: int) -> int:
    left = rng.integer(sum(weights))
    for kind, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return kind
    raise AssertionError("unreachable: the sampled number is below the sum of the weights")


def sample_outfit(rng: RandomNumbers, palette: tuple[Colour, ...]) -> Outfit:
    """Return what a person wears, from the given colours."""
    colours = rng.shuffled(palette)
    marked = rng.chance(0.5)
    return Outfit(
        skin=rng.choice(SKIN),
        hair=_weighted(rng, 45, 22, 10, 13, 10),
        hair_colour=rng.choice(HAIR),
        hat=_weighted(rng, 76, 14, 10),
        hat_colour=rng.choice(palette),
        top=_weighted(rng, 32, 22, 14, 14, 10, 8),
        top_colour=colours[0],
        accent=colours[1],
        pattern=(PLAIN, HOOPS, STRIPES, CHECKS, BLOCK, BAND, HALVES, DOTS)[_weighted(rng, 34, 14, 8, 10, 11, 10, 6, 7)],
        period=rng.choice((0.075, 0.11, 0.15)),
        sleeves_in_accent=rng.chance(0.22),
        front_mark=rng.choice(MARKS) if marked else NO_MARK,
        back_mark=rng.choice(MARKS) if rng.chance(0.4) else NO_MARK,
        mark_colour=colours[2],
        mark_x=rng.choice((-0.07, 0.0, 0.0, 0.07)),
        bottom=_weighted(rng, 62, 20, 10, 8),
        bottom_colour=rng.choice(palette),
        bottom_pattern=(PLAIN, SEAM, PATCH, BLOCK)[_weighted(rng, 62, 18, 8, 12)],
        bottom_accent=rng.choice(palette),
        shoes=rng.choice(palette),
        socks=rng.choice(palette),
        boots=rng.chance(0.2),
        bag=_weighted(rng, 46, 24, 16, 14),
        bag_colour=rng.choice(palette),
        bag_side=rng.choice((-1.0, 1.0)),
    )


def _other_bag(rng: RandomNumbers, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    return replace(outfit, bag=(outfit.bag + 1 + rng.integer(3)) % 4, bag_colour=rng.choice(palette))


def _other_mark(rng: RandomNumbers, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    marks = [mark for mark in MARKS if mark != outfit.front_mark]
    colours = [colour for colour in palette if colour not in (outfit.top_colour, outfit.accent, outfit.mark_colour)]
    return replace(outfit, front_mark=rng.choice(marks), back_mark=rng.choice(marks), mark_colour=rng.choice(colours))


def _other_bottom(rng: RandomNumbers, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    return replace(outfit, bottom_colour=rng.choice([colour for colour in palette if colour != outfit.bottom_colour]))


def _other_legs(rng: RandomNumbers, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    return replace(outfit, bottom=(outfit.bottom + 1 + rng.integer(3)) % 4)


def _other_pattern(rng: RandomNumbers, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    patterns = [kind for kind in (PLAIN, HOOPS, CHECKS, BLOCK, BAND, DOTS) if kind != outfit.pattern]
    return replace(outfit, pattern=rng.choice(patterns))


def _other_head(rng: RandomNumbers, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    return replace(
        outfit,
        hat=(outfit.hat + 1 + rng.integer(2)) % 3,
        hat_colour=rng.choice([colour for colour in palette if colour != outfit.hat_colour]),
        hair=(outfit.hair + 1 + rng.integer(4)) % 5,
    )


def _other_sleeves(rng: RandomNumbers, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    return replace(outfit, sleeves_in_accent=not outfit.sleeves_in_accent)


Detail = Callable[[RandomNumbers, Outfit, tuple[Colour, ...]], Outfit]


def _details(outfit: Outfit) -> list[Detail]:
    """Return the changes that would be visible on this outfit."""
    details: list[Detail] = [_other_bag, _other_legs, _other_head]
    if outfit.top != JACKET:
        details += [_other_mark, _other_pattern]
    if outfit.top != VEST:
        details.append(_other_sleeves)
    if outfit.bottom != DRESS:
        details.append(_other_bottom)
    return details


def sample_identity(seed: int, difficulty: Difficulty, kind: str, number: int) -> tuple[Build, Outfit]:
    """Return body and outfit of one identity; they depend only on the four arguments.

    The first of every ``difficulty.group`` numbers is the original of the look-alikes among the others.
    """
    palette = PALETTE[: difficulty.palette]
    choice = RandomNumbers(seed, kind, number, "lookalike")
    first = number - number % difficulty.group
    original = first if number != first and choice.chance(difficulty.lookalikes) else number
    rng = RandomNumbers(seed, kind, original, "identity")
    build, outfit = sample_build(rng), sample_outfit(rng, palette)
    if original != number:
        outfit = choice.choice(_details(outfit))(choice, outfit, palette)
    return build, outfit
