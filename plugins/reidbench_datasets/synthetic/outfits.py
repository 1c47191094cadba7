"""Who a person is: body, clothes, hair and bags, drawn from a small palette, and look-alikes in one detail."""

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
from reidbench_datasets.synthetic.draws import Draws

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
    """The measures of a body as factors of an average one, and how it walks (angles in turns)."""

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
    """What ``difficulty`` moves.

    ``palette`` is the number of colours of clothes; ``group`` people in a row share an outfit but for one detail with
    the probability ``lookalikes``; ``occlusion`` is the share of images with something in front; ``shift`` scales how
    far cameras are apart in light, colour and tone; ``turn`` is how far people turn from a camera's usual direction,
    in turns.
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


def draw_build(draws: Draws) -> Build:
    """Return a body's measures; women, men and children are not told apart, only sizes."""
    return Build(
        girth=0.96 + draws.uniform(-0.12, 0.2),
        shoulders=1.0 + draws.centred(0.14),
        hips=1.0 + draws.centred(0.14),
        legs=1.0 + draws.centred(0.07),
        head=1.0 + draws.centred(0.06),
        stride=draws.uniform(0.05, 0.085),
        swing=draws.uniform(0.02, 0.09),
        lean=draws.uniform(0.0, 0.018),
        spread=draws.uniform(0.012, 0.03),
    )


def _weighted(draws: Draws, *weights: int) -> int:
    left = draws.integer(sum(weights))
    for kind, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return kind
    raise AssertionError("unreachable: the draw is below the sum of the weights")


def draw_outfit(draws: Draws, palette: tuple[Colour, ...]) -> Outfit:
    """Return what a person wears, from the given colours."""
    colours = draws.shuffled(palette)
    marked = draws.chance(0.5)
    return Outfit(
        skin=draws.choice(SKIN),
        hair=_weighted(draws, 45, 22, 10, 13, 10),
        hair_colour=draws.choice(HAIR),
        hat=_weighted(draws, 76, 14, 10),
        hat_colour=draws.choice(palette),
        top=_weighted(draws, 32, 22, 14, 14, 10, 8),
        top_colour=colours[0],
        accent=colours[1],
        pattern=(PLAIN, HOOPS, STRIPES, CHECKS, BLOCK, BAND, HALVES, DOTS)[
            _weighted(draws, 34, 14, 8, 10, 11, 10, 6, 7)
        ],
        period=draws.choice((0.075, 0.11, 0.15)),
        sleeves_in_accent=draws.chance(0.22),
        front_mark=draws.choice(MARKS) if marked else NO_MARK,
        back_mark=draws.choice(MARKS) if draws.chance(0.4) else NO_MARK,
        mark_colour=colours[2],
        mark_x=draws.choice((-0.07, 0.0, 0.0, 0.07)),
        bottom=_weighted(draws, 62, 20, 10, 8),
        bottom_colour=draws.choice(palette),
        bottom_pattern=(PLAIN, SEAM, PATCH, BLOCK)[_weighted(draws, 62, 18, 8, 12)],
        bottom_accent=draws.choice(palette),
        shoes=draws.choice(palette),
        socks=draws.choice(palette),
        boots=draws.chance(0.2),
        bag=_weighted(draws, 46, 24, 16, 14),
        bag_colour=draws.choice(palette),
        bag_side=draws.choice((-1.0, 1.0)),
    )


def _other_bag(draws: Draws, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    return replace(outfit, bag=(outfit.bag + 1 + draws.integer(3)) % 4, bag_colour=draws.choice(palette))


def _other_mark(draws: Draws, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    marks = [mark for mark in MARKS if mark != outfit.front_mark]
    colours = [colour for colour in palette if colour not in (outfit.top_colour, outfit.accent, outfit.mark_colour)]
    return replace(
        outfit, front_mark=draws.choice(marks), back_mark=draws.choice(marks), mark_colour=draws.choice(colours)
    )


def _other_bottom(draws: Draws, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    return replace(outfit, bottom_colour=draws.choice([colour for colour in palette if colour != outfit.bottom_colour]))


def _other_legs(draws: Draws, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    return replace(outfit, bottom=(outfit.bottom + 1 + draws.integer(3)) % 4)


def _other_pattern(draws: Draws, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    patterns = [kind for kind in (PLAIN, HOOPS, CHECKS, BLOCK, BAND, DOTS) if kind != outfit.pattern]
    return replace(outfit, pattern=draws.choice(patterns))


def _other_head(draws: Draws, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    return replace(
        outfit,
        hat=(outfit.hat + 1 + draws.integer(2)) % 3,
        hat_colour=draws.choice([colour for colour in palette if colour != outfit.hat_colour]),
        hair=(outfit.hair + 1 + draws.integer(4)) % 5,
    )


def _other_sleeves(draws: Draws, outfit: Outfit, palette: tuple[Colour, ...]) -> Outfit:
    return replace(outfit, sleeves_in_accent=not outfit.sleeves_in_accent)


Detail = Callable[[Draws, Outfit, tuple[Colour, ...]], Outfit]


def _details(outfit: Outfit) -> list[Detail]:
    """Return the changes that would be seen on this outfit."""
    details: list[Detail] = [_other_bag, _other_legs, _other_head]
    if outfit.top != JACKET:
        details += [_other_mark, _other_pattern]
    if outfit.top != VEST:
        details.append(_other_sleeves)
    if outfit.bottom != DRESS:
        details.append(_other_bottom)
    return details


def draw_identity(seed: int, difficulty: Difficulty, kind: str, number: int) -> tuple[Build, Outfit]:
    """Return body and outfit of one identity, a function of these four alone.

    ``kind`` is "person" or "distractor". The first of every ``difficulty.group`` numbers is the original of the rest.
    """
    palette = PALETTE[: difficulty.palette]
    choice = Draws(seed, kind, number, "lookalike")
    first = number - number % difficulty.group
    original = first if number != first and choice.chance(difficulty.lookalikes) else number
    draws = Draws(seed, kind, original, "identity")
    build, outfit = draw_build(draws), draw_outfit(draws, palette)
    if original != number:
        outfit = choice.choice(_details(outfit))(choice, outfit, palette)
    return build, outfit
