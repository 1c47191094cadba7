"""Runs become rows: one at a time under a lock, all of them or none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reidbench.errors import DataError
from reidbench.leaderboard.board import RECORDS, Board, Kept, board_names
from reidbench.leaderboard.kept import kept_run, run_findings
from reidbench.leaderboard.rows import board_name
from reidbench.runs.record import RECORD
from reidbench.runs.store import AGAIN
from reidbench.utils.lock import lock

_WAIT_SECONDS = 300.0


@dataclass(frozen=True)
class Added:
    """What became of a leaderboard: the files that were written, and how many rows are new, changed and as before."""

    files: tuple[Path, ...]
    added: int
    changed: int
    unchanged: int

    def __str__(self) -> str:
        rows = f"rows: {self.added} added, {self.changed} changed, {self.unchanged} unchanged"
        return "\n".join([rows, *(f"wrote {file}" for file in self.files if file.suffix == ".csv")])


def add(
    records: Sequence[Kept],
    folder: Path,
    *,
    allow_dirty: bool = False,
    allow_mixed: bool = False,
    again: bool = False,
) -> Added:
    """Add runs to the leaderboards in ``folder`` and return what changed.

    ``records`` are run folders with their records. Each record, and the rankings beside it, is kept below
    ``records/PROTOCOL/``; ``PROTOCOL.csv`` is made anew from all that is kept there (``PROTOCOL.standin`` for
    stand-ins). ``allow_dirty`` takes runs of a checkout with uncommitted changes, ``allow_mixed`` seeds of one row made
    by different code. With ``again`` the runs were made again from kept records, and are kept beside these. Waits for
    other processes that add. Raises DataError with every reason, and writes nothing, where a run cannot stand in a
    leaderboard.
    """
    sound, reasons = _sort(records, allow_dirty)
    return _update(folder, {} if again else sound, sound if again else {}, reasons, "added", allow_mixed)


def merge(sources: Sequence[Path], folder: Path) -> Added:
    """Join the leaderboards of the folders ``sources`` into those of ``folder``, and make all its files anew.

    What any of them keeps must be as ``check`` wants it; rows that were allowed there are allowed here. The result does
    not depend on the order. Raises DataError, names every reason and writes nothing, where a kept run is not sound or
    lies in the wrong place, two of them differ in a run, or a row has no record.
    """
    first: dict[str, list[Kept]] = defaultdict(list)
    again: dict[str, list[Kept]] = defaultdict(list)
    reasons: list[str] = []
    for source in sources:
        if not (source / RECORDS).is_dir():
            raise DataError(f"{source}: holds no leaderboard; expected a folder with PROTOCOL.csv and {RECORDS}/ in it")
    for place in dict.fromkeys([*sources, folder]):
        for name in board_names(place):
            there = Board(place, name)
            for pattern, found in ((f"*/{RECORD}", first), (f"*/{AGAIN}/{RECORD}", again)):
                for file in sorted(there.records.glob(pattern)):
                    findings, record = kept_run(file, name)
                    reasons += map(str, findings)
                    if record is not None and not findings:
                        found[name].append((file.parent, record))
            there.kept = first[name]
            reasons += [reason for reason in there.derive(allow_mixed=True) if str(there.csv) in reason]
    return _update(folder, first, again, reasons, "merged", allow_mixed=True)


def _sort(records: Sequence[Kept], allow_dirty: bool) -> tuple[dict[str, list[Kept]], list[str]]:
    """Return the sound ones among the records by the names of their leaderboards, and what is wrong with the others."""
    sound: dict[str, list[Kept]] = defaultdict(list)
    reasons: list[str] = []
    for path, record in records:
        findings = list(run_findings(path, record, allow_dirty=allow_dirty))
        reasons += map(str, findings)
        if not findings:
            sound[board_name(record)].append((path, record))
    return sound, reasons


def _update(
    folder: Path,
    first: dict[str, list[Kept]],
    again: dict[str, list[Kept]],
    reasons: list[str],
    done: str,
    allow_mixed: bool,
) -> Added:
    with lock(folder / ".lock", "changing the leaderboards", wait=_WAIT_SECONDS):
        boards = [Board.open(folder, name) for name in sorted({*first, *again})]
        for board in boards:
            reasons += board.join(first.get(board.name, []))
            reasons += board.join_again(again.get(board.name, []))
            reasons += board.derive(allow_mixed=allow_mixed)
        if reasons:
            raise DataError("\n".join([f"nothing was {done}:", *dict.fromkeys(reasons)]))
        files = [file for board in boards for file in board.write()]
    pairs = [(board.before.get(row["config_hash"]), row) for board in boards for row in board.rows]
    return Added(
        tuple(files),
        added=sum(before is None for before, _ in pairs),
        changed=sum(before is not None and before != row for before, row in pairs),
        unchanged=sum(before == row for before, row in pairs),
    )
