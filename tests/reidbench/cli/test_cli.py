"""What a person types and reads: verbs, exit codes, messages without a traceback."""

import csv
import os
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from reidbench.cli import make_app
from tests.support.cases import cases
from tests.support.jobs import small_run

VERBS = ("run", "report", "leaderboard", "plugins", "data")


def test_help_names_every_verb():
    said = CliRunner().invoke(make_app(), ["--help"]).output
    assert all(verb in said for verb in VERBS)
    assert "Exit codes: 0 all ok, 1 a run failed, 2 the request was wrong, 130 interrupted." in " ".join(said.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    cases(__file__, "a_wrong_request_ends_with_2_and_says_what_to_do"),
    ids=lambda value: " ".join(value) if value and len(value[0]) < 60 else "",
)
def test_a_wrong_request_ends_with_2_and_says_what_to_do(arguments, words, reidbench_main):
    code, said = reidbench_main(*arguments)
    assert code == 2, said
    assert said.startswith("reidbench: ")
    assert "Traceback" not in said
    assert all(word in said for word in words), said


def test_the_whole_road(tmp_path, reidbench_call):
    """Run, print again, report, add to a leaderboard: the newcomer's afternoon, small."""
    asked = small_run("--loss", "none", "--loss", "classification", "--loss", "batch_hard")
    first = reidbench_call(*asked)
    assert first.returncode == 0, first.stderr
    assert all(name in first.stdout for name in ("none", "classification", "batch_hard", "mAP"))
    again = reidbench_call(*asked)
    assert again.returncode == 0
    assert again.stdout == first.stdout
    assert "training" not in again.stderr
    assert sorted(reidbench_call("report").stdout.splitlines()) == sorted(first.stdout.splitlines())
    boards = tmp_path / "leaderboards"
    added = reidbench_call(
        "leaderboard", "add", os.environ["REIDBENCH_RESULTS"], "--folder", str(boards), "--allow-dirty"
    )
    assert added.returncode == 0, added.stderr
    with (boards / "synthetic.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["loss"] for row in rows) == ["batch_hard", "classification", "none"]
    assert {row["n_seeds"] for row in rows} == {"1"}


def test_a_stand_in_is_drawn_checked_run_and_kept_apart(tmp_path, reidbench_call):
    tree, boards = str(tmp_path / "2024_c1_backup"), tmp_path / "boards"  # a root that looks like an image's name
    drawn = reidbench_call("data", "synthesize", "market1501(identities=24, seed=3)", tree)
    assert drawn.returncode == 0, drawn.stderr
    (tmp_path / "2024_c1_backup" / "query" / "Thumbs.db").write_bytes(b"?")
    checked = reidbench_call("data", "verify", "market1501", "--data-root", tree, "--decode")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert all(text in checked.stdout for text in ("a STAND-IN", "ignored: 1 query/*.db", "decoded all 577 images"))

    asked = ["--protocol", "market1501(views=center)", "--backbone", "tiny(height=64,width=32)"]
    asked += ["--recipe", "quick(steps=2,p=4,k=2)", "--device", "cpu", "--threads", "1"]
    done = reidbench_call("run", "--data-root", tree, "--loss", "batch_hard", *asked)
    assert done.returncode == 0, done.stderr
    assert "(a stand-in: " in done.stderr
    assert "stand-in data" in done.stdout
    added = reidbench_call(
        "leaderboard", "add", os.environ["REIDBENCH_RESULTS"], "--folder", str(boards), "--allow-dirty"
    )
    assert added.returncode == 0, added.stderr
    assert [file.name for file in boards.glob("*.csv")] == ["market1501.standin.csv"]


def test_data_that_are_not_whole_are_named_with_both_counts(tmp_path, reidbench_call):
    tree = tmp_path / "tree"
    assert reidbench_call("data", "synthesize", "market1501(identities=12)", str(tree)).returncode == 0
    next((tree / "query").glob("*.jpg")).unlink()
    checked = reidbench_call("data", "verify", "market1501", "--data-root", str(tree))
    assert checked.returncode == 1
    assert "incomplete: query: " in checked.stdout
    asked = reidbench_call("run", "--protocol", "market1501", "--data-root", str(tree), "--loss", "none", "--dry-run")
    assert asked.returncode == 2
    assert "--allow-partial" in asked.stderr


def test_the_cache_is_shown_and_cleared(tmp_path, reidbench_call):
    cache = tmp_path / "cache"
    env = {"REIDBENCH_CACHE": str(cache)}
    assert reidbench_call(*small_run("--loss", "batch_hard"), env=env).returncode == 0
    size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) / 2**20
    shown = reidbench_call("data", "cache", env=env)
    assert shown.stdout == f"{size:,.1f} MiB below {cache}\n"
    cleared = reidbench_call("data", "cache", "--clear", env=env)
    assert f"deleted below {cache}" in cleared.stdout
    assert not list(cache.rglob("*.pixels*"))


def test_a_trained_network_is_taken_home(tmp_path, reidbench_call):
    done = reidbench_call(*small_run("--loss", "none"))
    assert done.returncode == 0, done.stderr
    (run,) = (Path(os.environ["REIDBENCH_RESULTS"]) / "runs").iterdir()
    (tmp_path / "list.csv").write_text("path\nme.png\n")
    Image.new("RGB", (64, 128), (200, 10, 10)).save(tmp_path / "me.png")
    out = tmp_path / "x.npz"
    made = reidbench_call("embed", str(run), "--images", str(tmp_path / "list.csv"), "--out", str(out))
    assert made.returncode == 0, made.stderr
    assert made.stdout == f"1 embedding of 128 dimensions in {out}\n"
