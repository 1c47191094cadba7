"""The page of six runs and the page of one: what is open, where it fits, and that everybody can use it."""

from dataclasses import replace

import pytest

from reidbench.reports.report import report
from reidbench.runs.records import Records
from tests.support.browser import Visit
from tests.support.records import digest, make_item

NAMED = ["mAP (market)", "95 %", "rank-1", "rank-5", "mINP"]
PARTS = ["Scores", "Curves", "Training logs", "Retrieval examples", "Camera pairs", "Cost", "Provenance"]


@pytest.fixture(scope="module")
def pages(ran, tmp_path_factory):
    """The page of two losses with three metrics each, and the page of one run."""
    records, files = ran
    runs = [
        (files.folder(record), replace(
            record, id=digest(record.id, metric), group=digest(record.group, metric),
            items=record.items | {"metric": make_item(metric)},
        ))
        for record in records for metric in ("euclidean", "cosine", "xqda")
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("pages")
    for name, chosen in (("six", runs), ("one", runs[:1])):
        report(Records(chosen), html=folder / f"{name}.html", data_root=files.machine.data)
    return folder / "six.html", folder / "one.html"


def test_a_page_of_six_runs_is_short_and_complete(pages, browser):
    visit = Visit(browser, pages[0])
    assert pages[0].stat().st_size < 3e6
    assert visit.page.evaluate("document.documentElement.scrollHeight") < 5000
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 1280
    assert visit.page.locator(".part > summary h2").all_inner_texts() == PARTS
    assert visit.page.locator(".part[open] h2").all_inner_texts() == PARTS[:4]
    scores = visit.page.locator("table").first
    assert scores.evaluate("table => table.parentElement.scrollWidth <= table.parentElement.clientWidth")
    assert scores.locator("thead").inner_text().split("\t")[:4] == ["loss", *NAMED[:3]]
    pictures = visit.page.locator(".pictures[open] img")
    assert pictures.count() == 4 * (1 + 5 + 2)
    assert pictures.evaluate_all("all => all.every(each => each.naturalWidth === 64)")
    assert set(visit.page.locator(".wrong .mark").all_text_contents()) == {"✗"}
    assert visit.page.get_by_role("searchbox").count() == 0
    visit.page.emulate_media(media="print")
    assert visit.page.locator("#p7 table").first.is_visible()
    assert visit.complaints == []


def test_a_link_to_a_folded_part_unfolds_it(pages, browser):
    visit = Visit(browser, pages[0])
    assert not visit.page.locator("#p7 table").first.is_visible()
    visit.page.get_by_role("link", name="Provenance").press("Enter")
    assert visit.page.locator("#p7 table").first.is_visible()
    assert Visit(browser, pages[0], anchor="#p6").page.locator("#p6 table").first.is_visible()


@pytest.mark.parametrize("scripts", [True, False])
def test_scores_fit_a_phone(pages, browser, scripts):
    context = browser.new_context(java_script_enabled=scripts, viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(pages[0].as_uri())
    card = page.locator("table").first.locator("tbody").first
    loss = card.locator("th").bounding_box()
    assert loss is not None
    assert loss["width"] > 300
    for label in NAMED:
        box = card.locator(f"td[data-label='{label}']").bounding_box()
        assert box is not None, label
        assert 0 <= box["x"] < box["x"] + box["width"] <= 390 - 16, label
        assert box["y"] >= loss["y"] + loss["height"], label
    assert not card.get_by_text("train time").is_visible()
    card.locator("summary").press("Enter")
    assert card.get_by_text("train time").is_visible()
    if scripts:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


@pytest.mark.parametrize(("which", "dark", "width"), [(0, True, 390), (1, False, 1280)])
def test_pages_have_no_barriers(pages, browser, which, dark, width):
    visit = Visit(browser, pages[which], dark=dark)
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.page.locator("details:not(.data)").evaluate_all("all => all.forEach(each => { each.open = true; })")
    assert visit.violations() == []
    assert visit.complaints == []


def test_the_page_of_a_run_has_the_commands_that_repeat_it(pages, browser):
    visit = Visit(browser, pages[1])
    assert visit.page.title() == "batch_hard, seed 0"
    assert visit.page.locator(".part > summary h2").all_inner_texts() == ["Run", *PARTS[1:]]
    commands = visit.page.locator("pre").inner_text().splitlines()
    assert [line.split(" ")[:2] for line in commands] == [["reidbench", "run"]] * 2
    assert commands[1].endswith("/record.json")
