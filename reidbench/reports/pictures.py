"""Pictures of a report in rows, such as a query beside its ranking: images on pages, a figure in files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        """Return the grid as a matplotlib figure."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - a second, for files only

        columns = max(sum(map(len, row.values())) + 0.4 * len(row) for row in self.rows)
        figure = Figure((0.8 * columns, 1.9 * len(self.rows) + 0.2), layout="constrained", label=self.title)
        axes = figure.subplots()
        axes.set_axis_off()
        for number, row in enumerate(self.rows):
            left, top = 0.0, -2.4 * number
            for group, pictures in row.items():
                axes.text(left, top + 0.05, group.replace("$", r"\$"), fontsize=7)
                for picture in pictures:
                    image = Image.open(io.BytesIO(picture.jpeg))
                    axes.imshow(image, extent=(left, left + 0.9, top - 1.8, top), interpolation="none")
                    text = f"{picture.mark} {picture.text}".strip().replace("$", r"\$")
                    colour = {True: "#2f9e6e", False: "#d2504f", None: "black"}[picture.correct]
                    axes.text(left, top - 1.86, text, fontsize=6, va="top", color=colour)
                    left += 1
                left += 0.4
        axes.set(xlim=(-0.1, columns), ylim=(top - 2.2, 0.3), aspect="equal")
        return figure
