"""Image files of noise, of several sizes and both formats."""

import numpy as np
from PIL import Image

from reidbench.data.samples import Samples


def write_noise(folder, names, shape=(20, 10, 3), seed=0):
    """Write images of noise [H, W, 3] of these names."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for name in names:
        Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)


def noise_images(folder, lengths, height=24, width=12):
    """Write units of ``lengths`` images, PNG and JPEG, of at least ``height`` x ``width``, and return their samples."""
    names = [f"{number:04d}.{'jpg' if number % 3 else 'png'}" for number in range(sum(lengths))]
    for number, name in enumerate(names):
        write_noise(folder, [name], (height + 3 * (number % 4), width + number % 3, 3), number)
    pids, starts = np.arange(1, len(lengths) + 1), np.cumsum([0, *lengths], dtype=np.int64)
    return Samples(folder, np.array(names, dtype=np.str_), pids, np.ones_like(pids), starts)
