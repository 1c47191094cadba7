"""Figures as files, and as images of pages and notebooks; equal figures give equal bytes."""

from __future__ import annotations

import io
import re
import warnings
from base64 import b64encode
from collections.abc import Iterable
from html import escape
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.figure import Figure

from reidbench.reports.table import one_line

_FONTS_AND_IDS: Any = {"svg.fonttype": "none", "svg.hashsalt": "reidbench"}
_NO_METADATA = {"png": {"Software": None}, "svg": dict.fromkeys(("Date", "Creator", "Format", "Type"))}


def title_of(figure: Figure) -> str:
    """Return a figure's label as one line: its caption and its accessible name."""
    return one_line(str(figure.get_label())) or "figure"


def to_bytes(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """Return a figure as a file on white: PNG of 150 dots an inch, or SVG whose texts are text."""
    raw = io.BytesIO()
    with rc_context(_FONTS_AND_IDS), warnings.catch_warnings(action="ignore", category=UserWarning):
        # The warnings are of characters that no font has: they are drawn as boxes.
        figure.savefig(raw, format=kind, dpi=150, facecolor="white", metadata=_NO_METADATA[kind])
    return raw.getvalue()


def to_img(figure: Figure) -> str:
    """Return a figure as an HTML element, in its size on paper."""
    data = b64encode(to_bytes(figure, "png")).decode()
    width = round(96 * figure.get_figwidth())
    return f'<img alt="{escape(title_of(figure))}" width="{width}" src="data:image/png;base64,{data}">'


def to_files(figures: Iterable[Figure]) -> dict[str, bytes]:
    """Return every figure as PNG and as SVG by the name of its file: a number and the label in safe characters."""
    files: dict[str, bytes] = {}
    for number, figure in enumerate(figures, start=1):
        slug = re.sub(r"[^a-z0-9]+", "-", title_of(figure).lower()).strip("-")[:60].strip("-")
        stem = f"{number:02d}-{slug or 'figure'}"
        files |= {f"{stem}.png": to_bytes(figure, "png"), f"{stem}.svg": to_bytes(figure, "svg")}
    return files
