"""LOMO, the local maximal occurrence of Liao et al. 2015: hand-made features of colour and texture."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from reidbench import Backbone, OptionError, Preprocess, compiled, hookimpl

SCALES = 3  # the image, then twice the means of 2 x 2 pixels
WINDOW, STEP = 10, 5  # pixels
COLOURS = 8  # bins of each of hue, saturation and value
HISTOGRAM, TEXTURES = COLOURS**3, 3**4  # codes of a pixel
RADII = (3, 5)
TOLERANCE = 0.3  # of SILTP: a neighbour that differs by less than this share counts as equal
SIGMAS = (5, 20)  # of the multi-scale Retinex
GRAY = (0.298936, 0.587043, 0.114021)  # MATLAB's rgb2gray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


class LOMO(Backbone):
    """Local maximal occurrence: histograms of colours and textures, at most once for each height; it learns nothing.

    Options:
        height: Height of the input in pixels, at least 10.
        width: Width of the input in pixels, at least 10.
        retinex: "msr" for a multi-scale Retinex of ours before the colours, none for the colours as they are.

    Maps images [B, 3, height, width], pixels / 255, to [B, D] float32; D is 26,960 at 128 x 64 and at 128 x 48.
    Windows of 10 x 10 pixels at every fifth row and column of three scales have a histogram of joint HSV colours
    (8 x 8 x 8) and two of SILTP textures (81 codes, radius 3 and 5); of all windows of one height the largest count of
    each bin remains. Colours and both textures are the logarithms of 1 + count, each part with the Euclidean length 1.
    The images of a batch are described in as many threads as torch has, each by one, in float64.
    The published Retinex is a closed program: without it, and with ours, this is not the official LOMO.
    Raises OptionError where the image is smaller than a window.

    Source: Liao, Hu, Zhu, Li 2015, "Person re-identification by local maximal occurrence representation and metric
    learning"; LOMO.m and SILTP.m of MARS-evaluation.
    """

    trainable = False

    def __init__(self, *, height: int = 128, width: int = 64, retinex: Literal["msr"] | None = None) -> None:
        super().__init__()
        if min(height, width) < WINDOW:
            raise OptionError(f"lomo: height and width must be at least {WINDOW}; got {height} and {width}")
        self.preprocess = Preprocess(height, width)
        self.retinex = retinex
        self.embedding_dim = sum(windows(height, width)) * (HISTOGRAM + len(RADII) * TEXTURES)

    def forward(self, images: Tensor) -> Tensor:
        """Return the descriptors [B, D] of ``images`` [B, 3, height, width]."""
        pixels = (images.detach() * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            rows = list(pool.map(self._describe, pixels))
        return torch.from_numpy(np.stack(rows)).to(images)

    def _describe(self, image: Bytes) -> Floats:
        return describe(hsv(multi_scale_retinex(image) if self.retinex else image), gray(image))


def windows(height: int, width: int) -> list[int]:
    """Return the number of rows of windows at each scale."""
    sizes = [(height >> scale, width >> scale) for scale in range(SCALES)]
    return [(h - WINDOW) // STEP + 1 if min(h, w) >= WINDOW else 0 for h, w in sizes]


def describe(colours: Floats, grays: Bytes) -> Floats:
    """Return the descriptor [D] of HSV [h, w, 3] in 0..1 and grays [h, w] in 0..255."""
    rows = windows(*grays.shape)
    histograms, bins = np.zeros((sum(rows), HISTOGRAM)), np.minimum(np.floor(colours * COLOURS), COLOURS - 1)
    textures, values = np.zeros((len(RADII), sum(rows), TEXTURES)), grays / 255
    first = 0
    for count in rows:
        part = slice(first, first + count)
        hue, saturation, value = np.moveaxis(bins, 2, 0)
        _add_maxima((hue + COLOURS * saturation + COLOURS**2 * value).astype(np.int64), histograms[part])
        for radius, texture in zip(RADII, textures, strict=True):
            _add_maxima(siltp(values, radius), texture[part])
        bins, values, first = np.floor(_halved(bins)), _halved(values), first + count
    parts = [np.log1p(part).ravel() for part in (histograms, *textures)]
    # No library's norm, whose threads would be one for each of ours.
    return np.concatenate([part / np.sqrt(np.square(part).sum()) for part in parts])


def _halved(values: Floats) -> Floats:
    """Return the means of 2 x 2 pixels, without an odd last row or column."""
    height, width = (size // 2 * 2 for size in values.shape[:2])
    tops, bottoms = values[:height:2, :width], values[1:height:2, :width]
    # In the order of MATLAB's columns: another rounding moves ties of SILTP into other codes.
    total: Floats = (tops[:, ::2] + bottoms[:, ::2] + tops[:, 1::2] + bottoms[:, 1::2]) / 4
    return total


def gray(image: Bytes) -> Bytes:
    """Return the gray values [h, w] of RGB [h, w, 3]."""
    return np.rint(image[..., 0] * GRAY[0] + image[..., 1] * GRAY[1] + image[..., 2] * GRAY[2]).astype(np.uint8)


@compiled
def hsv(image: Bytes) -> Floats:
    """Return hue, saturation and value in 0..1 [h, w, 3] float64 of RGB [h, w, 3]."""
    result = np.zeros(image.shape)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            red, green, blue = image[y, x, 0] / 255, image[y, x, 1] / 255, image[y, x, 2] / 255
            most = max(red, green, blue)
            chroma = most - min(red, green, blue)
            if chroma > 0:
                if blue == most:
                    hue = 4 + (red - green) / chroma
                elif green == most:
                    hue = 2 + (blue - red) / chroma
                else:
                    hue = (green - blue) / chroma
                result[y, x, 0] = (hue / 6) % 1
                result[y, x, 1] = chroma / most
            result[y, x, 2] = most
    return result


@compiled
def siltp(values: Floats, radius: int) -> NDArray[np.int64]:
    """Return the scale invariant local ternary pattern, 0..80 [h, w], of grays [h, w]; the border is replicated.

    The neighbours right, above, left and below at ``radius`` pixels have the weights 1, 3, 9 and 27, and the digit 1
    where they are darker and 2 where they are brighter by more than the tolerance.
    """
    height, width = values.shape
    codes = np.zeros((height, width), dtype=np.int64)
    for y in range(height):
        above, below = max(y - radius, 0), min(y + radius, height - 1)
        for x in range(width):
            low, high = (1 - TOLERANCE) * values[y, x], (1 + TOLERANCE) * values[y, x]
            left, right = max(x - radius, 0), min(x + radius, width - 1)
            weight = 1
            for neighbour in (values[y, right], values[above, x], values[y, left], values[below, x]):
                codes[y, x] += weight * (2 * (neighbour > high) + (neighbour < low))
                weight *= 3
    return codes


@compiled
def _add_maxima(codes: NDArray[np.int64], result: Floats) -> None:
    """Raise result [rows, bins] to the largest count of each code among the windows of each row."""
    counts = np.zeros(result.shape[1])
    for row in range(result.shape[0]):
        for left in range(0, codes.shape[1] - WINDOW + 1, STEP):
            counts[:] = 0
            for y in range(row * STEP, row * STEP + WINDOW):
                for x in range(left, left + WINDOW):
                    counts[codes[y, x]] += 1
            for code in range(len(counts)):
                result[row, code] = max(result[row, code], counts[code])


def multi_scale_retinex(image: Bytes) -> Bytes:
    """Return RGB [h, w, 3] with the light evened out, never darker than it was.

    Ours: the mean over two Gaussians of log(I + 1) - log(blurred I + 1), stretched from 1.5 deviations below its mean
    to 1.5 above onto 0..255, and the brighter of this and the image. The published one is a closed program.
    """
    values = image.astype(np.float64)
    blurred = [gaussian_filter(values, (sigma, sigma, 0), mode="nearest", truncate=3) for sigma in SIGMAS]
    ratio = np.log1p(values) - np.mean(np.log1p(blurred), axis=0)
    stretched = np.clip((ratio - ratio.mean()) / max(3 * ratio.std(), 1e-12) + 0.5, 0, 1) * 255
    return np.maximum(image, np.rint(stretched).astype(np.uint8))


@hookimpl
def register_backbones() -> dict[str, Any]:
    """Offer lomo."""
    return {"lomo": LOMO}
