"""Rendered reports: terminal, CSV and JSON; hostile texts stay texts."""

import csv
import io
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from reidbench import Column, OptionError, Part, Table
from reidbench.plugins.catalogue import Catalogue
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.reports import sections
from reidbench.reports.artifacts import RunFiles
from reidbench.reports.sections import build_sections
from reidbench.reports.text_formats import render_terminal, to_csv, to_json
from reidbench.utils.machine import local_machine
from tests.support.cases import cases
from tests.support.records import make_record

COLUMNS = [
    Column("loss"),
    Column("backbone"),
    Column("map_market", "mAP (market)", "number", lambda row: row["shown"]),
    Column("r1", "rank-1", "number"),
    Column("seeds", "", "number"),
]
LOSSES = ("none", "lifted_generalized(margin=0.2)", "0.5*a + b")
ROWS = [
    {"loss": loss, "backbone": "tiny", "map_market": market, "shown": shown, "r1": r1, "seeds": seeds}
    for loss, market, shown, r1, seeds in zip(
        LOSSES, (0.4, 34.56, None), ("0.40", "34.56 ±1.00", "–"), (0.1, 30.0, None), (1, 2, 3), strict=True
    )
]
TABLE = Table(ROWS, COLUMNS)
BEST = replace(TABLE, best={(1, "map_market"), (0, "seeds"), (2, "seeds")})


def part_of(table: Table, *notes: str) -> Part:
    return Part(title="Scores", tables=[table], notes=list(notes))


