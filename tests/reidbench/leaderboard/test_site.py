"""The site: ranked tracks, provenance, and texts that stay texts."""

import re

import pytest

from reidbench.errors import DataError
from reidbench.leaderboard.site import build_site
from reidbench.plugins.spec import write_value
from tests.support.boards import add_all, rows_of, valid_record
from tests.support.records import make_item

HOSTILE = "[bold]<script>alert(1)</script>\"'{{ 7*7 }}../x" + "y" * 10_000


@pytest.fixture
def boards(tmp_path):
    """Return boards of a protocol whose lists are not on this machine: a site needs no data."""
    tiny, wide = make_item("tiny", "tiny(norm=batch)", "tiny"), make_item("wide")
    protocol = {"protocol": make_item("market1501")}
    records = [valid_record(loss, items=protocol | {"backbone": tiny}) for loss in ("one", "two", "three")]
    records += [valid_record("four", seed, items=protocol | {"backbone": wide}) for seed in (0, 2)]
    add_all(tmp_path / "boards", records)
    return tmp_path / "boards"


def test_rows_are_ranked_by_track_and_open_to_details(boards, tmp_path, open_page):
    files = build_site(boards, tmp_path / "site")
    assert [file.name for file in files] == ["index.html", "market1501.html"]
    index = open_page(files[0])
    index.page.get_by_role("link", name="market1501").click()
    assert index.page.title() == "market1501: leaderboard"
    rows = rows_of(boards, "market1501")
    track = next(row["track"] for row in rows if row["backbone"] == "tiny")
    ranked = sorted((row for row in rows if row["track"] == track), key=lambda row: -float(row["map_market"]))
    visit = open_page(files[1], anchor=f"#row-{ranked[0]['config_hash'][:16]}")
    visit.page.get_by_label("Network").select_option("tiny")
    shown = visit.page.eval_on_selector_all("tbody th bdi", "cells => cells.map(cell => cell.textContent)")
    places = visit.page.locator("[data-board] td[data-label=place] bdi").all_text_contents()
    assert shown == [row["loss"] for row in ranked]
    assert places == ["1", "2", "3"]
    details = visit.page.inner_text(f"#row-{ranked[0]['config_hash'][:16]}-details")
    assert ranked[0]["config_hash"][:16] in details
    assert "reidbench run --protocol market1501 --loss" in details
    assert "self-reported" in visit.page.inner_text("tbody")
    assert all(shown in files[1].read_text() for shown in ("2 chosen", "chosen seeds: 0, 2"))


def test_equal_boards_give_equal_bytes(boards, tmp_path):
    one, two = (build_site(boards, tmp_path / name) for name in ("one", "two"))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_hostile_texts_stay_texts(tmp_path, open_page):
    option = f"tiny(note={write_value(HOSTILE[:1_000])})"
    items = {"protocol": make_item("market1501"), "backbone": make_item(option)}
    environment = {"reidbench": HOSTILE, "device_name": HOSTILE}
    add_all(tmp_path / "boards", [valid_record("one", items=items, deviations=[HOSTILE], environment=environment)])
    visit = open_page(build_site(tmp_path / "boards", tmp_path / "site")[1])
    visit.page.locator(".open").first.click()
    details = visit.page.locator(".details").first.text_content() or ""
    assert details.count(HOSTILE) == 3
    assert option in details
    assert visit.page.locator("script").count() == 2


def test_no_site_is_built_of_invalid_boards(boards, tmp_path):
    file = boards / "market1501.csv"
    file.write_text(re.sub("self-reported", "retrained", file.read_text(), count=1))
    with pytest.raises(DataError, match="line 2 is not what the records give"):
        build_site(boards, tmp_path / "site")
