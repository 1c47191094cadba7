"""Pixels: decoded once, kept as uint8 on the device, and cropped, flipped and normalised there.

A batch is a function of (seed, step) and of the units in it, whatever the threads, the device and the machine.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reidbench.decoding import files_digest, in_threads, read_image
from reidbench.errors import DataError, OptionError
from reidbench.files import write_atomic
from reidbench.progress import progress
from reidbench.randomness import stream
from reidbench.values import IntArray, Preprocess, Samples

VIEWS = ("original", "center", "center_flip", "five_crops", "five_crops_flip")

CHUNK = 64
NAMED = 10

Crop = tuple[int, int, bool]


@dataclass(frozen=True, eq=False)
class PixelStore:
    """All images of a Samples, decoded once: ``pixels`` uint8 [m, h, w, 3] RGB on the device, in the images' order."""

    pixels: Tensor


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


def training_batch(
    store: PixelStore,
    samples: Samples,
    units: IntArray,
    preprocess: Preprocess,
    *,
    crop: bool,
    flip: bool,
    seed: int,
    step: int,
    part: slice = slice(None),
) -> Tensor:
    """Return one image of each of ``units`` [B] as the network's input [B, 3, H, W] float32 on the store's device.

    A unit of several images gives one of them; with ``crop`` a window of H x W at a uniform place; with ``flip`` half
    of the images mirrored. All of it is drawn from (seed, step): place i of a batch has the same draws in every batch.
    Of ``part`` alone where it is given: a process's own share of the batch.
    """
    height, width = preprocess.height, preprocess.width
    stored_height, stored_width = store.pixels.shape[1:3]
    if (stored_height, stored_width) != stored_size(preprocess, crop):
        raise ValueError(f"the store holds {stored_height}x{stored_width}, {stored_size(preprocess, crop)} is needed")
    draws, units = stream(seed, "augment", step).random((len(units), 4))[part], units[part]
    lengths = samples.starts[units + 1] - samples.starts[units]
    images = samples.starts[units] + (draws[:, 0] * lengths).astype(np.int64)
    top = (draws[:, 1] * (stored_height - height + 1)).astype(np.int64)
    left = (draws[:, 2] * (stored_width - width + 1)).astype(np.int64)
    rows = (images * stored_height + top)[:, None] + np.arange(height)
    starts = rows * stored_width + left[:, None]
    batch = _gather(store.pixels, starts, width)
    if flip:
        mirrored = torch.from_numpy(draws[:, 3] < 0.5).to(batch.device)
        batch = torch.where(mirrored[:, None, None, None], batch.flip(2), batch)
    return normalise(batch, preprocess)


def _gather(pixels: Tensor, starts: IntArray, width: int) -> Tensor:
    """Return uint8 [B, H, width, 3]: the ``width`` pixels that begin at each of ``starts`` [B, H]."""
    # The overlapping view has a row for every pixel, the run of pixels from it on, so that one gather copies whole
    # rows of all crops: 3 to 30 times faster than indexing single pixels.
    flat = pixels.view(-1)
    runs = flat.as_strided((len(flat) // 3 - width + 1, 3 * width), (3, 1))
    picked = runs.index_select(0, torch.from_numpy(starts.ravel()).to(pixels.device))
    return picked.view(*starts.shape, width, 3)


def normalise(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Return uint8 [B, H, W, 3] as the network's input: float32 [B, 3, H, W], (x / 255 - mean) / std per channel."""
    mean = torch.tensor(preprocess.mean, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(preprocess.std, device=pixels.device).view(1, 3, 1, 1)
    images = torch.empty((len(pixels), 3, *pixels.shape[1:3]), device=pixels.device)
    return images.copy_(pixels.permute(0, 3, 1, 2)).mul_(1 / (255 * std)).sub_(mean / std)


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


def check_readable(parts: Sequence[Samples], cache: Path, threads: int) -> None:
    """Decode every image of ``parts`` once, so that a damaged one is named before the first step.

    A success is remembered in ``cache`` until a file is touched or the decoder changes. Raises DataError as
    ``decode_all``, and where the cache cannot be written.
    """
    marker = cache / "readable" / files_digest(parts)
    if not marker.exists():
        write_atomic(marker, f"{decode_all(parts, threads)} images were decoded\n")


def decode_all(parts: Sequence[Samples], threads: int) -> int:
    """Decode every image of ``parts``, keep none, and return how many there are.

    Raises DataError with up to ten files that cannot be used and their reasons.
    """
    files = list(dict.fromkeys(samples.path(image) for samples in parts for image in range(len(samples.images))))

    def complaints(number: int) -> list[str]:
        found = []
        for file in files[number * CHUNK : (number + 1) * CHUNK]:
            try:
                read_image(file)
            except DataError as error:
                found.append(str(error))
        return found

    mistakes: list[str] = []
    with progress("checking images", len(files)) as update:
        for number, found in enumerate(in_threads(complaints, -(-len(files) // CHUNK), threads), start=1):
            mistakes += found
            update(min(number * CHUNK, len(files)), "")
    if mistakes:
        shown = mistakes[:NAMED] + [f"and {len(mistakes) - NAMED} more"] * (len(mistakes) > NAMED)
        raise DataError(f"{len(mistakes)} of {len(files)} images cannot be used:\n  " + "\n  ".join(shown))
    return len(files)
