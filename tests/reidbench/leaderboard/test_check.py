"""A CSV or a record that was edited is refused, and named with its line or field."""

import csv
import io

import pytest

from reidbench.leaderboard.board import check
from tests.support.boards import add_all, edit_record, valid_record
from tests.support.paths import CHECKOUT


def edit(boards, column, text, row=0):
    """Edit one cell of the CSV."""
    file = boards / "synthetic.csv"
    rows = list(csv.reader(io.StringIO(file.read_text())))
    place = rows[0].index(column)
    rows[row + 1][place] = text(rows[row + 1][place]) if callable(text) else text
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    file.write_text(out.getvalue())


@pytest.fixture
def boards(tmp_path):
    add_all(tmp_path / "boards", [valid_record("one(margin=0.2)"), valid_record("two"), valid_record("two", 1)])
    return tmp_path / "boards"


def test_what_add_writes_and_the_committed_boards_are_valid(boards):
    assert check(boards) == []
    assert check(CHECKOUT / "leaderboards") == []


@pytest.mark.parametrize(
    ("column", "cell"),
    [("r1", "0.990000"), ("verified", "retrained"), ("config_hash", "0" * 64), ("notes", "a\u202e" + "x" * 10_000)],
)
def test_an_edited_row_and_the_one_that_is_due_are_named(boards, column, cell):
    edit(boards, column, cell)
    due, edited = map(str, check(boards))
    assert "synthetic.csv: lacks a line that the records give" in due
    assert "synthetic.csv: line 2 is not what the records give" in edited
    assert "\u202e" not in edited
    assert len(edited) < 600


def test_copied_and_torn_rows_and_another_order_are_named(boards):
    file = boards / "synthetic.csv"
    header, *lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([header, *lines, lines[0], lines[1][:40] + "\n"]))
    assert [f"line {number} is not" in str(problem) for number, problem in zip((4, 5), check(boards), strict=True)]
    file.write_text("".join([header, *lines[::-1]]))
    assert [problem.text[:20] for problem in check(boards)] == ["has other line ends "]


def test_all_problems_are_listed_and_the_exit_code_is_1(boards, reidbench_call):
    edit(boards, "verified", "consistent", row=1)
    edit_record(boards, lambda data: data["job"].update(seed=5))
    ended = reidbench_call("leaderboard", "check", "--folder", str(boards))
    assert ended.returncode == 1
    assert "line 2 is not" in ended.stdout  # the row of the edited record
    assert "line 3 is not" in ended.stdout
    assert "record.json: id is" in ended.stdout


def test_swapped_and_missing_rankings_are_named(boards):
    files = sorted(boards.glob("records/*/*/rankings.npz"))
    contents = [file.read_bytes() for file in files]
    files[0].write_bytes(contents[1])
    files[1].unlink()
    text = "\n".join(map(str, check(boards)))
    assert "but the rankings give" in text
    assert f"{files[1]}: is missing" in text
