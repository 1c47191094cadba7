"""What figures share: colours for light and dark pages, images of units, texts printed as they are."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from reidbench import DataError, Part, Picture, RunFiles, RunRecord, Samples

# Each has a contrast of 3:1 or more on white and on a dark page.
COLOURS = ("#3b82c4", "#d9730d", "#2f9e6e", "#c2498f", "#8b6fd1", "#a8852b", "#1f9db3", "#d2504f")
THUMBNAIL = 128, 64  # height and width in pixels
RENDERED = "synthetic"  # the dataset without real people
_LONGEST, _LONGEST_NAME = 48, 60


def canvas(title: str, width: float = 7.0, height: float = 3.6) -> Figure:
    """Return an empty figure of ``width`` × ``height`` inches with ``title`` as its label."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.set_label(plain(title, 200))
    return figure


def plain(text: str, longest: int = _LONGEST) -> str:
    """Return a text for a figure: one line, shortened, without control characters, no dollar that begins maths."""
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))
    line = line if len(line) <= longest else f"{line[: longest - 1]}…"
    # matplotlib reads maths between two dollars, and removes a backslash before each.
    return line.replace("$", r"\$")


def image_of(samples: Samples, unit: int, height: int, width: int) -> NDArray[np.uint8]:
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


PictureRow = dict[str, list[Picture]]  # by the heading of their group


def picture(samples: Samples, unit: int, text: str, correct: bool | None = None) -> Picture:
    """Return a unit's first image as a thumbnail; raises DataError where it cannot be read."""
    jpeg = io.BytesIO()
    image = Image.fromarray(image_of(samples, unit, *THUMBNAIL))
    image.save(jpeg, "JPEG", quality=80)
    return Picture(jpeg.getvalue(), text, correct)


def allows_pictures(record: RunRecord, files: RunFiles, part: Part) -> bool:
    """Return whether a report may copy images of a run's dataset: rendered ones, others on request; add a note."""
    dataset = record.items["dataset"].spec.partition("(")[0]
    if record.standin or dataset == RENDERED:
        return True
    part.notes.append(
        f"Holds images of the dataset {dataset}: its licence must allow that."
        if files.pictures
        else f"Images of {dataset} are left out; --pictures copies them into page and figures."
    )
    return files.pictures
