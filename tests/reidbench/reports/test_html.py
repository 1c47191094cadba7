"""Pages: accessible, usable with a keyboard, without requests, deterministic; hostile texts stay texts."""

import re

import jinja2
import pytest
from matplotlib.figure import Figure

from reidbench import Column, Part, Table
from reidbench.reports.html import environment, render, to_html
from tests.reidbench.reports.test_figures import HOSTILE, drawn
from tests.support.browser import Visit

TEXTS = [text for text in HOSTILE if text.strip()]


def score_of(number: int) -> float:
    return (number * 7919) % 1000 / 1000


def scores_table(rows, missing=-1):
    """Return a table of so many losses in three tracks, with numbers and times; one number can be missing."""
    columns = [
        Column("loss"),
        Column("map", "mAP", "number", lambda row: "" if row["map"] is None else f"{100 * row['map']:.2f} ±0.10"),
        Column("track"),
        Column("seconds", "train time", "number", lambda row: "1 h" if row["seconds"] > 100 else "81 s"),
    ]
    keys = [column.key for column in columns]
    cells = ((f"loss {n}", score_of(n), f"track {n % 3}", 81 + 3600 * (n % 2)) for n in range(rows))
    values = [dict(zip(keys, each, strict=True)) for each in cells]
    if missing >= 0:
        values[missing]["map"] = None
    return Table(values, columns, "Protocol one", best={(n, "map") for n in range(rows) if score_of(n) > 0.99})


def write_board(folder, rows, missing=-1):
    """Write a leaderboard's page with so many rows, with filters and details."""
    return write_table(folder, scores_table(rows, missing), "A board", [f"commit c{n}" for n in range(rows)])


def write_table(folder, table, title, details):
    """Write a page with one table, whose rows open to a text."""
    ids = [f"r-{n}" for n in range(len(table.rows))]
    values = {"table": table, "filters": {"track": "track"}, "details": dict(zip(ids, details, strict=True))}
    template = environment().from_string(
        '{% extends "base.html.j2" %}{% import "tables.html.j2" as tables %}{% block content %}<h2>Table</h2>'
        '{% call(id, key) tables.sortable(table, "Scores", details | list, filters) %}'
        '{{ "" if key else details[id] }}{% endcall %}{% endblock %}'
    )
    file = folder / "page.html"
    file.write_text(render(template, title=title, **values), encoding="utf-8")
    return file


def first_cells(visit, count):
    return visit.page.eval_on_selector_all(
        "tbody:not([hidden]) > tr:first-child th bdi", f"cells => cells.slice(0, {count}).map(c => c.textContent)"
    )


def test_tables_sort_by_keyboard_with_missing_numbers_last(tmp_path, open_page):
    visit = open_page(write_board(tmp_path, 12, missing=4))
    visit.page.focus("thead th:nth-child(2) button")
    order = sorted((n for n in range(12) if n != 4), key=lambda n: -score_of(n))
    visit.page.keyboard.press("Enter")
    assert first_cells(visit, 12) == [f"loss {n}" for n in [*order, 4]]
    assert visit.page.get_attribute("thead th:nth-child(2)", "aria-sort") == "descending"
    visit.page.keyboard.press("Space")
    assert first_cells(visit, 12) == [f"loss {n}" for n in [*order[::-1], 4]]
    visit.page.keyboard.press("Shift+Tab")
    visit.page.keyboard.press("Enter")
    assert first_cells(visit, 12) == [f"loss {n}" for n in range(12)]  # 2 before 10
    assert visit.page.get_attribute("thead th:nth-child(2)", "aria-sort") is None


def test_search_and_filter_hide_rows_and_count_them(tmp_path, open_page):
    visit = open_page(write_board(tmp_path, 30))
    visit.page.get_by_role("searchbox", name="Search").press_sequentially("TRACK loss1")
    assert visit.page.inner_text("output") == "0 of 30 rows"
    visit.page.get_by_role("searchbox", name="Search").fill("TRACK 2")
    found = [n for n in range(30) if "2" in f"{n} {100 * score_of(n):.2f} {n % 3}"]
    assert visit.page.inner_text("output") == f"{len(found)} of 30 rows"
    visit.page.get_by_label("Track").select_option("track 2")
    assert first_cells(visit, 30) == [f"loss {n}" for n in found if n % 3 == 2]
    visit.page.get_by_role("searchbox", name="Search").press("Enter")  # submits nothing


def test_rows_open_and_a_permanent_link_opens_its_row(tmp_path, open_page):
    file = write_board(tmp_path, 300)
    visit = open_page(file)
    button = visit.page.get_by_label("Details of loss 3", exact=True)
    button.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    assert visit.page.is_visible("#r-3-details")
    button.press("Enter")
    assert not visit.page.is_visible("#r-3-details")
    linked = open_page(file, anchor="#r-250")
    assert linked.page.is_visible("#r-250-details")
    assert linked.page.evaluate("document.getElementById('r-250').getBoundingClientRect().top < innerHeight")


