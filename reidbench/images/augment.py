"""Batches of a training and views of a test: which windows are cut from which images.

A batch is a function of (seed, step) and of the units in it, whatever the threads, the store and the machine.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np

from reidbench.data.samples import Samples
from reidbench.errors import OptionError
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.arrays import BoolArray, IntArray
from reidbench.utils.random_streams import stream

Shape = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Windows:
    """What a batch is cut from: ``images`` [B], ``top`` and ``left`` [B] int64 in pixels, ``mirrored`` [B] bool."""

    images: IntArray
    top: IntArray
    left: IntArray
    mirrored: BoolArray


VIEWS = ("original", "center", "center_flip", "five_crops", "five_crops_flip")

Crop = tuple[int, int, bool]


def stored_size(preprocess: Preprocess, crop: bool) -> tuple[int, int]:
    """Return (height, width) to store: exactly 9/8 of the network's input where crops are taken, else the input.

    Raises OptionError where 9/8 of it is no whole number. Source: Hermans et al. 2017, section 3.2.
    """
    height, width = preprocess.height, preprocess.width
    if not crop:
        return height, width
    odd = [f"{name}={value}" for name, value in (("height", height), ("width", width)) if value % 8]
    if odd:
        raise OptionError(
            f"crops are taken from images of exactly 9/8 the network's input, which {' and '.join(odd)} cannot give; "
            "use multiples of 8, or turn cropping off (the recipe's crop=false, the protocol's views=original)"
        )
    return height // 8 * 9, width // 8 * 9


def draw_windows(
    shape: Shape,
    samples: Samples,
    units: IntArray,
    preprocess: Preprocess,
    *,
    crop: bool,
    flip: bool,
    seed: int,
    step: int,
    part: slice = slice(None),
) -> Windows:
    """Return what the batch of ``units`` [B] is cut from, in pixels stored with ``shape`` (m, h, w, 3).

    A unit of several images gives one of them; with ``crop`` a window of H x W at a uniform place; with ``flip`` half
    of the images mirrored. All of it is drawn from (seed, step): place i of a batch has the same draws in every batch.
    Of ``part`` alone where it is given: a process's own share of the batch.
    """
    if shape[1:3] != stored_size(preprocess, crop):
        raise ValueError(f"the store holds {shape[1]}x{shape[2]}, {stored_size(preprocess, crop)} is needed")
    draws, units = stream(seed, "augment", step).random((len(units), 4))[part], units[part]
    lengths = samples.starts[units + 1] - samples.starts[units]
    return Windows(
        images=samples.starts[units] + (draws[:, 0] * lengths).astype(np.int64),
        top=(draws[:, 1] * (shape[1] - preprocess.height + 1)).astype(np.int64),
        left=(draws[:, 2] * (shape[2] - preprocess.width + 1)).astype(np.int64),
        mirrored=(draws[:, 3] < 0.5) & flip,
    )


def view_crops(name: str, preprocess: Preprocess) -> tuple[tuple[int, int], list[Crop]]:
    """Return the stored size (height, width) of a test-time view, and its crops (top, left, mirrored).

    "original" is the whole image at the network's input size; the others lie in 9/8 of it: "center" the centre crop,
    "five_crops" the four corners and the centre, each "_flip" with the mirrored ones besides.
    Raises OptionError for an unknown name. Source: Hermans et al. 2017, supplementary, table 4.
    """
    if name not in VIEWS:
        close = difflib.get_close_matches(name, VIEWS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(VIEWS)}"
        raise OptionError(f"there are no views {name!r}; {hint}")
    height, width = stored_size(preprocess, crop=name != "original")
    if name == "original":
        return (height, width), [(0, 0, False)]
    bottom, right = height - preprocess.height, width - preprocess.width
    places = [(bottom // 2, right // 2)]
    if name.startswith("five_crops"):
        places += [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    mirrorings = (False, True) if name.endswith("_flip") else (False,)
    return (height, width), [(top, left, mirrored) for top, left in places for mirrored in mirrorings]
