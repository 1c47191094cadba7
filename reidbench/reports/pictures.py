"""Pictures of a report in rows, such as a query beside its ranking: images on pages, a figure in files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """One picture.

    ``jpeg``: the content of a JPEG file.
    ``text``: the line below it.
    ``correct``: whether it is a correct match; None for pictures that are no matches.
    """

    jpeg: bytes
    text: str
    correct: bool | None = None

    @property
    def mark(self) -> str:
        return "" if self.correct is None else "✓" if self.correct else "✗"


@dataclass(frozen=True)
class PictureGrid:
    """Rows of pictures.

    ``title``: the caption.
    ``rows``: for each row its pictures by the heading of their group; all rows have the same groups.
    """

    title: str
    rows: Sequence[Mapping[str, Sequence[Picture]]]

    def to_figure(self) -> Figure:
        """Return the grid as a matplotlib figure; a border of correct matches is solid, one of wrong matches dashed."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - a second, for files only

        widths = {group: max(len(row[group]) for row in self.rows) for group in self.rows[0]}
        figure = Figure((0.95 * sum(widths.values()) + 0.3, 1.8 * len(self.rows) + 0.3), layout="constrained")
        figure.patch.set_alpha(0.0)
        figure.set_label(self.title)
        grid = figure.subplots(len(self.rows), sum(widths.values()), squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        first = 0
        for group, width in widths.items():
            grid[0, first].set_title(group.replace("$", r"\$"), fontsize=8, loc="left")
            for row, places in zip(self.rows, grid[:, first : first + width], strict=True):
                for picture, axes in zip(row[group], places, strict=False):
                    axes.set_axis_on()
                    axes.imshow(np.asarray(Image.open(io.BytesIO(picture.jpeg))), interpolation="none")
                    axes.set(xticks=[], yticks=[])
                    axes.set_xlabel(f"{picture.mark} {picture.text}".strip().replace("$", r"\$"), fontsize=7)
                    colour = {None: "none", True: "#2f9e6e", False: "#d2504f"}[picture.correct]
                    axes.spines[:].set(color=colour, linewidth=2.5, linestyle="--" if picture.correct is False else "-")
            first += width
        return figure
