"""Figures as files and as parts of a page; equal figures give equal bytes.

A figure is drawn in black on a transparent background; in SVG everything black takes the colour of the surrounding
text, so that one figure is readable on a light and on a dark page. Presentation attributes replace style attributes and
style sheets, since a page's security policy may forbid both.
"""

from __future__ import annotations

import io
import re
import warnings
from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import partial
from html import escape
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.figure import Figure

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_BLACK = ("#000000", "black", "rgb(0%,0%,0%)")
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_DPI = 150
# Characters that no font has are drawn as boxes.
_without_glyph_warnings = partial(warnings.catch_warnings, action="ignore", category=UserWarning)


def title_of(figure: Figure) -> str:
    """Return a figure's label as one line: its caption and its accessible name."""
    return " ".join(str(figure.get_label()).split()) or "figure"


def to_svg(figure: Figure, prefix: str) -> str:
    """Return a figure as one ``<svg>`` element without an XML header.

    ``prefix`` (letters and digits) begins every id in it, so that one page can hold several. Black becomes
    ``currentColor``; texts stay text elements, in the font of the page.
    """
    raw = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}), _without_glyph_warnings():
        figure.savefig(raw, format="svg", dpi=_DPI, metadata=_NO_METADATA)
    root = ElementTree.fromstring(raw.getvalue())
    _tidy(root, prefix)
    root.attrib.update({"role": "img", "aria-label": title_of(figure), "font-family": "sans-serif"})
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG, 150 dots an inch, on white."""
    raw = io.BytesIO()
    alpha = figure.patch.get_alpha()
    figure.patch.set_alpha(1.0)
    with _without_glyph_warnings():
        figure.savefig(raw, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    figure.patch.set_alpha(alpha)
    return raw.getvalue()


def to_img(figure: Figure) -> str:
    """Return a figure as an HTML element for notebooks, in its size on paper."""
    data = b64encode(to_png(figure)).decode()
    width = round(96 * figure.get_figwidth())
    return f'<img alt="{escape(title_of(figure))}" width="{width}" src="data:image/png;base64,{data}">'


def to_files(figures: Iterable[Figure]) -> dict[str, bytes]:
    """Return every figure as PNG and as SVG by the name of its file: a number and the label in safe characters."""
    files = {}
    for number, figure in enumerate(figures, start=1):
        slug = re.sub(r"[^a-z0-9]+", "-", title_of(figure).lower()).strip("-")[:60].strip("-")
        stem = f"{number:02d}-{slug or 'figure'}"
        files[f"{stem}.png"] = to_png(figure)
        files[f"{stem}.svg"] = f'<?xml version="1.0" encoding="UTF-8"?>\n{to_svg(figure, f"f{number}")}\n'.encode()
    return files


def _tidy(root: ElementTree.Element, prefix: str) -> None:
    """Turn styles into attributes and black into the text's colour, and prefix every id."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        for name, value in _attributes(element.attrib.pop("style", "")):
            element.set(name, value)
        for name in ("fill", "stroke"):
            if element.get(name) in _BLACK:
                element.set(name, "currentColor")
        # Text without a colour is black in SVG.
        if element.tag == f"{{{_SVG}}}text" and not element.get("fill"):
            element.set("fill", "currentColor")
        if "id" in element.attrib:
            element.set("id", f"{prefix}-{element.attrib['id']}")
        for name, value in element.attrib.items():
            renamed = re.sub(r"url\(#", f"url(#{prefix}-", value)
            element.set(name, f"#{prefix}-{value[1:]}" if name.endswith("href") and value.startswith("#") else renamed)
    root.attrib.pop("version", None)
    for name in ("width", "height"):  # in points; 4 pixels are 3 points
        root.set(name, f"{float(root.attrib[name].removesuffix('pt')) * 4 / 3:g}")


def _attributes(style: str) -> Iterator[tuple[str, str]]:
    """Yield a style's properties as presentation attributes; the shorthand ``font`` is split."""
    for part in style.split(";"):
        name, _, value = (text.strip() for text in part.partition(":"))
        if name == "font":
            size = re.search(r"([0-9.]+)px", value)
            yield "font-size", size.group(1) if size else "10"
            if re.search(r"\b(bold|[6-9]00)\b", value):
                yield "font-weight", "bold"
        elif name == "font-size":
            yield name, value.removesuffix("px")
        elif name and name != "font-family":
            yield name, value
