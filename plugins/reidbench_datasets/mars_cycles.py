"""The key frames of walking cycles in MARS, found once and listed in a file for its option ``cycles``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from reidbench import DataError, OptionError, Samples, hookimpl
from reidbench_datasets.key_frames import base_names, cycle_frames
from reidbench_datasets.mars import mars
from reidbench_datasets.synthetic.writer import write_file

CYCLES = "cycles.txt"
ROWS, COLUMNS = 64, 32  # least size of the grey images whose flow is computed


def synthesize(directory: Path, *, data: str = ".", rate: float = 25.0) -> Iterator[tuple[int, int]]:
    """The key frames of one walking cycle of every tracklet of MARS: a list of image names, one a line.

    Options:
        data: the data root with MARS or its stand-in.
        rate: frames in a second.

    Writes ``cycles.txt``, whole, after the last tracklet; tracklets without a cycle are not in it. Yields (images read,
    images in all). Raises OptionError for a rate of 0 or less, DataError for an image that cannot be read.
    """
    if rate <= 0:
        raise OptionError(f"mars_cycles: option rate: expected a number above 0, got {rate:g}")
    split = mars(Path(data).expanduser(), frames="per_tracklet")
    return _write(directory, (split.train, split.gallery), rate)


def _write(directory: Path, parts: tuple[Samples, ...], rate: float) -> Iterator[tuple[int, int]]:
    names: list[str] = []
    done, total = 0, sum(len(part.images) for part in parts)
    for part in parts:
        listed = base_names(part)
        for first, last in zip(part.starts[:-1].tolist(), part.starts[1:].tolist(), strict=True):
            images = [_grey(part.path(image)) for image in range(first, last)]
            alike = len({image.shape for image in images}) == 1
            chosen = cycle_frames(np.stack(images), rate) if alike else np.zeros(0, dtype=np.int64)
            names += [listed[first + place] for place in chosen.tolist()]
            done += last - first
            yield done, total
    directory.mkdir(parents=True, exist_ok=True)
    write_file(directory / CYCLES, "".join(f"{name}\n" for name in names).encode())


def _grey(file: Path) -> NDArray[np.uint8]:
    """Return the grey pixels [H, W] of a JPEG file at the smallest scale of at least 64 x 32 that it decodes to."""
    try:
        pixels = simplejpeg.decode_jpeg(file.read_bytes(), "GRAY", min_height=ROWS, min_width=COLUMNS, min_factor=1)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    return pixels[:, :, 0]


@hookimpl
def register_synthesizers() -> Mapping[str, Callable[..., Any]]:
    return {"mars_cycles": synthesize}