def shown(part: Part, width: int = 200, *, terminal: bool = False) -> str:
    how = {"force_terminal": terminal, "_environ": {"TERM": "xterm"}, "highlight": False}
    console = Console(file=io.StringIO(), width=width, **how)
    render_terminal([part], console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_wide_terminal_shows_every_column():
    text = shown(part_of(replace(TABLE, title="Protocol one"), "a note"))
    lines = text.splitlines()
    assert lines[:2] == ["Scores", "Protocol one"]
    assert lines[-1] == "a note"
    heading = next(line for line in lines if line.startswith("loss"))
    assert heading.split() == ["loss", "backbone", "(market)", "rank-1", "seeds"]
    row = next(line for line in lines if line.startswith("lifted"))
    assert row.split() == ["lifted_generalized(margin=0.2)", "tiny", "34.56", "±1.00", "30", "2"]
    assert lines[lines.index(heading) - 1].split() == ["mAP"]
    assert set(lines[lines.index(heading) + 1]) == {"─"}
    ends = {line.rstrip().rfind("0.40") + 4 for line in lines if "0.40" in line}
    assert ends == {heading.index("(market)") + len("(market)")}


def test_constant_texts_move_to_a_line_above_a_narrow_table():
    wide, narrow = shown(part_of(TABLE), 80), shown(part_of(TABLE), 66)
    assert "backbone tiny" not in wide
    assert narrow.splitlines()[1] == "backbone tiny"
    assert "lifted_generalized(margin=0.2)" in narrow
    equal = Table([row | {"seeds": 1} for row in ROWS], COLUMNS)
    assert "seeds" in shown(part_of(equal), 60).split("rank-1")[1]  # a number is no constant text


@pytest.mark.parametrize("table", [TABLE, BEST])
@pytest.mark.parametrize("width", [40, 50, 60, 80, 120])
def test_no_cell_is_cut_off_and_no_line_is_too_long(width, table):
    text = shown(part_of(table, "a note " * 30), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    letters = "".join(text.split())
    for cell in ("34.56", "±1.00", "0.40", "none"):
        assert cell in letters


def test_a_narrow_terminal_leaves_minor_columns_out():
    scores = [Column("map", "mAP", "number", ".2f", minor=1), Column("minp", "mINP", "number", ".2f", minor=2)]
    rows = [{"loss": "a" * 20, "map": 1, "minp": 3}, {"loss": "b" * 20, "map": 2, "minp": 4}]
    part = part_of(Table(rows, [Column("loss"), *scores], best={(1, "map"), (1, "minp")}))
    assert "Not shown" not in shown(part, 32)
    narrow = shown(part, 28, terminal=True)
    assert "Not shown at this width: mINP." in " ".join(narrow.split())
    assert "\x1b[1m2.00\x1b[0m" in narrow  # the best stays bold where columns are left out
    assert "4.00" not in narrow
    assert "Not shown at this width: mAP, mINP." in " ".join(shown(part, 22).split())
    assert "4" in to_csv([part])


def test_the_best_is_bold_in_a_terminal():
    terminal = shown(part_of(BEST), terminal=True)
    assert "\x1b[1m34.56 ±1.00\x1b[0m" in terminal
    assert "\x1b[1m0.40" not in terminal


def test_csv_is_one_rectangle_of_unrounded_values():
    other = Table([{"loss": "a", "difference": np.float64(-0.1234567)}], title="Differences")
    frame = pd.read_csv(io.StringIO(to_csv([part_of(TABLE), Part("More", tables=[other])])))
    assert list(frame) == ["section", "table", "loss", "backbone", "map_market", "shown", "r1", "seeds", "difference"]
    assert frame["section"].tolist() == ["Scores"] * 3 + ["More"]
    assert frame["loss"].tolist() == [*LOSSES, "a"]
    assert frame["map_market"].tolist()[:2] == [0.4, 34.56]
    assert frame["difference"].tolist()[3] == -0.1234567


def test_json_holds_tables_notes_and_errors():
    table = Table([{"n": np.int64(3), "x": float("nan"), "text": "汉字"}], title="One")
    parts = json.loads(to_json([Part("Scores", tables=[table], notes=["a note"]), Part("Broken", error="why")]))
    rows = [{"n": 3, "x": None, "text": "汉字"}]
    empty = {"tables": [], "notes": [], "error": ""}
    assert parts[0] == empty | {"title": "Scores", "tables": [{"title": "One", "rows": rows}], "notes": ["a note"]}
    assert parts[1] == empty | {"title": "Broken", "error": "why"}


@pytest.mark.parametrize("cell", ["=1+1", "+cmd", "-cmd()", "@SUM(A1)", "\t=1", "\r=1"])
def test_csv_defuses_formulas_and_leaves_numbers(cell):
    table = Table([{"text": cell, "number": -0.25}])
    (row,) = csv.DictReader(io.StringIO(to_csv([part_of(table)])))
    assert row["text"] == "'" + cell.strip()
    assert row["number"] == "-0.25"


HOSTILE = "[red]x[/red] [link=https://evil]y[/link] \x1b[2J\x1b]0;title\x07 <script> | `code` ![i](https://evil/p.png)"


def test_hostile_texts_are_no_markup_anywhere():
    part = Part(title=HOSTILE, tables=[Table([{HOSTILE: HOSTILE, "n": 1}, {HOSTILE: "b", "n": 2}])], notes=[HOSTILE])
    terminal = shown(part, 400, terminal=True)
    assert "[red]x[/red]" in terminal
    assert "\x1b[2J" not in terminal
    assert "\x1b]" not in terminal
    assert "\x07" not in terminal


cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(cells, cells, cells)
def test_any_text_stays_in_its_cell_in_every_form(heading, one, other):
    table = Table([{"x": one, "n": 1}, {"x": other, "n": 2}], [Column("x", heading), Column("n", kind="number")])
    part = Part(title=one, tables=[table], notes=[other])
    assert max(map(len, shown(part, 100).splitlines()), default=0) <= 100
    assert [len(row) for row in csv.reader(io.StringIO(to_csv([part])))] == [4, 4, 4]
    assert all(char.isprintable() or char == "\n" for char in shown(part, 100))


BUILT = {
    "fine": Part("fine"),
    "broken": KeyError("map_market"),
    "wrong": "a text",
    "frame": Part("frame", tables=[pd.DataFrame({"a": [1]})]),
    "note": Part("note", notes=[3]),
    "value": Part("value", tables=[Table([{"a": ["list"]}])]),
    "figure": Part("figure", figures=["a text"]),
    "exit": SystemExit(0),
    "format": Part("format", tables=[Table([{"a": "text"}], [Column("a", format=lambda row: row["b"])])]),
}


class Built:
    def __init__(self, name: str) -> None:
        if name == "constructor":
            raise KeyError("no such table")
        self.part = BUILT[name]

    def build(self, records, files):
        if isinstance(self.part, BaseException):
            raise self.part
        return self.part


@pytest.fixture
def _sections(monkeypatch):
    plugin = Plugin("acme.sections", "acme", "1.2", "ok")
    items = tuple(PluginItem("section", name, partial(Built, name), plugin) for name in [*BUILT, "constructor"])
    monkeypatch.setattr(sections, "load", lambda: Catalogue((plugin,), items))


@pytest.mark.usefixtures("_sections")
def test_a_failing_section_costs_only_itself():
    reasons: dict[str, str] = cases(__file__, "a_failing_section_costs_only_itself")
    names = ["fine", *reasons, "fine"]
    parts = build_sections(names, [make_record()], RunFiles([], local_machine()))
    assert [part.title for part in parts if not part.error] == ["fine", "fine"]
    assert [not part.error for part in parts] == [True, *[False] * len(reasons), True]
    for part, (name, reason) in zip(parts[1:], reasons.items(), strict=False):
        assert f"section {name} (acme.sections, acme 1.2)" in part.error
        assert reason in part.error
    assert "KeyError: 'map_market'" in shown(parts[1])
    with pytest.raises(OptionError, match=r'there is no section "fime"; did you mean "fine"'):
        build_sections(["fime"], [make_record()], RunFiles([], local_machine()))


def test_a_very_narrow_terminal_lists_the_rows():
    rows = [
        {"loss": "batch_hard", "recipe": "hermans2017(steps=60, p=12, k=4)", "metric": "euclidean", "mAP": 1.0},
        {"loss": "classification", "recipe": "ide(steps=60, p=12)", "metric": "xqda", "mAP": 2.0},
    ]
    wide, narrow = (shown(Part("Scores", [Table(rows)]), width).splitlines() for width in (80, 44))
    assert any(line.split() == ["loss", "recipe", "metric", "mAP"] for line in wide)
    assert max(map(len, narrow)) <= 44
    assert [line for line in narrow if line and line[0] != " "] == ["Scores", "batch_hard", "classification"]
    assert {"hermans2017(steps=60,", "metric:", "euclidean", "mAP:"} <= set(" ".join(narrow).split())
