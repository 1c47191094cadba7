"""Key frames of tracklets: evenly spaced ones, or those of a walking cycle, found by optical flow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reidbench import IntArray, Samples

FloatArray = NDArray[np.float64]

SMOOTHNESS, ITERATIONS = 8.0, 40  # of Horn and Schunck's flow
SLOWEST, FASTEST = 1.5, 3.0  # steps in a second
FEWEST = 8  # frames that show a cycle
BUSIEST = 1.6  # mean energy of a cycle, as a multiple of the tracklet's median


def even_frames(lengths: IntArray, count: int) -> list[IntArray]:
    """Return the frames of each tracklet, from 0 on: ``count`` evenly spaced ones, or all of a tracklet with fewer."""
    return [np.unique((2 * np.arange(count) + 1) * length // (2 * count)) for length in lengths.tolist()]


def listed_frames(listed: Sequence[str], samples: Samples, others: list[IntArray]) -> list[IntArray]:
    """Return the frames of each tracklet whose names are listed, or those of ``others`` where none is."""
    masks = np.split(np.isin(base_names(samples), listed), samples.starts[1:-1])
    return [np.flatnonzero(mask) if mask.any() else other for mask, other in zip(masks, others, strict=True)]


def base_names(samples: Samples) -> list[str]:
    """Return the names of the images without their folders."""
    return [name.rpartition("/")[2] for name in samples.images.tolist()]


def cycle_frames(frames: NDArray[np.uint8], rate: float) -> IntArray:
    """Return the key frames of the best walking cycle in grey ``frames`` [T, H, W] of ``rate`` a second, or none.

    A cycle is one step: its most and least motion and the two frames between. The energy, the sum of squares of the
    horizontal flow in the lower half of two frames, is smoothed and rebuilt from its mean and its strongest frequency
    of 1.5 to 3 steps a second. The best cycle has the highest correlation of both, among those whose mean energy is at
    most 1.6 times the median. Source: after vsislab/stfv3d; the flow is ours.
    """
    if len(frames) < FEWEST:
        return np.zeros(0, dtype=np.int64)
    flow = horizontal_flow(frames[:, frames.shape[1] // 2 :].astype(np.float64) / 255)
    return energy_frames(np.square(flow).sum(axis=(1, 2)), rate)


def horizontal_flow(frames: FloatArray) -> FloatArray:
    """Return the horizontal flow [T - 1, H, W], in pixels, of each frame [T, H, W] to the next one.

    Source: Horn and Schunck 1981, "Determining optical flow", with central differences and four neighbours.
    """
    means = (frames[:-1] + frames[1:]) / 2
    down, across = (np.gradient(means, axis=axis) for axis in (1, 2))
    later = np.diff(frames, axis=0)
    weight = (SMOOTHNESS / 255) ** 2 + across**2 + down**2
    u, v = np.zeros_like(later), np.zeros_like(later)
    for _ in range(ITERATIONS):
        u, v = _neighbours(u), _neighbours(v)
        residual = (across * u + down * v + later) / weight
        u, v = u - across * residual, v - down * residual
    return u


def _neighbours(field: FloatArray) -> FloatArray:
    """Return the mean of the four neighbours of every cell of [T, H, W], the border repeated."""
    wide = np.pad(field, ((0, 0), (1, 1), (1, 1)), mode="edge")
    return (wide[:, :-2, 1:-1] + wide[:, 2:, 1:-1] + wide[:, 1:-1, :-2] + wide[:, 1:-1, 2:]) / 4


def energy_frames(energy: FloatArray, rate: float) -> IntArray:
    """Return the frames of most, middle, least and middle energy of the best cycle; none where there is none.

    ``energy`` [T - 1] is that between consecutive frames, of which there are ``rate`` in a second.
    """
    count = len(energy)
    kernel = np.exp(-0.5 * np.arange(-2, 3) ** 2)
    smooth = np.convolve(np.pad(energy, 2, mode="edge"), kernel / kernel.sum(), mode="valid")
    steps = np.arange(1, count // 2 + 1)
    steps = steps[(steps * rate >= SLOWEST * count) & (steps * rate <= FASTEST * count)]
    if not len(steps):
        return np.zeros(0, dtype=np.int64)
    spectrum = np.fft.rfft(smooth)
    strongest = int(steps[np.abs(spectrum[steps]).argmax()])
    period, phase = count / strongest, np.angle(spectrum[strongest])
    rebuilt = np.cos(2 * np.pi * np.arange(count) / period + phase)  # but for mean and scale, which correlation ignores
    best, chosen = -np.inf, np.zeros(0, dtype=np.int64)
    most = -phase / (2 * np.pi) % 1 * period
    while most + 0.75 * period <= count - 1:
        here = slice(int(np.ceil(most)), int(most + period) + 1)
        score = _correlation(smooth[here], rebuilt[here])
        if smooth[here].mean() <= BUSIEST * np.median(smooth) and score > best:
            # Energy is that of the motion to the next frame: half a frame later.
            best, chosen = score, np.round(most + period * np.arange(4) / 4 + 0.5).astype(np.int64)
        most += period
    return chosen


def _correlation(a: FloatArray, b: FloatArray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / scale) if scale > 0 else 0.0
