"""Crops of images: random ones for training batches, fixed ones for test-time views.

The crops of a training batch are a function of (seed, step), of the place in the batch and of the unit there; threads,
pixel store and machine do not enter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reidbench.data.samples import Samples
from reidbench.errors import OptionError, did_you_mean
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.arrays import BoolArray, IntArray
from reidbench.utils.random_streams import stream

Shape = tuple[int, int, int, int]
View = tuple[int, int, bool]

VIEWS = ("original", "center", "center_flip", "five_crops", "five_crops_flip")


class Crops(NamedTuple):
    """The crops of a batch of B images.

    ``images``: index of the image in the pixel store, int64 [B].
    ``top``: first row of the crop in pixels, int64 [B].
    ``left``: first column of the crop in pixels, int64 [B].
    ``flipped``: whether the crop is flipped horizontally, bool [B].
    """

    images: IntArray
    top: IntArray
    left: IntArray
    flipped: BoolArray


def stored_size(preprocess: Preprocess, crop: bool) -> tuple[int, int]:
    """Return (height, width) of the stored pixels: exactly 9/8 of the network's input for random crops, else the input.

    Raises OptionError where 9/8 of the input is no whole number. Source: Hermans et al. 2017, section 3.5.
    """
    height, width = preprocess.height, preprocess.width
    if not crop:
        return height, width
    indivisible = [f"{name}={value}" for name, value in (("height", height), ("width", width)) if value % 8]
    if indivisible:
        raise OptionError(
            f"crops need images of exactly 9/8 of the network's input, but {' and '.join(indivisible)} is not a "
            "multiple of 8; change it, or disable cropping (crop=false in the recipe, views=original in the protocol)"
        )
    return height // 8 * 9, width // 8 * 9


def sample_crops(
    shape: Shape,
    samples: Samples,
    units: IntArray,
    preprocess: Preprocess,
    *,
    flip: bool,
    seed: int,
    step: int,
    frames: int = 1,
    share: slice = slice(None),
) -> Crops:
    """Return the crops of the batch of ``units`` [B] at ``step``, for pixels stored with ``shape`` (m, h, w, 3).

    A unit is represented by ``frames`` of its images, one after the other: evenly spaced around the unit from a random
    one on, so all different unless it has fewer. The position of the H x W crop in the stored pixels is sampled
    uniformly for each image, ``flip`` flips half of them. Place i of a batch has the same random numbers in every batch
    of the step. ``share`` restricts the result to one process's part of the batch's units.
    """
    random = stream(seed, "augment", step).random((len(units), frames, 4))[share]
    firsts, ends = samples.starts[units[share], None], samples.starts[units[share] + 1, None]  # [B, 1]
    lengths = ends - firsts
    places = (random[:, :1, 0] * lengths).astype(np.int64) + np.arange(frames) * lengths // frames
    random = random.reshape(-1, 4)
    return Crops(
        images=(firsts + places % lengths).reshape(-1),
        top=(random[:, 1] * (shape[1] - preprocess.height + 1)).astype(np.int64),
        left=(random[:, 2] * (shape[2] - preprocess.width + 1)).astype(np.int64),
        flipped=(random[:, 3] < 0.5) & flip,
    )


def view_crops(name: str, preprocess: Preprocess) -> tuple[tuple[int, int], list[View]]:
    """Return the size (height, width) to resize to for a test-time view, and its crops (top, left, flipped).

    "original" is the whole image at the network's input size. The others are cropped from 9/8 of it: "center" is the
    centre crop, "five_crops" the centre and the four corners; "_flip" adds the flipped crops.
    Raises OptionError for an unknown name. Source: Hermans et al. 2017, supplementary A and Table 4.
    """
    if name not in VIEWS:
        hint = did_you_mean(name, VIEWS, str) or f"; expected one of {', '.join(VIEWS)}"
        raise OptionError(f"unknown views {name!r}{hint}")
    height, width = stored_size(preprocess, crop=name != "original")
    if name == "original":
        return (height, width), [(0, 0, False)]
    bottom, right = height - preprocess.height, width - preprocess.width
    corners = [(bottom // 2, right // 2)]
    if name.startswith("five_crops"):
        corners += [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    flips = (False, True) if name.endswith("_flip") else (False,)
    return (height, width), [(top, left, flipped) for top, left in corners for flipped in flips]
