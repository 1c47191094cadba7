"""Reports: what a part looks like in a terminal, as Markdown and as CSV; strangers' texts stay texts."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from reidbench import OptionError, Part, PluginError
from reidbench.plugins.catalogue import Catalogue
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.reports import sections as report_module
from reidbench.reports.render import render_terminal, to_csv, to_markdown
from reidbench.reports.sections import build_sections
from reidbench.runs.artifacts import RunFiles
from reidbench.utils.machine import local_machine
from tests.support.records import make_record

FRAME = pd.DataFrame(
    {
        "loss": ["none", "lifted_generalized(margin=0.2)", "0.5*a + b"],
        "backbone": ["tiny", "tiny", "tiny"],
        "mAP (market)": ["0.40", "34.56 ±1.00", "–"],
        "rank-1": [0.1, 30.0, None],
        "seeds": [1, 2, 3],
    }
)


def part_of(frame: pd.DataFrame, *notes: str) -> Part:
    return Part(title="Scores", tables=[frame], notes=list(notes))


def shown(part: Part, width: int = 200, *, terminal: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, _environ={"TERM": "xterm"}, highlight=False
    )
    render_terminal([part], console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def marked(**best: list[int]) -> pd.DataFrame:
    frame = FRAME.copy()
    frame.attrs["best"] = {"mAP (market)": best.get("market", []), "seeds": best.get("seeds", [])}
    return frame


def test_a_wide_terminal_shows_every_column_with_numbers_to_the_right() -> None:
    text = shown(part_of(FRAME, "a note"))
    lines = text.splitlines()
    assert lines[0] == "Scores"
    assert lines[-1] == "a note"
    heading = next(line for line in lines if line.startswith("loss"))
    assert heading.split() == ["loss", "backbone", "(market)", "rank-1", "seeds"]
    row = next(line for line in lines if line.startswith("lifted"))
    assert row.split() == ["lifted_generalized(margin=0.2)", "tiny", "34.56", "±1.00", "30", "2"]
    assert lines[lines.index(heading) - 1].split() == ["mAP"]
    assert set(lines[lines.index(heading) + 1]) == {"─"}
    ends = {line.rstrip().rfind("0.40") + 4 for line in lines if "0.40" in line}
    assert ends == {heading.index("(market)") + len("(market)")}


def test_columns_that_say_the_same_leave_a_narrow_table_for_a_line_above_it() -> None:
    wide, narrow = shown(part_of(FRAME), 80), shown(part_of(FRAME), 66)
    assert "backbone tiny" not in wide
    assert narrow.splitlines()[1] == "backbone tiny"
    assert "lifted_generalized(margin=0.2)" in narrow


def test_a_column_of_equal_numbers_stays() -> None:
    frame = FRAME.assign(seeds=1)
    assert "seeds" in shown(part_of(frame), 60).split("rank-1")[1]


@pytest.mark.parametrize("width", [40, 50, 60, 80, 120])
def test_nothing_is_cut_off_and_no_line_is_too_long(width: int) -> None:
    text = shown(part_of(FRAME, "a note " * 30), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    letters = "".join(text.split())
    for cell in ("34.56", "±1.00", "0.40", "none"):
        assert cell in letters


def test_a_narrow_terminal_leaves_minor_columns_out_the_last_first_and_says_so() -> None:
    frame = pd.DataFrame({"loss": ["a" * 20, "b" * 20], "mAP": ["1.00", "2.00"], "mINP": ["3.00", "4.00"]})
    frame.attrs["minor"] = ["mAP", "mINP"]
    assert "Not shown" not in shown(part_of(frame), 32)
    narrow = shown(part_of(frame), 28)
    assert "Not shown at this width: mINP." in " ".join(narrow.split())
    assert "2.00" in narrow
    assert "4.00" not in narrow
    assert "4.00" in to_csv(part_of(frame))
    assert "Not shown at this width: mAP, mINP." in " ".join(shown(part_of(frame), 22).split())


def test_the_best_is_bold_in_a_terminal_and_in_markdown() -> None:
    frame = marked(market=[1], seeds=[0, 2])
    terminal = shown(part_of(frame), terminal=True)
    assert "\x1b[1m34.56 ±1.00\x1b[0m" in terminal
    assert "\x1b[1m0.40" not in terminal
    markdown = to_markdown(part_of(frame)).splitlines()
    assert markdown[4] == "| none | tiny | 0.40 | 0.1 | **1** |"
    assert markdown[5] == "| lifted_generalized(margin=0.2) | tiny | **34.56 ±1.00** | 30 | 2 |"


def test_markdown_is_a_table_that_github_reads() -> None:
    frame = FRAME.copy()
    frame.attrs["title"] = "Protocol a_b, *version* 1"
    assert to_markdown(part_of(frame, "first", "second\nline")) == (
        "## Scores\n\n"
        "Protocol a_b, \\*version\\* 1\n\n"
        "| loss | backbone | mAP (market) | rank-1 | seeds |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        "| none | tiny | 0.40 | 0.1 | 1 |\n"
        "| lifted_generalized(margin=0.2) | tiny | 34.56 ±1.00 | 30 | 2 |\n"
        "| 0.5\\*a + b | tiny | – |  | 3 |\n\n"
        "- first\n- second line\n"
    )


def test_csv_holds_every_table_with_an_empty_line_between() -> None:
    text = to_csv(Part(title="Scores", tables=[FRAME, FRAME[:1]]))
    first, second = text.split("\n\n")
    rows = list(csv.reader(io.StringIO(first)))
    assert rows[0] == list(FRAME.columns)
    assert rows[1:] == [
        ["none", "tiny", "0.40", "0.1", "1"],
        ["lifted_generalized(margin=0.2)", "tiny", "34.56 ±1.00", "30", "2"],
        ["0.5*a + b", "tiny", "–", "", "3"],
    ]
    assert len(second.splitlines()) == 2
    assert text.endswith("\n")


def test_a_tables_title_stands_above_it() -> None:
    frame = FRAME.copy()
    frame.attrs["title"] = "Protocol one"
    assert shown(part_of(frame)).splitlines()[1] == "Protocol one"


@pytest.mark.parametrize("cell", ["=1+1", "+cmd", "-cmd()", "@SUM(A1)", "\t=1", "\r=1"])
def test_csv_defuses_formulas_and_leaves_numbers(cell: str) -> None:
    frame = pd.DataFrame({"text": [cell], "number": ["-0.25"]})
    ((text, number),) = list(csv.reader(io.StringIO(to_csv(part_of(frame)))))[1:]
    assert text == "'" + cell.strip()
    assert number == "-0.25"


HOSTILE = "[red]x[/red] [link=https://evil]y[/link] \x1b[2J\x1b]0;title\x07 <script> | `code` ![i](https://evil/p.png)"


def test_strangers_texts_are_no_markup_anywhere() -> None:
    frame = pd.DataFrame({HOSTILE: [HOSTILE, "b"], "n": [1, 2]})
    part = Part(title=HOSTILE, tables=[frame], notes=[HOSTILE])
    terminal = shown(part, 400, terminal=True)
    assert "[red]x[/red]" in terminal
    assert "\x1b[2J" not in terminal
    assert "\x1b]" not in terminal
    assert "\x07" not in terminal
    markdown = to_markdown(part)
    assert "<script" not in markdown.replace("\\<script", "")
    assert "![" not in markdown.replace("\\!", "!").replace("!\\[", "")
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} == {3}


cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(cells, cells, cells)
def test_any_text_keeps_its_place_in_every_form(heading: str, one: str, other: str) -> None:
    frame = pd.DataFrame([[one, 1], [other, 2]], columns=[heading, "n"])
    part = Part(title=one, tables=[frame], notes=[other])
    assert max(map(len, shown(part, 100).splitlines()), default=0) <= 100
    table = [line for line in to_markdown(part).split("\n") if line.startswith("| ")]
    assert len(table) >= 4
    assert [len(row) for row in csv.reader(io.StringIO(to_csv(part)))] == [2, 2, 2]
    assert all(char.isprintable() or char == "\n" for char in shown(part, 100))


class Fine:
    def build(self, records: object, files: object) -> Part:
        return Part(title="fine")


class Broken(Fine):
    def build(self, records: object, files: object) -> Part:
        raise KeyError("map_market")


class Wrong(Fine):
    def build(self, records: object, files: object) -> Part:
        return "a text"  # type: ignore[return-value]


@pytest.fixture
def _sections(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin("acme.sections", "acme", "1.2", "ok")
    items = tuple(PluginItem("section", each.__name__.lower(), each, plugin) for each in (Fine, Broken, Wrong))
    monkeypatch.setattr(report_module, "load", lambda: Catalogue((plugin,), items))


@pytest.mark.usefixtures("_sections")
def test_sections_are_built_in_order_and_what_fails_is_named_with_its_owner() -> None:
    files = RunFiles([], local_machine())
    assert [part.title for part in build_sections(["fine", "fine"], [], files)] == ["fine", "fine"]
    with pytest.raises(
        PluginError, match=r"section broken \(acme.sections, acme 1\.2\): could not be made: KeyError: 'map_market'"
    ):
        build_sections(["fine", "broken"], [make_record()], files)
    with pytest.raises(PluginError, match=r"section wrong .*: build must return a Part, got str"):
        build_sections(["wrong"], [make_record()], files)
    with pytest.raises(OptionError, match=r'there is no section "fime"; did you mean "fine"'):
        build_sections(["fime"], [make_record()], files)


def test_where_words_would_be_broken_the_texts_of_a_row_stand_in_one_column() -> None:
    names = ["hermans2017(steps=60, p=12, k=4)", "ide(steps=60, p=12)"]
    frame = pd.DataFrame(
        {
            "loss": ["batch_hard", "classification"],
            "recipe": names,
            "metric": ["euclidean", "xqda"],
            "mAP": ["1.00", "2.00"],
        }
    )
    wide, narrow = (shown(Part("Scores", [frame]), width).splitlines() for width in (80, 44))
    assert any(line.split() == ["loss", "recipe", "metric", "mAP"] for line in wide)
    assert max(map(len, narrow)) <= 44
    assert any(line.startswith("loss, recipe, metric") and line.rstrip().endswith("mAP") for line in narrow)
    words = {word for line in narrow for word in line.replace(",", " ").split()}
    assert {"batch_hard", "hermans2017(steps=60", "classification", "euclidean", "1.00"} <= words  # none is broken
