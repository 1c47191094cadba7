"""A report as one page: quiet, accessible in both themes, usable with a keyboard, deterministic, texts as texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from playwright.sync_api import Browser

from reidbench import Part
from reidbench.reports.html import to_html
from tests.reidbench.reports.test_figures import HOSTILE, drawn
from tests.support.browser import Visit, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def parts(rows: int = 6) -> list[Part]:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "loss": [f"loss-{number}" for number in range(rows)],
            "mAP (market)": [f"{value:.2f} ±0.10" for value in 100 * draw.random(rows)],
            "train time": ["2 min" if number % 2 else "81 s" for number in range(rows)],
        }
    )
    frame.attrs["values"] = {"train time": [120.0 if number % 2 else 81.0 for number in range(rows)]}
    frame.attrs["best"] = {"mAP (market)": [1]}
    frame.attrs["title"] = "Protocol one"
    return [
        Part("Scores", tables=[frame, frame], figures=[drawn(), drawn("Another")], notes=["a note"]),
        Part("Empty"),
    ]


def write(folder: Path, shown: list[Part], title: str = "Report") -> Path:
    file = folder / "page.html"
    file.write_text(to_html(shown, title, "two runs"), encoding="utf-8")
    return file


@pytest.mark.parametrize("dark", [False, True])
def test_a_report_is_accessible_and_quiet_in_both_themes(tmp_path: Path, browser: Browser, dark: bool) -> None:
    visit = Visit(browser, write(tmp_path, parts()), dark=dark)
    assert visit.violations() == []
    assert visit.complaints == []
    colour = visit.page.eval_on_selector("figure svg text", "text => getComputedStyle(text).fill")
    ink = visit.page.evaluate("getComputedStyle(document.body).color")
    assert colour == ink
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert visit.page.eval_on_selector("figure svg image", "image => image.getBoundingClientRect().width") > 5


def test_columns_sort_by_keyboard_and_times_by_their_length(tmp_path: Path, browser: Browser) -> None:
    visit = Visit(browser, write(tmp_path, parts()))
    visit.page.focus("thead th:nth-child(3) button")
    visit.page.keyboard.press("Enter")
    first = "table >> nth=0 >> tbody td:nth-child(3)"
    assert visit.page.locator(first).all_inner_texts() == ["2 min"] * 3 + ["81 s"] * 3
    visit.page.get_by_role("searchbox").first.fill("LOSS-4")
    assert visit.page.inner_text("output >> nth=0") == "1 of 6 rows"
    assert visit.page.inner_text("output >> nth=1") == "6 rows"


def test_a_page_is_the_same_bytes_and_asks_for_nothing() -> None:
    html = to_html(parts(), "Report", "two runs")
    assert html == to_html(parts(), "Report", "two runs")
    assert "http://" not in html.replace("http://www.w3.org/", "")
    assert "https://" not in html


@pytest.mark.parametrize("text", [text for text in HOSTILE if text.strip()])
def test_strangers_texts_are_shown_as_they_are(tmp_path: Path, browser: Browser, text: str) -> None:
    frame = pd.DataFrame({text: [text, "b"], "n": [1, 2]})
    frame.attrs["title"] = text
    part = Part(text, tables=[frame], figures=[drawn(text, text[:40])], notes=[text])
    visit = Visit(browser, write(tmp_path, [part, Part(text)], title=text))
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    for place in ("h1", "h2", "h3", "main li", "tbody th bdi", "nav a"):
        assert line in visit.page.locator(place).all_text_contents()
    assert visit.page.locator("script").count() == 1
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert visit.complaints == []


def test_a_figure_without_a_name_still_has_one(tmp_path: Path) -> None:
    figure = Figure()
    assert 'aria-label="figure"' in to_html([Part("x", figures=[figure])], "t", "")
