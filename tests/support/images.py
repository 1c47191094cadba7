"""Image files of noise, of several sizes and both formats."""

from pathlib import Path

import numpy as np
from PIL import Image

from reidbench.data.samples import Samples


def noise_images(folder: Path, lengths: list[int], height: int = 24, width: int = 12) -> Samples:
    """Write units of ``lengths`` images, PNG and JPEG, of at least ``height`` x ``width``, and return their samples."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:04d}.{'jpg' if number % 3 else 'png'}" for number in range(sum(lengths))]
    for number, name in enumerate(names):
        shape = (height + 3 * (number % 4), width + number % 3, 3)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    return Samples(
        root=folder,
        images=np.array(names, dtype=np.str_),
        pids=np.arange(1, len(lengths) + 1),
        cams=np.ones(len(lengths), dtype=np.int64),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
