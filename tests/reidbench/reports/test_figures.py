"""Figures: equal bytes, the colours of the page around them, hostile texts as text."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from reidbench.reports.figures import to_files, to_png, to_svg
from tests.support.cases import cases

HOSTILE: list[str] = [*cases(__file__, "hostile"), "x" * 10_000]


def drawn(title: str = "A drawing", text: str = "what") -> Figure:
    figure = Figure(figsize=(3, 2))
    figure.set_label(title)
    figure.patch.set_alpha(0.0)
    axes = figure.subplots()
    axes.plot([1, 2, 3], [1, 4, 9], "o-", color="#3b82c4", label=text.replace("$", r"\$") or "–")
    axes.imshow(np.arange(12).reshape(3, 4), extent=(1, 2, 1, 2))
    axes.legend()
    axes.set_xlim(1, 3)  # clips, so that there are references
    return figure


def test_equal_figures_give_equal_bytes():
    assert to_svg(drawn(), "a") == to_svg(drawn(), "a")
    assert to_png(drawn()) == to_png(drawn())
    figure = drawn()
    first = to_svg(figure, "a")
    to_png(figure)
    assert to_svg(figure, "a") == first


def test_black_takes_the_pages_colour_without_styles():
    svg = to_svg(drawn(), "a")
    root = ElementTree.fromstring(svg)
    assert "currentColor" in svg
    assert "#000000" not in svg
    assert not re.search(r"\bstyle=|<style|<metadata|<\?xml|<!DOCTYPE", svg)
    assert "#3b82c4" in svg
    texts = [element for element in root.iter() if element.tag.endswith("}text")]
    assert texts
    assert {element.get("fill") for element in texts} == {"currentColor"}
    assert all(float(element.get("font-size", "0")) > 5 for element in texts)
    assert root.get("role") == "img"
    assert root.get("aria-label") == "A drawing"


def test_figures_of_a_page_share_no_id():
    ids_of_figures = []
    for prefix in ("a", "b"):
        root = ElementTree.fromstring(to_svg(drawn(), prefix))
        ids = {element.get("id") for element in root.iter() if element.get("id")}
        values = [value for element in root.iter() for value in element.attrib.values()]
        used = {match for value in values for match in re.findall(r"url\(#([^)]+)\)|^#([\w-]+)$", value)}
        assert used
        assert {one or other for one, other in used} - {"3b82c4"} <= ids | {
            value[1:] for value in values if len(value) == 7
        }
        ids_of_figures.append(ids)
    assert not ids_of_figures[0] & ids_of_figures[1]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_text_in_figures_and_file_names(text):
    files = to_files([drawn(text, text[:40])])
    assert all(re.fullmatch(r"01-[a-z0-9-]+\.(png|svg)", name) and len(name) < 80 for name in files)
    root = ElementTree.fromstring(list(files.values())[1])
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert text[:40] in texts or not text.strip()


def test_a_png_is_on_white(tmp_path):
    (tmp_path / "x.png").write_bytes(to_png(drawn()))
    with Image.open(tmp_path / "x.png") as opened:
        assert opened.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
        assert opened.size == (450, 300)
