"""Figures: equal bytes, the colours of the page around them, hostile texts as text."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from reidbench.reports.figures import to_bytes, to_files
from tests.support.cases import cases

HOSTILE: list[str] = [*cases(__file__, "hostile"), "x" * 10_000]


def drawn(title: str = "A drawing", text: str = "what") -> Figure:
    figure = Figure(figsize=(3, 2))
    figure.set_label(title)
    axes = figure.subplots()
    axes.plot([1, 2, 3], [1, 4, 9], "o-", color="#3b82c4", label=text.replace("$", r"\$") or "–")
    axes.imshow(np.arange(12).reshape(3, 4), extent=(1, 2, 1, 2))
    axes.legend()
    axes.set_xlim(1, 3)  # clips, so that there are references
    return figure


def test_equal_figures_give_equal_bytes():
    figure = drawn()
    for kind in ("png", "svg"):
        assert to_bytes(figure, kind) == to_bytes(drawn(), kind) == to_bytes(figure, kind)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_text_in_figures_and_file_names(text):
    files = to_files([drawn(text, text[:40])])
    assert all(re.fullmatch(r"01-[a-z0-9-]+\.(png|svg)", name) and len(name) < 80 for name in files)
    root = ElementTree.fromstring(list(files.values())[1])
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert text[:40] in texts or not text.strip()


def test_a_png_is_on_white(tmp_path):
    (tmp_path / "x.png").write_bytes(to_bytes(drawn(), "png"))
    with Image.open(tmp_path / "x.png") as opened:
        assert opened.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
        assert opened.size == (450, 300)
