"""How far one gets on the embedded data set without learning: map_step of chance, pixels and colour histograms.

Run: python benchmarks/synthetic_difficulty.py [--difficulty easy normal hard] [--identities 500] [--data FOLDER].
A query's own camera and junk are left out of its ranking. Required with "normal": at most 5 % for all of these.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from reidbench_datasets.synthetic import synthetic

from reidbench import Samples, Split, stream

FloatArray = NDArray[np.float32]


def decode(samples: Samples) -> NDArray[np.uint8]:
    return np.stack([simplejpeg.decode_jpeg(samples.path(image).read_bytes()) for image in range(len(samples))])


def chance(images: NDArray[np.uint8], part: str) -> FloatArray:
    return stream(0, "chance", part).standard_normal((len(images), 16), dtype=np.float32)


def pixels(images: NDArray[np.uint8], part: str) -> FloatArray:
    """Pixels at 64x32, the mean of two by two."""
    small = images.reshape(len(images), 64, 2, 32, 2, 3).astype(np.float32).mean((2, 4))
    return small.reshape(len(images), -1) / 255


def normalised_pixels(images: NDArray[np.uint8], part: str) -> FloatArray:
    """The same without mean and contrast."""
    flat = pixels(images, part)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def striped_histograms(images: NDArray[np.uint8], part: str) -> FloatArray:
    """Square roots of joint colour histograms, 4 x 4 x 4 bins in each of 8 horizontal stripes."""
    bins = images.astype(np.int64) // 64
    codes = ((bins[..., 0] * 4 + bins[..., 1]) * 4 + bins[..., 2]).reshape(len(images), 8, -1)
    counts = np.zeros((len(images), 8, 64), dtype=np.float32)
    for image in range(len(images)):
        for stripe in range(8):
            counts[image, stripe] = np.bincount(codes[image, stripe], minlength=64)
    return np.sqrt(counts / codes.shape[2]).reshape(len(images), -1)


def map_step(split: Split, query: FloatArray, gallery: FloatArray) -> float:
    distances = (query**2).sum(1)[:, None] + (gallery**2).sum(1)[None] - 2 * query @ gallery.T
    precisions = []
    for row, pid, camera in zip(distances, split.query.pids, split.query.cams, strict=True):
        same = split.gallery.pids == pid
        kept = (split.gallery.pids != -1) & ~(same & (split.gallery.cams == camera))
        ranks = np.flatnonzero(same[kept][np.argsort(row[kept], kind="stable")])
        precisions.append(np.mean((np.arange(len(ranks)) + 1) / (ranks + 1)))
    return float(np.mean(precisions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--difficulty", nargs="+", default=["easy", "normal", "hard"])
    parser.add_argument("--identities", type=int, default=500)
    parser.add_argument("--data", type=Path, help="where to draw; a temporary folder otherwise")
    arguments = parser.parse_args()
    features = (chance, pixels, normalised_pixels, striped_histograms)
    with tempfile.TemporaryDirectory() as temporary:
        print(f"{'map_step, %':12}" + "".join(f"{feature.__name__.replace('_', ' '):>20}" for feature in features))
        for difficulty in arguments.difficulty:
            root = arguments.data or Path(temporary)
            split = synthetic(root, identities=arguments.identities, difficulty=difficulty)
            query, gallery = decode(split.query), decode(split.gallery)
            scores = [map_step(split, feature(query, "query"), feature(gallery, "gallery")) for feature in features]
            print(f"{difficulty:12}" + "".join(f"{100 * score:>20.2f}" for score in scores))


if __name__ == "__main__":
    main()
