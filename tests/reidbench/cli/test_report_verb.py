"""``reidbench report`` and ``run --scale``: pages, plots, suites by name, and hostile names all the way."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from matplotlib.figure import Figure

from reidbench import Part
from reidbench.runs.store import Store
from reidbench.runs.suite import find_suite, load_suite
from tests.support.cases import cases
from tests.support.jobs import small_run
from tests.support.records import make_record, put

HOSTILE = "[bold]=cmd[/foo]<script>../x\u202e" + "y" * 200


def test_a_page_of_hostile_runs_is_plain_text(reidbench_main, tmp_path):
    put(tmp_path / "results" / "runs" / "a", make_record(HOSTILE, scores={"gallery": 100}), None)
    put(tmp_path / "results" / "runs" / "b", make_record(HOSTILE, 1, status="failed", error=HOSTILE, scores={}), None)
    page = tmp_path / "page.html"
    code, said = reidbench_main("report", str(tmp_path / "results"), "--html", str(page))
    assert code == 0, said
    html = page.read_text(encoding="utf-8")
    assert "<script>../x" not in html
    assert "[bold]=cmd[/foo]&lt;script&gt;../x" in html
    assert "\u202e" not in html
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "results"]
    code, said = reidbench_main("report", "--section", "cost", "--plots", str(tmp_path / "plots"))
    assert (code, "no figure in sections cost" in said) == (2, True)


def test_a_suites_runs_are_found_by_its_name(reidbench_main, tmp_path, monkeypatch):
    jobs = load_suite(find_suite("paper/fig6")).every_scale()
    code, said = reidbench_main("report", "paper/fig6")
    assert code == 2
    assert "holds no run of suite paper/fig6; make them with: reidbench run paper/fig6" in said
    for number, job in enumerate(jobs):
        put(tmp_path / "results" / "runs" / str(number), replace(make_record(f"of-it-{number}"), job=job), None)
    put(tmp_path / "results" / "runs" / "other", make_record("not-of-it"), None)
    page = tmp_path / "page.html"
    code, said = reidbench_main("report", "paper/fig6", "--html", str(page), "--section", "table")
    assert code == 0, said
    html = page.read_text(encoding="utf-8")
    assert ["of-it-0" in html, "of-it-1" in html, "not-of-it" in html] == [True, True, False]


def test_a_failing_section_leaves_the_scores(reidbench_main, tmp_path, monkeypatch):
    put(tmp_path / "results" / "runs" / "a", make_record("a"), None)
    page, plots = tmp_path / "page.html", tmp_path / "plots"
    both = ["--section", "curves", "--section", "table"]

    def failing(reason):
        """Whether each way of reporting names the reason and keeps the scores; alone the section is an error."""
        code, said = reidbench_main("report", *both, "--html", str(page))
        html = page.read_text(encoding="utf-8")
        assert (code, reason in said, reason in html.replace("&#39;", "'")) == (0, True, True)
        assert "mAP (market)" in html
        code, said = reidbench_main("report", *both, "--plots", str(plots))
        assert (code, reason in said) == (0, True)
        code, said = reidbench_main("report", *both[:2], "--html", str(page))
        return (code, reason in said) == (1, True)

    with monkeypatch.context() as patch:
        patch.setattr("reidbench_reports.curves.Curves.build", lambda *_: {}["lost"])
        assert failing("KeyError: 'lost'")
        code, said = reidbench_main("report", *both)
        assert (code, "section curves (reidbench_reports.curves, " in said) == (0, True)
    figure = SimpleNamespace(savefig=lambda *_, **__: {}["blank"], get_label=lambda: "x", patch=Figure().patch)
    monkeypatch.setattr("reidbench_reports.curves.Curves.build", lambda *_: Part("Curves", figures=[figure]))
    assert failing("section 'Curves' failed: KeyError: 'blank'")


@pytest.mark.parametrize("option", ["--plots", "--html", "--results", "--data-root"])
def test_an_empty_path_is_refused(reidbench_main, tmp_path, monkeypatch, option):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    put(tmp_path / "results" / "runs" / "a", make_record("a"), None)
    code, said = reidbench_main("report", option, "")
    assert (code, "expected a path, got an empty text" in said, option in said) == (2, True, True)
    assert list((tmp_path / "here").iterdir()) == []


def test_one_printed_form_and_any_written_ones(reidbench_main, reidbench_call, tmp_path):
    runs = tmp_path / "results" / "runs"
    scores = {"queries": 9, "map_market": 0.5}
    put(runs / "a", make_record("a", scores=scores, intervals={"map_market": [0.25, 0.75]}), None)
    put(runs / "b", make_record("b", 1, status="failed", error="why", intervals={}), None)
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    code, said = reidbench_main("report", "--csv", "-", "--json", "-", "--html", str(page))
    assert (code, "--csv and --json: each prints" in said, page.exists()) == (2, True, False)
    printed = reidbench_call("report", "--csv", str(table), "--json", "-", "--html", str(page), "--section", "table")
    assert list(json.loads(printed.stdout)[0]) == ["title", "tables", "notes", "error"]
    assert table.read_text().startswith("section,table,protocol,loss,")
    assert page.read_text(encoding="utf-8").startswith("<!")
    printed = reidbench_call("report", "--csv", str(table), "--json", "-")
    frame, rows = pd.read_csv(table), json.loads(printed.stdout)
    assert list(frame.columns) == list(rows[0])
    assert frame["id"].tolist() == [row["id"] for row in rows] == [record.id for _, record in Store(runs).records()]
    assert frame["status"].tolist() == ["ok", "failed"]
    assert frame.loc[0, ["map_market", "map_market_low", "map_market_high"]].tolist() == [0.5, 0.25, 0.75]
    assert frame["map_market_low"].isna().tolist() == [False, True]


@pytest.mark.parametrize(("arguments", "said"), cases(__file__, "a_scale_belongs_to_a_suite"))
def test_a_scale_belongs_to_a_suite(reidbench_main, arguments, said):
    code, stderr = reidbench_main("run", *arguments)
    assert code == 2
    assert said in " ".join(stderr.split())


def test_a_plan_names_what_differs(reidbench_call):
    flags = ["--loss", "none", "--loss", "batch_hard", "--rerank", "none", "--rerank", "k_reciprocal"]
    for width in (40, 80):  # with every option once, and at last those of each run
        more = ["--verbose"] if width == 80 else []
        done = reidbench_call(*small_run("--dry-run", *flags, *more), env={"COLUMNS": str(width)})
        lines = done.stdout.splitlines()
        assert done.returncode == 0
        assert lines[0].endswith("backbone tiny · recipe quick(steps=4, p=6, k=2) · metric euclidean")
        start = next(number for number, line in enumerate(lines) if "───" in line)
        end = next(number for number, line in enumerate(lines) if line.startswith("protocol synthetic("))
        table = " ".join(" ".join(lines[start:end]).split())
        for name in ("0 none", "0 none, k_reciprocal", "0 batch_hard", "0 batch_hard, k_reciprocal"):
            assert re.search(rf" [0-9a-f]{{10}} (new )?{name} ", f"{table} ")
        assert sum(bool(re.fullmatch("[0-9a-f]{64}", line)) for line in lines) == (0 if width == 40 else 4)
        assert sum(line.startswith("  dataset ") for line in lines) == (1 if width == 40 else 4)


def test_places_that_cannot_be_used_are_named(reidbench_main, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    code, said = reidbench_main(*small_run("--loss", "none"), "--results", str(file / "x"))
    assert (code, str(file) in said, "is a file" in said) == (2, True, True)
    put(tmp_path / "results" / "runs" / "a", make_record("a"), None)
    run = str(tmp_path / "results" / "runs" / "a")
    code, said = reidbench_main("compare", run, f"{run}/record.json")
    assert (code, "are the same runs" in said) == (2, True)
    code, said = reidbench_main("compare", make_record("a").id[:6], run)
    assert (code, "are the same runs" in said) == (2, True)
    code, said = reidbench_main("report", "x.csv")
    assert (code, "x.csv: there is no such file or folder" in said) == (2, True)
