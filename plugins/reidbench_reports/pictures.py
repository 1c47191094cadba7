"""Pictures of units in drawings: one image of each, small, with a border that says whether it is right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image

from reidbench import DataError, Samples
from reidbench_reports.drawing import plain

HEIGHT, WIDTH = 96, 48
_LONGEST_NAME = 60


def picture(samples: Samples, unit: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Return a unit's first image as uint8 [height, width, 3]; raises DataError where it cannot be read."""
    file = samples.path(int(samples.starts[unit]))
    try:
        with Image.open(file) as opened:
            return np.asarray(opened.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as an image: {error}") from None


def name_of(samples: Samples, unit: int) -> str:
    """Return the name of a unit's first image, and how many more it has."""
    name = str(samples.images[samples.starts[unit]])
    more = int(samples.starts[unit + 1] - samples.starts[unit]) - 1
    name = name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"
    return f"{name} and {more} more" if more else name


def show(axes: Axes, samples: Samples, unit: int, below: Sequence[str], border: str = "") -> None:
    """Draw a unit's picture into axes, with lines of text below it and, where given, a border of that colour."""
    axes.imshow(picture(samples, unit), interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(plain("\n".join(below)) if len(below) < 2 else "\n".join(map(plain, below)), fontsize=7)
    for spine in axes.spines.values():
        spine.set_visible(bool(border))
        if border:
            spine.set_color(border)
            spine.set_linewidth(2.5)
