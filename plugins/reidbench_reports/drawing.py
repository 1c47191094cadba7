"""What the drawings share: colours for light and dark pages, bare axes, strangers' texts as they are."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Each stands out by 3:1 and more from white and from a dark page alike.
COLOURS = ("#3b82c4", "#d9730d", "#2f9e6e", "#c2498f", "#8b6fd1", "#a8852b", "#1f9db3", "#d2504f")
GREY = "#8a8f98"
RIGHT, WRONG = "#2f9e6e", "#d2504f"
DASHES = ("-", "--", ":", "-.")
_LONGEST = 48


def canvas(title: str, width: float = 7.0, height: float = 3.6) -> Figure:
    """Return an empty figure of ``width`` × ``height`` inches that shows what ``title`` says."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    figure.set_label(plain(title, 200))
    return figure


def bare(axes: Axes, title: str = "", x: str = "", y: str = "", size: float = 9) -> Axes:
    """Dress axes: a title to the left, a light grid, no frame above and to the right."""
    axes.set_title(plain(title), loc="left", fontsize=size + 1)
    axes.set_xlabel(plain(x), fontsize=size)
    axes.set_ylabel(plain(y), fontsize=size)
    axes.tick_params(labelsize=size - 1, length=3)
    axes.patch.set_alpha(0.0)
    axes.grid(visible=True, color="black", alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def legend(axes: Axes, *, beside: bool = False) -> None:
    """Add the legend, beside the axes where lines would run through it."""
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)} if beside else {"loc": "best"}
    axes.legend(frameon=False, fontsize=8, **place)


def style(number: int) -> tuple[str, str]:
    """Return colour and dashes of the n-th line; colours come round with other dashes."""
    return COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]


def plain(text: str, longest: int = _LONGEST) -> str:
    """Return a stranger's text for a drawing: one line, shortened, nothing that steers, no dollar that begins maths."""
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))
    line = line if len(line) <= longest else f"{line[: longest - 1]}…"
    # matplotlib reads maths between two dollars, and takes a backslash off each that has one.
    return line.replace("$", r"\$")


def distinct(names: Sequence[str]) -> list[str]:
    """Return the names on one or two lines each, numbered where shortening would make two of them one."""
    short = [plain(name, 2 * _LONGEST) for name in names]
    said = [f"{name} ({place})" if short.count(name) > 1 else name for place, name in enumerate(short, start=1)]
    return ["\n".join(textwrap.wrap(name, _LONGEST)) for name in said]
