"""Charts: checked values, colours from names, equal bytes, and pages that a keyboard and a screen reader can use."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidbench import Chart, Part, Series
from reidbench.errors import PluginError
from reidbench.reports.chart_figures import chart_figure
from reidbench.reports.charts import COLOURS, GREY, check_chart, method_colours, series_styles
from reidbench.reports.figures import to_bytes
from reidbench.reports.html import to_html
from tests.reidbench.reports.test_figures import HOSTILE
from tests.support.paths import CHECKOUT

VENDOR = CHECKOUT / "reidbench" / "reports" / "vendor"
METHODS = st.lists(st.text(min_size=1), min_size=1, max_size=12, unique=True)


def lines(names, **changes):
    steps = np.arange(1, 31)
    series = [Series(name, steps, np.sqrt(steps) + place, **changes) for place, name in enumerate(names)]
    return Chart("line", "CMC", series, "rank", "matching rate, %")


def charts_of(names):
    """Return a chart of each kind."""
    bands = lines(names, low=np.zeros(30), high=np.full(30, 9.0))
    rows = [Series(name, [40 + n, 41.5], low=[38], high=[43], labels=["seed 0", name]) for n, name in enumerate(names)]
    points = [Series(name, [10.0 ** (n + 1)], [40 + n]) for n, name in enumerate(names)]
    cells = [Series(a, names, [None if a == b else n - m for m, b in enumerate(names)]) for n, a in enumerate(names)]
    return [
        bands,
        Chart("intervals", "mAP", rows, "mAP, %"),
        Chart("scatter", "Cost", points, "seconds", "mAP, %", log="x"),
        Chart("heatmap", "Pairs", cells, "gallery camera", "query camera"),
    ]


@pytest.mark.parametrize(
    ("series", "words"),
    [
        (Series("b", [1, 2], [1.0]), ("b", "y must have 2 values", "got 1")),
        (Series("b", [1, 2], [1, 2], low=[0, 0], high=[1]), ("b", "high must have 2")),
        (Series("b", [1, 2], [1, 2], labels=["one"]), ("b", "labels must have 2")),
        (Series("b", [1, 2], [1, float("inf")]), ("b", "y")),
        (Series("b", [1, 2], [1, "two"]), ("b", "y")),
        (Series("b", [0, 2], [1, 2]), ("b", "x must be above 0")),
        (Series("a", [1, 2], [1, 2]), ("distinct", "a")),
    ],
    ids=["short", "band", "labels", "infinite", "text", "log", "names"],
)
def test_wrong_values_name_owner_chart_and_series(series, words):
    chart = Chart("line", "Losses", [Series("a", [1], [1]), series], log="x")
    with pytest.raises(PluginError) as caught:
        check_chart("section x of plugin y", chart)
    assert all(word in str(caught.value) for word in ("section x of plugin y", "Losses", *words))


def test_rows_of_a_heat_map_have_the_same_columns():
    with pytest.raises(PluginError, match="'b': x must be"):
        check_chart("owner", Chart("heatmap", "Pairs", [Series("a", ["1"], [1]), Series("b", ["2"], [1])]))


def test_numbers_of_numpy_and_gaps_are_values():
    series = Series("a", np.arange(3), np.array([1, np.nan, 3], dtype=np.float32), low=[None, 1, 1], high=[None, 2, 2])
    check_chart("owner", Chart("line", "x", [series]))
    assert (series.x, series.y) == ([0, 1, 2], [1.0, None, 3.0])


@given(METHODS)
def test_colours_follow_from_names_in_any_order(names):
    colours = method_colours([lines(names[:8])])
    assert colours == method_colours([lines(names[:8][::-1])])
    assert sorted(colours) == sorted(names[:8])
    assert len(set(colours.values())) == len(colours)  # no two share a colour
    alone = [method_colours([lines([name])])[name] for name in names[:8]]
    assert set(alone) == {colours[name] for name, own in zip(names, alone, strict=False) if colours[name] == own}
    assert len(method_colours([lines(names)])) == min(len(names), len(COLOURS))


def test_lines_of_a_method_share_its_colour_and_others_are_grey():
    series = [Series(name, [1], [1], method=method) for name, method in (("a", None), ("a, xqda", "a"), ("paper", ""))]
    chart = Chart("line", "x", series)
    styles = [(colour, dashes) for _, colour, dashes in series_styles(chart, method_colours([chart]))]
    assert styles[0][0] == styles[1][0] in COLOURS
    assert (styles[0][1], styles[1][1], styles[2][0]) == (0, 1, GREY)


def test_colours_are_told_from_light_and_dark_pages():
    def luminance(colour):
        channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    style = (VENDOR.parent / "style.css").read_text()
    for paper in re.findall(r"--paper: (#\w{6})", style):
        for colour in (*COLOURS, GREY):
            dark, light = sorted((luminance(paper), luminance(colour)))
            assert (light + 0.05) / (dark + 0.05) >= 3, (paper, colour)


def test_equal_charts_give_equal_files_in_the_same_colours():
    for chart, again in zip(charts_of(["a", "b"]), charts_of(["a", "b"]), strict=True):
        assert to_bytes(chart_figure(chart), "png") == to_bytes(chart_figure(again), "png")
    (axes,) = chart_figure(lines(["b", "a"])).axes
    drawn = {line.get_label(): line.get_color() for line in axes.lines}
    assert drawn == method_colours([lines(["a", "b"])])


def test_points_of_a_scatter_plot_are_not_joined():
    points = [Series("chosen", ["soft", 0.1], [1, 2], method="a"), Series("others", ["soft", 0.2], [3, 4], method="a")]
    (axes,) = chart_figure(Chart("scatter", "margin", points)).axes
    assert [(line.get_linestyle(), line.get_marker()) for line in axes.lines] == [("None", "o"), ("None", "s")]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["soft", "0.1", "0.2"]


def test_a_control_does_not_stretch_the_axis():
    chart = lines(["a"])
    far = Series("none", [1, 1_000], [-900, 900], method="", scaled=False)
    (axes,) = chart_figure(Chart("line", "x", [far, *chart.series])).axes
    assert axes.get_ylim() == chart_figure(chart).axes[0].get_ylim()
    assert len(axes.lines) == 2


def test_vendored_script_is_the_one_whose_digest_is_written_beside_it():
    digest = hashlib.sha256((VENDOR / "vega.js").read_bytes()).hexdigest()
    readme = (VENDOR / "README.md").read_text()
    assert digest in readme
    licences = (VENDOR / "LICENSES.txt").read_text()
    for name, version in re.findall(r"^\| (vega[\w-]*) \| ([\d.]+) \|", readme, re.MULTILINE):
        assert f"{name} {version}: BSD-3-Clause" in licences


def open_charts(open_page, folder, charts, **how):
    """Open a page of charts, and wait until all are drawn."""
    (folder / "page.html").write_text(to_html([Part("Charts", charts=charts)], "Report", ""), encoding="utf-8")
    visit = open_page(folder / "page.html", **how)
    visit.wait_until(f"document.querySelectorAll('.plot svg').length === {len(charts)}")
    return visit


@pytest.mark.parametrize("dark", [False, True])
def test_charts_are_accessible_in_both_themes_and_on_a_phone(tmp_path, open_page, dark):
    shown = open_charts(open_page, tmp_path, charts_of(["batch_hard", "classification"]), dark=dark)
    ink = shown.page.evaluate("getComputedStyle(document.body).color")
    texts = "texts => [...new Set(texts.map(text => getComputedStyle(text).fill))]"
    assert shown.page.eval_on_selector_all(".plot svg text", texts) == [ink]
    shown.page.emulate_media(color_scheme="light" if dark else "dark")  # charts follow at once
    assert shown.page.eval_on_selector_all(".plot svg text", texts) != [ink]
    shown.page.emulate_media(color_scheme="dark" if dark else "light")
    assert shown.page.locator(".data[open]").count() == 0
    for summary in shown.page.locator(".data summary").all():
        summary.press("Enter")
    shown.page.set_viewport_size({"width": 390, "height": 800})
    shown.wait_until("[...document.querySelectorAll('.plot svg')].every(svg => svg.clientWidth < 390)")
    assert shown.violations() == []


def test_tab_and_enter_toggle_a_series_and_open_its_data(tmp_path, open_page):
    shown = open_charts(open_page, tmp_path, [lines(["a", "b"])])
    strokes = "paths => paths.map(path => path.getAttribute('stroke'))"
    assert len(shown.page.eval_on_selector_all(".mark-line path", strokes)) == 2
    toggle = shown.page.get_by_role("button", name="b", exact=True)
    while not toggle.evaluate("button => button === document.activeElement"):
        shown.page.keyboard.press("Tab")
    shown.page.keyboard.press("Enter")
    assert toggle.get_attribute("aria-pressed") == "false"
    assert shown.page.eval_on_selector_all(".mark-line path", strokes) == [method_colours([lines(["a", "b"])])["a"]]
    shown.page.keyboard.press("Tab")  # no zoom to reset: the data comes next
    shown.page.keyboard.press("Enter")
    assert shown.page.locator("tbody th").all_inner_texts() == ["a", "b"]
    assert shown.page.locator("tbody >> nth=1 >> tr >> nth=4 >> td").all_inner_texts() == ["4", "3"]
    shown.page.get_by_role("button", name="a", exact=True).press("Enter")
    assert shown.page.locator(".mark-line path").count() == 0


def test_dragging_zooms_and_a_button_resets(tmp_path, open_page):
    shown = open_charts(open_page, tmp_path, [lines(["a", "b"])])
    before = shown.page.inner_html(".plot")
    box = shown.page.locator(".plot svg").bounding_box()
    assert box
    shown.page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 80)
    shown.page.mouse.down()
    shown.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 90, steps=4)
    shown.page.mouse.up()
    reset = shown.page.get_by_role("button", name="Reset zoom")
    reset.wait_for()
    assert shown.page.inner_html(".plot") != before
    reset.press("Enter")
    assert not reset.is_visible()
    assert [len(shown.page.locator(".plot text").all_inner_texts())] == [len(re.findall("<text", before))]
    shown.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 80)
    tip = shown.page.locator(".tip")
    tip.wait_for()
    assert tip.inner_text().startswith("rank: ")


def test_long_names_stay_distinct_and_stars_stay(tmp_path, open_page):
    names = [f"loss_of_the_generalized_kind(margin={n}, include_the_anchor=false, average=all)" for n in range(20)]
    rows = [Series(name, names, range(20), labels=["+1.0*", *["+1.0"] * 19]) for name in names]
    charts = [Chart("heatmap", "Pairs", rows), Chart("intervals", "mAP", [Series(name, [1]) for name in names])]
    shown = open_charts(open_page, tmp_path, charts)
    for width in (1280, 390):
        shown.page.set_viewport_size({"width": width, "height": 800})
        shown.wait_until("[...document.querySelectorAll('svg')].every(svg => svg.clientWidth < innerWidth)")
        for plot in shown.page.locator(".plot").all():
            assert len({text for text in plot.locator("text").all_text_contents() if "loss" in text}) == 20
        assert shown.page.locator(".plot text").all_text_contents().count("*") == 20
    (axes,) = chart_figure(charts[0]).axes
    assert len({text.get_text() for text in axes.get_yticklabels()}) == 20
    assert [text.get_text() for text in axes.texts].count("*") == 20


def test_hostile_names_in_charts_are_plain_text(tmp_path, open_page):
    texts = [text for text in HOSTILE if text.strip()]
    titled = [Chart("scatter", text, [Series(text, ["x"], [1], labels=[text])], text, text) for text in texts[:4]]
    shown = open_charts(open_page, tmp_path, [*charts_of(texts), *titled])
    names = [re.sub("[\u202e\x00-\x1f]", "\N{REPLACEMENT CHARACTER}", " ".join(text.split())) for text in texts]
    assert shown.page.locator("figure >> nth=0 >> tbody th").all_text_contents() == names
    assert shown.page.locator("main b, main img, main script").count() == 0
    assert shown.fits()
    for chart in [*charts_of(texts), *titled]:
        assert to_bytes(chart_figure(chart), "svg")


def test_without_scripts_the_numbers_are_shown(tmp_path, browser):
    page = to_html([Part("Charts", charts=[lines(["a"])])], "Report", "")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto((tmp_path / "page.html").as_uri())
    assert plain.locator("td").first.is_visible()
    assert len(page) < 1_200_000
    assert "vega" not in to_html([Part("No chart")], "Report", "")