def test_of_a_thousand_rows_the_first_are_shown(tmp_path, open_page):
    best_first = [f"loss {n}" for n in sorted(range(1000), key=lambda n: -score_of(n))]
    visit = open_page(write_board(tmp_path, 1000))
    visit.page.click("thead th:nth-child(2) button")
    assert first_cells(visit, 1000) == best_first[:100]
    assert visit.page.inner_text("output") == "1000 rows, the first 100 shown"
    visit.page.get_by_role("searchbox", name="Search").fill("loss nowhere")
    assert visit.page.inner_text("output") == "0 of 1000 rows"
    visit.page.get_by_role("searchbox", name="Search").fill("")
    visit.page.get_by_role("button", name="Show all").press("Enter")
    assert first_cells(visit, 1000) == best_first
    assert visit.page.inner_text("output") == "1000 rows"


def test_hostile_texts_of_a_board_are_plain_text(tmp_path, open_page):
    table = Table([{"loss": text, "track": text} for text in TEXTS])
    visit = open_page(write_table(tmp_path, table, TEXTS[0], TEXTS))
    shown = [re.sub("\u202e", "\N{REPLACEMENT CHARACTER}", text) for text in TEXTS]
    assert first_cells(visit, 20) == shown
    assert visit.page.title() == TEXTS[0]
    texts = "cells => cells.map(c => c.lastChild.textContent.trim())"
    assert visit.page.eval_on_selector_all(".details td", texts) == TEXTS
    assert visit.page.locator("b, img").count() == 0
    assert visit.page.locator("script").count() == 1
    assert visit.fits()


def test_the_policy_lets_no_other_script_run(tmp_path, browser):
    file = write_board(tmp_path, 1)
    smuggled = "<script>document.title = 'run'</script><img src='https://example.com/x.png'></main>"
    file.write_text(file.read_text().replace("</main>", smuggled))
    visit = Visit(browser, file)
    assert visit.page.title() == "A board"
    blocked = [text for text in visit.complaints if "violates the following Content Security Policy" in text]
    assert [re.search(r"(script|img)-src", text)[0] for text in blocked] == ["script-src", "img-src"]


def test_a_value_that_a_template_names_must_be_given():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render("base.html.j2")


def parts(rows: int = 6) -> list[Part]:
    table = scores_table(rows)
    figures = [drawn(), drawn("Another")]
    return [Part("Scores", tables=[table, table], figures=figures, notes=["a note"]), Part("Empty", error="broken")]


def write(folder, shown, title="Report"):
    file = folder / "page.html"
    file.write_text(to_html(shown, title, "two runs"), encoding="utf-8")
    return file


@pytest.mark.parametrize("dark", [False, True])
def test_a_report_is_accessible_in_both_themes(tmp_path, open_page, dark):
    visit = open_page(write(tmp_path, parts()), dark=dark)
    assert visit.violations() == []
    shade = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", shade))) < 200) == dark
    assert visit.page.get_by_role("img", name="A drawing").evaluate("image => image.naturalWidth") == 450


def test_times_sort_by_their_seconds(tmp_path, open_page):
    visit = open_page(write(tmp_path, parts(12)))
    visit.page.focus("thead th:nth-child(4) button")
    visit.page.keyboard.press("Enter")
    first = "table >> nth=0 >> tbody td:nth-child(4)"
    assert visit.page.locator(first).all_inner_texts() == ["1 h"] * 6 + ["81 s"] * 6
    visit.page.get_by_role("searchbox").first.fill("no such loss")
    assert visit.page.inner_text("output >> nth=0") == "0 of 12 rows"
    assert visit.page.inner_text("output >> nth=1") == "12 rows"


def test_equal_reports_are_equal_bytes_without_requests():
    html = to_html(parts(), "Report", "two runs")
    assert html == to_html(parts(), "Report", "two runs")
    assert "http://" not in html.replace("http://www.w3.org/", "")
    assert "https://" not in html


def test_hostile_texts_of_a_report_are_plain_text(tmp_path, open_page):
    shown = [
        Part(text, [Table([{text: text, "n": 1}, {text: "b", "n": 2}], title=text)], notes=[text]) for text in TEXTS
    ]
    shown[0].figures.extend(drawn(text, text[:40]) for text in TEXTS)
    visit = open_page(write(tmp_path, [*shown, *map(Part, TEXTS)], title=" ".join(TEXTS)))
    lines = ["".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text) for text in TEXTS]
    for place in ("h2", "h3", "main li", "tbody th bdi", "nav a"):
        assert set(lines) <= set(visit.page.locator(place).all_text_contents())
    assert visit.page.locator("h1").all_text_contents() == [" ".join(lines)]
    assert visit.page.locator("script").count() == 1
    assert visit.fits()


def test_a_figure_without_a_name_still_has_one(tmp_path):
    figure = Figure()
    assert 'alt="figure"' in to_html([Part("x", figures=[figure])], "t", "")


def test_a_report_folds_what_repeats(tmp_path, open_page):
    rows = [{"loss": loss, "recipe": "quick", "map": 0.1} for loss in "ab"]
    part = Part("Scores", tables=[Table(rows)] * 3, figures=[drawn()])
    visit = open_page(write(tmp_path, [part, part]))
    assert visit.page.get_by_role("searchbox").count() == 0  # few rows
    assert visit.page.locator("summary").all_inner_texts() == ["Scores", "Scores", "3 tables"]
    assert visit.page.locator("table >> nth=0 >> thead th").all_text_contents() == ["loss", "map"]
    assert visit.page.locator("p.soft").first.text_content() == "recipe quick"
