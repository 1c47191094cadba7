"""A CSV or a record that was edited is refused, with file, line and column."""

from __future__ import annotations

import csv
import io
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reidbench.leaderboard.check_board import check
from tests.support.boards import add_all, edit_record, rows_of, valid_record
from tests.support.cases import cases
from tests.support.paths import CHECKOUT
from tests.support.records import set_field


def edit(boards: Path, column: str, text: str | Callable[[str], str], row: int = 0) -> None:
    """Edit one cell of the CSV."""
    file = boards / "synthetic.csv"
    rows = list(csv.reader(io.StringIO(file.read_text())))
    place = rows[0].index(column)
    rows[row + 1][place] = text(rows[row + 1][place]) if callable(text) else text
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    file.write_text(out.getvalue())


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    add_all(tmp_path / "boards", [valid_record("one(margin=0.2)"), valid_record("two"), valid_record("two", 1)])
    return tmp_path / "boards"


def test_what_add_writes_and_the_committed_boards_are_valid(boards: Path) -> None:
    assert check(boards) == []
    assert check(CHECKOUT / "leaderboards") == []


@pytest.mark.parametrize(
    ("column", "cell", "text"),
    [
        *cases(__file__, "an_edited_cell_is_named"),
        ("config_hash", "0" * 64, "2: config_hash '000000000000' has no valid record"),
        ("notes", "[bold]" + "x" * 10_000, "2: notes is .*, but its records give ''"),
    ],
)
def test_an_edited_cell_is_named_with_line_and_column(boards: Path, column: str, cell: str, text: str) -> None:
    edit(boards, column, cell)
    problems = [str(problem) for problem in check(boards)]
    assert any(re.search(rf"synthetic\.csv:{text}", problem) for problem in problems), problems
    assert all(len(problem) < 600 for problem in problems)


def test_copied_and_torn_rows_are_named(boards: Path) -> None:
    file = boards / "synthetic.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines, lines[1], lines[2].replace("0.", "0.", 1)[:40] + "\n"]))
    text = "\n".join(map(str, check(boards)))
    assert f"{file}:4: config_hash is that of line 2 too: a copied row" in text
    assert f"{file}:5: holds " in text
    other = lines[1].replace(rows_of(boards)[0]["config_hash"], "f" * 64)
    file.write_text("".join([*lines, other]))
    assert f"{file}:4: config_hash 'ffffffffffff' has no valid record" in "\n".join(map(str, check(boards)))


def test_all_problems_are_listed_and_the_exit_code_is_1(
    boards: Path, reidbench_call: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    edit(boards, "verified", "consistent", row=1)
    edit(boards, "r1", "0.010000", row=1)
    edit_record(boards, lambda data: data["job"].update(seed=5))
    ended = reidbench_call("leaderboard", "check", "--folder", str(boards))
    assert ended.returncode == 1
    assert "2: config_hash" in ended.stdout  # the row of the edited record
    assert "3: verified" in ended.stdout
    assert "3: r1" in ended.stdout
    assert "record.json" in ended.stdout


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    cases(__file__, "an_edited_record_is_named"),
)
def test_an_edited_record_is_named_with_its_line(boards: Path, path: str, value: Any, problem: str) -> None:
    file = edit_record(boards, lambda data: set_field(data, path, value))
    problems = [each for each in check(boards) if each.file == file and problem in str(each)]
    assert problems
    if problems[0].column:
        key = problems[0].column.rpartition(".")[2]
        assert f'"{key}":' in file.read_text().splitlines()[problems[0].line - 1]


def test_swapped_and_missing_rankings_are_named(boards: Path) -> None:
    files = sorted(boards.glob("records/*/*/rankings.npz"))
    contents = [file.read_bytes() for file in files]
    files[0].write_bytes(contents[1])
    files[1].unlink()
    text = "\n".join(map(str, check(boards)))
    assert "but the rankings give" in text
    assert f"{files[1]}: is missing" in text
