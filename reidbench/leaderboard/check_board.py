"""Check a leaderboards folder from its files alone: each CSV must be what its records give, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from reidbench.errors import DataError
from reidbench.leaderboard.board import Board, board_names
from reidbench.leaderboard.check_record import Problem, file_problem
from reidbench.leaderboard.rows import Row, columns, read_lines, write_rows


def check(folder: Path) -> list[Problem]:
    """Return everything that is wrong with the leaderboards in a folder; no dataset is needed.

    Ids must follow from options, scores from rankings, and the CSV from the records. Raises DataError where the folder
    holds no leaderboard.
    """
    names = board_names(folder)
    if not names:
        raise DataError(f"{folder}: holds no leaderboard; expected PROTOCOL.csv and records/PROTOCOL/ in it")
    problems = []
    for name in names:
        try:
            board, problems_of_runs = Board.load(folder, name)
            problems += [*problems_of_runs, *board.copies()]
            problems += [Problem(board.csv, *each) for each in _csv_problems(board)]
        except DataError as error:
            problems.append(file_problem(folder / f"{name}.csv", str(error)))
    return sorted(set(problems))


def _csv_problems(board: Board) -> Iterator[tuple[int, str, str]]:
    """Yield (line, column, problem) where the CSV differs from what the records give; DataError if it is no CSV."""
    rows = {row["config_hash"]: row for row in board.rows()}
    if not board.csv.exists():
        yield from [(0, "", f"is missing, though {len(board.runs)} runs are stored; run merge")] * bool(rows)
        return
    lines = read_lines(board.csv)
    if board.csv.read_bytes() == write_rows(rows.values()):
        return
    if not lines or tuple(lines[0][1]) != columns():
        yield 1, "", f"the header must be the {len(columns())} columns of docs/leaderboards.md"
        return
    problems = list(_row_problems(board, rows, lines[1:]))
    yield from problems or [(0, "", "has other line ends, quotes or order of rows than its records give; run merge")]


def _row_problems(
    board: Board, rows: Mapping[str, Row], lines: Iterable[tuple[int, list[str]]]
) -> Iterator[tuple[int, str, str]]:
    line_of: dict[str, int] = {}
    for line, cells in lines:
        row = dict(zip(columns(), cells, strict=False))
        key = row.get("config_hash", "")
        if len(cells) != len(columns()):
            yield line, "", f"holds {len(cells)} cells, expected {len(columns())}"
        elif line_of.setdefault(key, line) != line:
            yield line, "config_hash", f"is that of line {line_of[key]} too: a copied row"
        elif key not in rows:
            yield line, "config_hash", f"{key[:12]!r} has no valid record in {board.records}"
        else:
            for column in (column for column, expected in rows[key].items() if row[column] != expected):
                yield line, column, f"is {row[column]!r:.80}, but its records give {rows[key][column]!r:.80}"
    for key in sorted(rows.keys() - line_of.keys()):
        yield 0, "", f"lacks the row of {rows[key]['loss']} ({key[:12]}), whose record is stored; run merge"
