"""Pages: texts stay texts, nothing leaves the file, and tables can be used with a keyboard, by everyone, fast."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest
from playwright.sync_api import Browser

from reidbench.reports import page
from reidbench.reports.page import Cell, Column, Entry, Filter, Table, render
from tests.support.browser import Visit, chromium

HOSTILE = (
    "[bold]x[/foo]",
    "<script>alert(1)</script>",
    "<img src=https://example.com/x onerror=alert(1)>",
    "</style><script>alert(2)</script>",
    '"><b onclick="alert(3)">',
    "=cmd|'/C calc'!A0",
    "../../x",
    "{{ 7 * 7 }}",
    "x" * 10_000,
    "abc\u202edcba",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def entry(number: int) -> Entry:
    score = (number * 7919) % 1000 / 1000
    return Entry(
        id=f"r-{number}",
        cells=[
            Cell(f"loss {number}"),
            Cell(f"{100 * score:.2f}", value=score, best=score > 0.99),
            Cell("cpu", note="two cores"),
        ],
        filters={"track": f"track {number % 3}"},
        details=[("commit", f"c{number}"), ("loss_params", "margin=soft")],
    )


def table(entries: list[Entry]) -> Table:
    return Table(
        caption="Scores",
        columns=[Column("loss"), Column("mAP", "number", "mean average precision"), Column("device")],
        filters=[Filter("track", "Track", [f"track {n}" for n in range(3)])],
        entries=entries,
    )


def write(folder: Path, monkeypatch: pytest.MonkeyPatch, entries: list[Entry], title: str = "A page of tables") -> Path:
    source = (
        '{% extends "base.html.j2" %}{% import "tables.html.j2" as tables %}'
        "{% block content %}<h2>{{ title }}</h2>{{ tables.sortable(table) }}{% endblock %}"
    )
    environment = page._environment()
    loader = jinja2.ChoiceLoader(
        [jinja2.DictLoader({"here.html.j2": source}), environment.loader or jinja2.DictLoader({})]
    )
    monkeypatch.setattr(page, "_environment", lambda: environment.overlay(loader=loader))
    file = folder / "page.html"
    file.write_text(render("here.html.j2", title=title, table=table(entries)), encoding="utf-8")
    return file


def first_cells(visit: Visit, count: int = 3) -> list[str]:
    return visit.page.eval_on_selector_all(
        "tbody:not([hidden]) > tr:first-child th bdi", f"cells => cells.slice(0, {count}).map(c => c.textContent)"
    )


@pytest.mark.parametrize("dark", [False, True])
def test_a_page_is_accessible_and_quiet_in_both_themes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser, dark: bool
) -> None:
    visit = Visit(browser, write(tmp_path, monkeypatch, [entry(n) for n in range(5)]), dark=dark)
    visit.page.locator(".open").first.click()
    assert visit.violations() == []
    assert visit.complaints == []
    shade = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", shade))) < 200) == dark


def test_tables_sort_by_keyboard_in_both_directions_with_missing_numbers_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser
) -> None:
    entries = [entry(n) for n in range(12)]
    entries[4] = replace(entries[4], cells=[entries[4].cells[0], Cell(""), Cell("cpu")])
    visit = Visit(browser, write(tmp_path, monkeypatch, entries))
    visit.page.focus("thead th:nth-child(2) button")
    order = sorted((n for n in range(12) if n != 4), key=lambda n: -(entries[n].cells[1].value or 0.0))
    visit.page.keyboard.press("Enter")
    assert first_cells(visit, 12) == [f"loss {n}" for n in [*order, 4]]
    assert visit.page.get_attribute("thead th:nth-child(2)", "aria-sort") == "descending"
    visit.page.keyboard.press("Space")
    assert first_cells(visit, 12) == [f"loss {n}" for n in [*order[::-1], 4]]
    visit.page.keyboard.press("Shift+Tab")
    visit.page.keyboard.press("Enter")
    assert first_cells(visit, 12) == [f"loss {n}" for n in range(12)]  # 2 before 10
    assert visit.page.get_attribute("thead th:nth-child(2)", "aria-sort") is None


def test_search_and_filter_hide_rows_and_say_how_many_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser
) -> None:
    visit = Visit(browser, write(tmp_path, monkeypatch, [entry(n) for n in range(30)]))
    visit.page.get_by_role("searchbox", name="Search").press_sequentially("CORES loss1")
    assert visit.page.inner_text("output") == "0 of 30 rows"
    visit.page.get_by_role("searchbox", name="Search").fill("CORES 2")
    found = [n for n in range(30) if "2" in f"{n} {entry(n).cells[1].text}"]
    assert visit.page.inner_text("output") == f"{len(found)} of 30 rows"
    visit.page.get_by_label("Track").select_option("track 2")
    assert first_cells(visit, 30) == [f"loss {n}" for n in found if n % 3 == 2]
    visit.page.get_by_role("searchbox", name="Search").press("Enter")  # submits nothing
    assert visit.complaints == []


def test_rows_open_and_a_permanent_link_opens_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser
) -> None:
    file = write(tmp_path, monkeypatch, [entry(n) for n in range(300)])
    visit = Visit(browser, file)
    button = visit.page.get_by_label("Details of loss 3", exact=True)
    button.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    assert visit.page.is_visible("#r-3-details")
    button.press("Enter")
    assert not visit.page.is_visible("#r-3-details")
    linked = Visit(browser, file, anchor="#r-250")
    assert linked.page.is_visible("#r-250-details")
    assert linked.page.evaluate("document.getElementById('r-250').getBoundingClientRect().top < innerHeight")
    assert linked.complaints == []


def test_of_a_thousand_rows_the_first_are_shown_until_all_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser
) -> None:
    entries = [entry(n) for n in range(1000)]
    best_first = [e.cells[0].text for e in sorted(entries, key=lambda e: -(e.cells[1].value or 0.0))]
    visit = Visit(browser, write(tmp_path, monkeypatch, entries))
    visit.page.click("thead th:nth-child(2) button")
    assert first_cells(visit, 1000) == best_first[:100]
    assert visit.page.inner_text("output") == "1000 rows, the first 100 shown"
    visit.page.get_by_role("searchbox", name="Search").fill("loss nowhere")
    assert visit.page.inner_text("output") == "0 of 1000 rows"
    visit.page.get_by_role("searchbox", name="Search").fill("")
    visit.page.get_by_role("button", name="Show all").press("Enter")
    assert first_cells(visit, 1000) == best_first
    assert visit.page.inner_text("output") == "1000 rows"


def test_hostile_texts_are_shown_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser) -> None:
    entries = [
        Entry(f"r-{n}", [Cell(text), Cell("1", value=1), Cell(text, note=text)], {"track": text}, [(text, text)])
        for n, text in enumerate(HOSTILE)
    ]
    visit = Visit(browser, write(tmp_path, monkeypatch, entries, title=HOSTILE[1]))
    assert first_cells(visit, 20) == list(HOSTILE)
    assert visit.page.title() == HOSTILE[1]
    shown = visit.page.eval_on_selector_all("dd", "cells => cells.map(c => c.textContent)")
    assert shown == list(HOSTILE)
    assert visit.page.locator("b, img").count() == 0
    assert visit.page.locator("script").count() == 1
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert visit.complaints == []


def test_the_policy_lets_no_other_script_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser) -> None:
    file = write(tmp_path, monkeypatch, [entry(1)])
    smuggled = "<script>document.title = 'run'</script><img src='https://example.com/x.png'></main>"
    file.write_text(file.read_text().replace("</main>", smuggled))
    visit = Visit(browser, file)
    assert visit.page.title() == "A page of tables"
    blocked = [text for text in visit.complaints if "violates the following Content Security Policy" in text]
    assert [re.search(r"(script|img)-src", text)[0] for text in blocked] == ["script-src", "img-src"]  # type: ignore[index]


def test_a_value_that_a_template_names_must_be_given() -> None:
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render("base.html.j2")
