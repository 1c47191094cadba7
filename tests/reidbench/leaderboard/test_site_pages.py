"""The pages of leaderboards as tools: filters, state in the address, downloads, comparisons, sizes, accessibility."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest

from reidbench.leaderboard.board import load_boards
from reidbench.leaderboard.site import board_page, external_page, index_page
from reidbench.leaderboard.site_entries import entries_of
from reidbench.ranking.bootstrap import paired_difference
from reidbench.ranking.scores import scores_at
from reidbench.reports.compare_runs import _with_seeds, compare
from reidbench.studies import comparison as studies
from tests.support.boards import made_up_entries
from tests.support.paths import CHECKOUT

LEADERBOARDS = CHECKOUT / "leaderboards"


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Return the file of a page of twelve rows with three seeds each, on two networks."""
    return write(tmp_path_factory.mktemp("site"), made_up_entries(12, 3))


def write(folder, entries):
    (folder / "board.html").write_text(board_page("board", entries), encoding="utf-8")
    return folder / "board.html"


def losses(visit):
    return visit.page.locator("[data-board] tbody th bdi").all_text_contents()


def compared(visit):
    """Return the ends of the interval that a page shows, in points."""
    ends = visit.page.locator("[data-interval]").get_attribute("data-interval")
    return [100 * float(end) for end in ends.split()]


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_board_and_index_are_accessible(tmp_path, board, open_page, width, dark):
    index, other = tmp_path / "index.html", tmp_path / "_external.html"
    index.write_text(index_page({"one": made_up_entries(2), "two": made_up_entries(1)}, "https://example.com", 2))
    texts = {"protocol": "market1501@1", "metric": "euclidean", "rerank": "none", "weights": "javascript:alert(1)"}
    row = texts | {"method": "M", "code": "https://example.org", "id": "1"} | dict.fromkeys(scores_at(), "0.5")
    other.write_text(external_page([row, row | {"id": "2"}]))
    assert 'href="javascript' not in other.read_text()
    for file in (board, index, other):
        visit = open_page(file, dark=dark)
        visit.page.set_viewport_size({"width": width, "height": 900})
        if file != index:
            visit.page.locator(".open").first.click()
        if file == board:
            visit.page.locator("[data-tick]").nth(0).check()
            visit.page.locator("[data-tick]").nth(1).check()
        assert visit.violations() == []
        assert visit.complaints == []


def test_a_board_is_used_by_keyboard_alone(board, open_page):
    visit = open_page(board)
    press = visit.page.keyboard.press
    visit.page.get_by_role("searchbox").first.focus()
    visit.page.keyboard.type("loss_1")
    assert sorted(losses(visit)) == ["loss_1", "loss_10", "loss_11"]
    press("Tab")
    visit.page.keyboard.type("loss_10")
    assert losses(visit) == ["loss_10"]
    for _ in range(30):
        press("Tab")
        if visit.page.evaluate("document.activeElement.matches('[data-tick]')"):
            break
    press("Space")
    assert "Tick a second row" in visit.page.inner_text("[data-comparison]")
    press("Tab")
    press("Enter")
    visit.page.locator(".details [data-copy]").press("Enter")
    visit.page.locator(".details").get_by_text(re.compile("^(Copied|Selected)$")).wait_for()
    visit.page.get_by_role("button", name="Clear").press("Enter")
    assert visit.page.locator("[data-comparison]").is_hidden()


def test_the_address_holds_search_filters_order_and_ticks(board, open_page):
    visit = open_page(board)
    visit.page.get_by_role("searchbox").fill("loss")
    visit.page.get_by_label("Network").select_option("tiny")
    visit.page.locator("th button[data-key=map_market]").click()
    visit.page.locator("th button[data-key=map_market]").click()
    for number in (0, 2):
        visit.page.locator("[data-tick]").nth(number).check()
    again = open_page(board, anchor="#" + visit.page.url.partition("#")[2])
    assert losses(again) == losses(visit) == sorted(losses(visit), key=lambda name: -int(name[5:]))
    assert again.page.get_by_label("Network").input_value() == "tiny"
    assert again.page.locator("[data-comparison]").inner_text() == visit.page.locator("[data-comparison]").inner_text()
    assert again.page.url == visit.page.url
    visit.page.get_by_role("searchbox").fill("")
    assert "search" not in visit.page.url
    nonsense = open_page(board, anchor="#backbone=nowhere&sort=-nothing&compare=row-1,&loss=%E0%A4%A")
    assert len(losses(nonsense)) == 12
    assert again.complaints == nonsense.complaints == []


def test_all_rows_of_a_long_board_are_downloaded_and_compared(tmp_path, open_page):
    visit = open_page(write(tmp_path, made_up_entries(120, 1)))
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="CSV", exact=True).click()
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    assert len(rows) == 120
    chips = visit.page.locator("tbody tr:first-child .chip").all_inner_texts()
    assert all(chip in " ".join(row["track"] for row in rows) for chip in chips)
    assert len({row["track"] for row in rows}) == 2
    visit.page.get_by_role("button", name="Show all").click()
    assert visit.page.locator("[data-tick]").count() == 120


