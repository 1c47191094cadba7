"""``reidbench report`` and ``run --scale``: pages, plots, suites by name, and hostile names all the way."""

from __future__ import annotations

import csv
import io
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reidbench.suite import find_suite, load_suite
from tests.records import make_record, put

Process = Callable[..., subprocess.CompletedProcess[str]]
HOSTILE = "[bold]=cmd[/foo]<script>../x\u202e" + "y" * 200


def test_a_page_and_plots_of_hostile_runs(reidbench_process: Process, tmp_path: Path) -> None:
    record = make_record(HOSTILE, scores={"gallery": 100})
    put(tmp_path / "results" / "runs" / "a", record, None)
    put(tmp_path / "results" / "runs" / "b", make_record(HOSTILE, 1, status="failed", error=HOSTILE, scores={}), None)
    page = tmp_path / "page.html"
    done = reidbench_process("report", str(tmp_path / "results"), "--html", str(page))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    html = page.read_text(encoding="utf-8")
    assert "<script>../x" not in html
    assert "[bold]=cmd[/foo]&lt;script&gt;../x" in html
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "results"]
    table = reidbench_process("report", str(tmp_path / "results"), "--csv")
    (row,) = list(csv.reader(io.StringIO(table.stdout)))[1:]
    assert row[0].startswith("[bold]=cmd[/foo]<script>../x")
    nothing = reidbench_process("report", str(tmp_path / "results"), "--plots", str(tmp_path / "plots"))
    assert nothing.returncode == 2
    assert "section table draws nothing here" in nothing.stderr


def test_a_suites_runs_are_found_by_its_name_at_every_scale(
    reidbench_main: Callable[..., tuple[int, str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    suite = load_suite(find_suite("paper/fig6"))
    code, said = reidbench_main("report", "paper/fig6")
    assert code == 1 or code == 2
    assert "holds no run of suite paper/fig6; make them with: reidbench run paper/fig6" in said
    for number, job in enumerate(suite.every_scale()):
        put(tmp_path / "results" / "runs" / str(number), replace(make_record(f"loss{number}"), job=job), None)
    put(tmp_path / "results" / "runs" / "other", make_record("other"), None)
    assert len(suite.every_scale()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scale", "tiny"], "is for suites; name one"),
        (["paper/table2", "--scale", "huge"], "has no scale 'huge'"),
        (["paper/table2", "--scale", "tiny", "--data-root", "x"], "draws its own data; leave out --data-root"),
    ],
)
def test_a_scale_is_a_suites_own(
    reidbench_main: Callable[..., tuple[int, str]], arguments: list[str], said: str
) -> None:
    code, stderr = reidbench_main("run", *arguments)
    assert code == 2
    assert said in " ".join(stderr.split())
