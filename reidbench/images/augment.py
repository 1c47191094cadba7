"""What is random about the images of a training batch, and the fixed crops of test-time views.

Crops and changed colours of a training batch are a function of (seed, step), of the place in the batch and of the unit
there; threads, pixel store and machine do not enter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from reidbench.data.samples import Samples
from reidbench.errors import OptionError, did_you_mean
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.arrays import BoolArray, IntArray, PixelArray
from reidbench.utils.random_streams import stream

Share = Annotated[float, Field(gt=0, le=1)]
UpToOne = Annotated[float, Field(ge=0, le=1)]
Byte = Annotated[int, Field(ge=0, le=255)]
Shape = tuple[int, int, int, int]
View = tuple[int, int, bool]

BITS = 12  # of a fraction, so that all products and sums fit into int32
GREY = (77, 150, 29)  # 256 times the weights of red, green and blue in a grey (Rec. 601)
# A quarter turn of hue: it rotates the chrominance (I, Q) of YIQ by 90 degrees and drops the grey.
QUARTER_TURN = ((-0.168, -0.328, 0.496), (0.328, -0.034, -0.294), (-1.250, 1.048, 0.202))
TRIES = 100  # random rectangles, until one fits, as in the code of Luo et al. 2019

VIEWS = ("original", "center", "center_flip", "five_crops", "five_crops_flip")


class Crops(NamedTuple):
    """The crops of a batch of B images.

    ``images``: index of the image in the pixel store, int64 [B].
    ``top``: first row of the crop in pixels, int64 [B]; negative where the crop begins in the padding.
    ``left``: first column of the crop in pixels, int64 [B]; likewise.
    ``flipped``: whether the crop is flipped horizontally, bool [B].
    """

    images: IntArray
    top: IntArray
    left: IntArray
    flipped: BoolArray


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How the pixels of crops change: the fields of a ``Recipe``, which describes them, that sampling changes needs."""

    pad: NonNegativeInt = 0
    jitter: UpToOne = 0.0
    brightness: UpToOne = 0.0
    contrast: UpToOne = 0.0
    saturation: UpToOne = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    erase: UpToOne = 0.0
    erase_area: tuple[Share, Share] = (0.02, 0.4)
    erase_aspect: Share = 0.3
    erase_fill: tuple[Byte, Byte, Byte] = (124, 116, 104)

    @property
    def changes_pixels(self) -> bool:
        """Whether a batch is more than crops of images."""
        return bool(self.pad or self.jitter or self.erase)


class Changes(NamedTuple):
    """The changes of the pixels of a batch of B crops.

    ``matrices``: the colour (r, g, b) becomes matrix * colour + offset, in units of 2^-BITS, int32 [B, 3, 3].
    ``greys``: the offset is this times the mean grey of the crop, in units of 2^-BITS, int64 [B].
    ``boxes``: first row, first column, end row and end column of what is erased, int64 [B, 4].
    ``fill``: the erased pixels, uint8 [3].
    """

    matrices: NDArray[np.int32]
    greys: IntArray
    boxes: IntArray
    fill: PixelArray


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
            "multiple of 8; change it, or disable crops: views=original in the protocol, crop=false if a recipe has it"
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
    pad: int = 0,
) -> Crops:
    """Return the crops of the batch of ``units`` [B] at ``step``, for pixels stored with ``shape`` (m, h, w, 3).

    A unit is represented by ``frames`` of its images, one after the other: evenly spaced around the unit from a random
    one on, so all different unless it has fewer. The position of the H x W crop in the stored pixels is sampled
    uniformly for each image, with ``pad`` pixels more on each side; ``flip`` flips half of them. Place i of a batch has
    the same random numbers in every batch of the step. ``share`` restricts the result to one process's part of the
    batch's units.
    """
    random = stream(seed, "augment", step).random((len(units), frames, 4))[share]
    firsts, ends = samples.starts[units[share], None], samples.starts[units[share] + 1, None]  # [B, 1]
    lengths = ends - firsts
    places = (random[:, :1, 0] * lengths).astype(np.int64) + np.arange(frames) * lengths // frames
    random = random.reshape(-1, 4)
    return Crops(
        images=(firsts + places % lengths).reshape(-1),
        top=(random[:, 1] * (shape[1] + 2 * pad - preprocess.height + 1)).astype(np.int64) - pad,
        left=(random[:, 2] * (shape[2] + 2 * pad - preprocess.width + 1)).astype(np.int64) - pad,
        flipped=(random[:, 3] < 0.5) & flip,
    )


def sample_changes(
    augmentation: Augmentation, count: int, preprocess: Preprocess, *, seed: int, step: int, frames: int, share: slice
) -> Changes:
    """Return the changes of the crops of ``count`` units at ``step``; ``share`` and ``frames`` as in ``sample_crops``.

    Brightness, contrast, saturation and hue are linear and commute, so one matrix and one offset make all four:
    brightness scales the colours, contrast their distance from the mean grey of the crop, saturation that from each
    pixel's grey, and hue turns the chrominance. A rectangle of uniform area and aspect is erased, the first of
    ``TRIES`` that is smaller than the crop.
    Source: torchvision's ColorJitter, with another hue; Zhong et al. 2017 and the code of Luo et al. 2019.
    """
    jitter, erase = (
        stream(seed, name, step).random((count, frames, numbers))[share].reshape(-1, numbers)
        for name, numbers in (("jitter", 5), ("erase", 3 + 2 * TRIES))
    )
    most = [augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue]
    change = np.where(jitter[:, :1] < augmentation.jitter, 2 * jitter[:, 1:] - 1, 0) * most
    brightness, contrast, saturation = 1 + change.T[:3, :, None, None]
    angle, grey = 2 * np.pi * change[:, 3, None, None], np.tile(GREY, (3, 1)) / 256
    chroma = np.cos(angle) * (np.eye(3) - grey) + np.sin(angle) * np.array(QUARTER_TURN)
    colours = brightness * contrast * (grey + saturation * chroma)

    least, aspect = augmentation.erase_area[0], augmentation.erase_aspect
    size = np.array([preprocess.height, preprocess.width])
    areas = size.prod() * (least + (augmentation.erase_area[1] - least) * erase[:, 3 : 3 + TRIES])
    aspects = aspect + (1 / aspect - aspect) * erase[:, 3 + TRIES :]
    sides = np.rint(np.sqrt([areas * aspects, areas / aspects])).astype(np.int64).transpose(1, 2, 0)  # [B, TRIES, 2]
    fitting = (sides < size).all(axis=-1)
    erased = (erase[:, 0] < augmentation.erase) & fitting.any(axis=-1)
    side = sides[np.arange(len(sides)), fitting.argmax(axis=-1)] * erased[:, None]
    corner = (erase[:, 1:3] * (size - side + 1)).astype(np.int64)
    return Changes(
        matrices=np.rint(colours * 2**BITS).astype(np.int32),
        greys=np.rint(brightness * (1 - contrast) * 2**BITS)[:, 0, 0].astype(np.int64),
        boxes=np.concatenate([corner, corner + side], axis=1),
        fill=np.array(augmentation.erase_fill, dtype=np.uint8),
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
