"""Is a leaderboard what ``add`` makes? Answered from its files alone, with everything that is wrong at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from reidbench.errors import DataError
from reidbench.leaderboard.board import Board, Kept, board_names
from reidbench.leaderboard.check_record import rising_faults
from reidbench.leaderboard.findings import Finding
from reidbench.leaderboard.kept import kept_run
from reidbench.leaderboard.rows import (
    SELF_REPORTED,
    Row,
    board_name,
    columns,
    in_order,
    read_lines,
    unsafe_cells,
    write_rows,
)
from reidbench.ranking.scores import HEADLINE, scores_at
from reidbench.runs.record import RECORD
from reidbench.runs.store import AGAIN

_PRINTED = 1.1e-6  # two means, each rounded to six decimals
_FORMS: dict[str, str] = {
    **dict.fromkeys((f"{name}_sd" for name in HEADLINE), r"([0-9]\.[0-9]{6})?"),
    **dict.fromkeys(("schema", "embedding_dim", "n_seeds", "iterations"), "[0-9]{1,12}"),
    **dict.fromkeys(("dirty", "faithful", "normalize"), "true|false"),
    **dict.fromkeys(("train_s", "extract_s"), r"[0-9]+\.[0-9]{2}"),
    "protocol": r"[A-Za-z][A-Za-z0-9_/]*@[0-9]+",
    "params_m": r"[0-9]+\.[0-9]{6}",
    "data_fingerprint": "[0-9a-f]{16}",
    "config_hash": "[0-9a-f]{64}",
    "commit": "[0-9a-f]{40}|",
    "tier": SELF_REPORTED,
    "source": "reidbench",
    "date": "[0-9]{4}-[0-9]{2}-[0-9]{2}",
}
_SCORE_FORM = r"[01]\.[0-9]{6}"


def check(folder: Path) -> list[Finding]:
    """Return everything that is wrong with the leaderboards in a folder; no data set is needed.

    Files are read as text; rows must have the documented form, hold no formula and no impossible scores, stand once,
    and be what ``add`` makes of the records; records must be sound in themselves, their ids follow from their options,
    and their scores from their rankings. Raises DataError where the folder holds no leaderboard.
    """
    names = board_names(folder)
    if not names:
        raise DataError(f"{folder}: holds no leaderboard; expected PROTOCOL.csv and records/PROTOCOL/ in it")
    return sorted({finding for name in names for finding in _check_board(Board(folder, name))})


def _check_board(board: Board) -> Iterator[Finding]:
    for file in sorted([*board.records.glob(f"*/{RECORD}"), *board.records.glob(f"*/{AGAIN}/{RECORD}")]):
        faults, record = kept_run(file, board.name)
        yield from faults
        if record is not None and file.parent.name != AGAIN:
            board.kept.append((file.parent, record))
    lines = list(_read(board)) if board.csv.exists() else []
    yield from (line for line in lines if isinstance(line, Finding))
    rows = [line for line in lines if not isinstance(line, Finding)]
    faulty: set[tuple[int, str]] = set()
    for finding in _check_rows(board, rows):
        faulty.add((finding.line, finding.column))
        yield finding
    yield from (finding for finding in _compare(board, rows) if (finding.line, finding.column) not in faulty)


def _read(board: Board) -> Iterator[Finding | tuple[int, Row]]:
    """Yield the rows of a file with their lines, and what cannot be read as a row."""
    try:
        lines = read_lines(board.csv)
    except DataError as error:
        yield Finding(board.csv, 0, "", str(error).removeprefix(f"{board.csv}: "))
        return
    for number, (line, cells) in enumerate(lines):
        if number == 0:
            if tuple(cells) != columns():
                yield Finding(
                    board.csv, line, "", f"the header must be the {len(columns())} columns of docs/leaderboards.md"
                )
                return
        elif len(cells) != len(columns()):
            yield Finding(board.csv, line, "", f"holds {len(cells)} cells, expected {len(columns())}")
        else:
            yield line, dict(zip(columns(), cells, strict=True))


def _check_rows(board: Board, rows: list[tuple[int, Row]]) -> Iterator[Finding]:
    """Yield what can be seen in the rows themselves."""
    protocol = board.name.removesuffix(".standin")
    seen: dict[str, int] = {}
    contents: dict[tuple[str, ...], int] = {}
    for line, row in rows:
        for column, what in unsafe_cells(row):
            yield Finding(board.csv, line, column, what)
        for column, form in (dict.fromkeys(scores_at(), _SCORE_FORM) | _FORMS).items():
            if not re.fullmatch(form, row[column]):
                yield Finding(board.csv, line, column, _expected(column, row[column]))
        name = row["protocol"].partition("@")[0].replace("/", "-")
        if name != protocol:
            yield Finding(board.csv, line, "protocol", f"is {row['protocol']!r:.80} in the file of {protocol}")
        yield from _impossible(board, line, row)
        key = row["config_hash"]
        if key in seen:
            yield Finding(board.csv, line, "config_hash", f"stands on line {seen[key]} already: a copied row")
        content = tuple(text for column, text in row.items() if column not in ("config_hash", "date", "notes"))
        if content in contents and key not in seen:
            yield Finding(board.csv, line, "", f"says the same as line {contents[content]}: a copied row")
        seen.setdefault(key, line)
        contents.setdefault(content, line)


def _expected(column: str, text: str) -> str:
    if column == "tier":
        return f"is {text!r:.80}; tiers are computed by verify and html, a file says {SELF_REPORTED!r} only"
    return f"does not have its form (docs/leaderboards.md): {text!r:.80}"


def _impossible(board: Board, line: int, row: Row) -> Iterator[Finding]:
    if all(re.fullmatch(_SCORE_FORM, row[name]) for name in scores_at()):
        scores: Mapping[str, float] = {name: float(row[name]) for name in scores_at()}
        yield from (
            Finding(board.csv, line, name, f"= {value!r} is above 1") for name, value in scores.items() if value > 1
        )
        yield from (Finding(board.csv, line, *fault) for fault in rising_faults(scores, _PRINTED))


def _compare(board: Board, rows: list[tuple[int, Row]]) -> Iterator[Finding]:
    """Yield where the rows are not what follows from the records."""
    own: list[Kept] = [(path, record) for path, record in board.kept if board_name(record) == board.name]
    expected = Board(board.folder, board.name, kept=own)
    prefix = f"{board.csv}: "
    try:
        reasons = list(expected.derive(allow_mixed=True))
    except DataError:  # the file is no leaderboard, which is said
        return
    for reason in reasons:
        if not reason.startswith(prefix):  # rows without a record are named below, with their lines
            yield Finding(board.records, 0, "", reason)
    made = {row["config_hash"]: row for row in expected.rows}
    for line, row in rows:
        follows = made.get(row["config_hash"])
        if follows is None:
            yield Finding(
                board.csv, line, "config_hash", f"{row['config_hash'][:12]!r} has no sound record in {board.records}"
            )
            continue
        for column in columns():
            if row[column] != follows[column]:
                what = f"is {row[column]!r:.80}, but its records give {follows[column]!r:.80}"
                yield Finding(board.csv, line, column, what)
    missing = set(made) - {row["config_hash"] for _, row in rows}
    yield from (
        Finding(
            board.csv, 0, "", f"lacks the row of {made[key]['loss']} ({key[:12]}), whose record is kept; add it again"
        )
        for key in sorted(missing)
    )
    given = [row for _, row in rows]
    if given == in_order(given) and not missing and given == expected.rows:
        if (rows or board.csv.is_file()) and board.csv.read_bytes() != write_rows(given):
            yield Finding(
                board.csv, 0, "", "is not written as add writes it (line ends, quotes); add, or merge, once more"
            )
    elif given != in_order(given):
        yield Finding(
            board.csv, 0, "", "its rows do not stand in the order of track, loss, loss_params and config_hash"
        )