def test_what_fits_the_filters_is_downloaded(tmp_path, open_page):
    entries = made_up_entries(3, 2, loss="=cmd|x&y_z%,\"'{}~^\\")
    visit = open_page(write(tmp_path, entries))
    visit.page.get_by_label("Network").select_option("tiny")
    texts = {}
    for name in ("CSV", "Markdown", "LaTeX"):
        with visit.page.expect_download() as download:
            visit.page.get_by_role("button", name=name, exact=True).click()
        assert download.value.suggested_filename.startswith("board.")
        texts[name] = download.value.path().read_text()
    rows = list(csv.DictReader(texts["CSV"].splitlines()))
    shown = [entry for entry in entries if entry.items["backbone"] == "tiny"]
    assert [row["loss"] for row in rows] == [f"'{entry.items['loss']}" for entry in shown]
    assert [row["mAP (market)"] for row in rows] == [f"{100 * entry.primary:.2f}" for entry in shown]
    assert all(float(row["mAP (market) sd"]) > 0 for row in rows)
    lines = texts["Markdown"].splitlines()
    assert len(lines) == 2 + len(shown)
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert r"=cmd|x\&y\_z\%" in texts["LaTeX"]
    assert r"\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}" in texts["LaTeX"]
    assert texts["LaTeX"].count(r"\\") == 1 + len(shown)


def test_ticked_rows_are_compared_as_by_the_command(tmp_path, open_page):
    (board,) = [each for each in load_boards(LEADERBOARDS)[0] if each.name == "synthetic"]
    entries = list(entries_of(board))
    visit = open_page(write(tmp_path, entries))
    # The rows of studies have several seeds, which the command compares otherwise.
    trained = [entry for entry in entries if entry.row["loss"] != "none" and entry.row["n_seeds"] == "1"]
    assert len(trained) > 4
    for entry in trained[1:]:
        for each in (trained[0], entry):
            visit.page.locator(f"#{each.anchor} [data-tick]").check()
        expected = compare(*(LEADERBOARDS.parent / each.path for each in (trained[0], entry))).differences[0]
        assert compared(visit) == pytest.approx([100 * end for end in expected.interval], abs=0.3)
        texts = f"{100 * abs(expected.difference):.2f}", f"reidbench compare {trained[0].path} {entry.path}"
        assert all(text in visit.page.inner_text("[data-comparison]") for text in texts)
        visit.page.get_by_role("button", name="Clear").click()


def test_three_seeds_add_their_variance_to_a_comparison(board, open_page):
    entries = {entry.items["loss"]: entry for entry in made_up_entries(12, 3)}
    visit = open_page(board)
    for loss in ("loss_1", "loss_5"):
        visit.page.get_by_label(f"Compare {loss} · tiny", exact=True).check()
    sides = [entries[loss] for loss in ("loss_1", "loss_5")]
    means = [side.values.mean(axis=0) for side in sides]
    gap, between = paired_difference(*means, sides[0].identities)
    expected = _with_seeds(gap, between, [np.array(side.by_seed) for side in sides], 30)
    assert compared(visit) == pytest.approx([100 * end for end in expected], abs=0.3)
    assert "--seeds" in visit.page.inner_text("[data-comparison]")


def test_losses_that_may_be_the_best_are_marked(board, open_page):
    entries = [entry for entry in made_up_entries(12, 3) if entry.items["backbone"] == "tiny"]
    told = studies.compare({entry.items["loss"]: entry.values for entry in entries}, entries[0].identities).losses
    visit = open_page(board)
    visit.page.get_by_label("Network").select_option("tiny")
    rows = visit.page.locator("[data-board] tbody > tr:first-child")
    marked = [name for name, row in zip(losses(visit), rows.all(), strict=True) if row.locator(".star").count()]
    assert marked == [loss.name for loss in told if loss.may_be_best]
    assert 0 < len(marked) < len(told)
    places = ["–".join(map(str, dict.fromkeys(loss.places))) for loss in told]
    assert rows.locator(".verdict small").all_text_contents() == places
    assert "among those marked in 95 %" in visit.page.inner_text("main")


def test_rows_of_a_study_show_options_that_seeds_share(tmp_path, open_page):
    rows = zip(made_up_entries(3), ("default", "default", "tuned"), strict=True)
    entries = [replace(each, row=each.row | {"study": "a", "loss": "family", "tuning": own}) for each, own in rows]
    visit = open_page(write(tmp_path, entries))
    assert sorted(losses(visit)) == ["family", "loss_0", "loss_1"]
    points = visit.page.locator("figure >> nth=0 >> tbody td:last-child").all_text_contents()
    assert {"family", "loss_0", "loss_1"} == {text.partition(" + ")[0] for text in points}


def test_a_page_without_scripts_shows_its_table(tmp_path, browser):
    file = write(tmp_path, made_up_entries(3))
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(file.as_uri())
    assert page.locator("[data-board] tbody tr:first-child").count() == 3
    assert page.locator("[data-copy], [data-format]").locator("visible=true").count() == 0
    assert page.locator(".star").count() == 0  # single seeds
    assert "too few seeds" in page.inner_text("main")
    links = page.locator(".links a")
    assert links.evaluate_all("links => links.map(link => link.href)") == ["https://arxiv.org/abs/1703.07737"] * 3


def test_four_hundred_rows_fit_in_four_megabytes(tmp_path):
    entries = made_up_entries(400, 3, identities=1123)  # Market-1501 has 3,368 queries
    page = write(tmp_path, entries).read_text()
    assert len(page.encode()) < 4e6
    assert page.count("data-values=") == 50
    assert page.count("<tbody id=") == 400
