"""What a person types and reads: verbs, exit codes, messages without a traceback."""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reidbench.cli import app

from .jobs import small_run

Process = Callable[..., subprocess.CompletedProcess[str]]
VERBS = ("run", "report", "leaderboard", "plugins", "data")


def test_help_names_every_verb() -> None:
    said = CliRunner().invoke(app, ["--help"]).output
    assert all(verb in said for verb in VERBS)
    assert "Exit codes: 0 all ok, 1 a run failed, 2 the request was wrong." in " ".join(said.split())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    done = CliRunner().invoke(app, [verb, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--loss", "batch_hrad"], ["batch_hrad", "batch_hard"]),
        (["run", "--loss", "batch_hard(margn=1)"], ["margn", "margin"]),
        (["run", "--loss", "batch_hard(margin="], ["batch_hard(margin="]),
        (["run", "no_such_suite"], ["no_such_suite"]),
        (["run", "nowhere/record.json"], ["nowhere/record.json"]),
        (["run", "synthetic", "--loss", "none"], ["--loss"]),
        (["run", "--device", "tpu"], ["tpu", "cuda"]),
        (["run", "--threads", "-1"], ["--threads"]),
        (["run", "--protocol", 'csv_list(file="nowhere.csv")'], ["nowhere.csv"]),
        (["report", "nowhere"], ["nowhere"]),
        (["report"], ["reidbench run"]),
        (["leaderboard", "add", "nowhere"], ["nowhere"]),
        (["data", "synthesize", "csv_lst", "x"], ["csv_list"]),
    ],
    ids=lambda value: " ".join(value) if value and len(value[0]) < 60 else "",
)
def test_a_wrong_request_ends_with_2_and_says_what_to_do(
    arguments: list[str], words: list[str], reidbench_main: Callable[..., tuple[int, str]]
) -> None:
    code, said = reidbench_main(*arguments)
    assert code == 2, said
    assert said.startswith("reidbench: ")
    assert "Traceback" not in said
    assert all(word in said for word in words), said


def test_the_whole_road(tmp_path: Path, reidbench_process: Process) -> None:
    """Run, print again, report, add to a leaderboard: the newcomer's afternoon, small."""
    asked = small_run("--loss", "none", "--loss", "classification", "--loss", "batch_hard")
    first = reidbench_process(*asked)
    assert first.returncode == 0, first.stderr
    assert all(name in first.stdout for name in ("none", "classification", "batch_hard", "mAP"))
    again = reidbench_process(*asked)
    assert again.returncode == 0
    assert again.stdout == first.stdout
    assert "training" not in again.stderr
    assert sorted(reidbench_process("report").stdout.splitlines()) == sorted(first.stdout.splitlines())
    boards = tmp_path / "leaderboards"
    added = reidbench_process(
        "leaderboard", "add", os.environ["REIDBENCH_RESULTS"], "--folder", str(boards), "--allow-dirty"
    )
    assert added.returncode == 0, added.stderr
    with (boards / "synthetic.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["loss"] for row in rows) == ["batch_hard", "classification", "none"]
    assert {row["n_seeds"] for row in rows} == {"1"}
