"""Runs become rows: one at a time under a lock, all of them or none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reidbench.errors import DataError
from reidbench.files import lock
from reidbench.leaderboard.board import RECORDS, Board, Kept, board_names
from reidbench.leaderboard.rows import board_name
from reidbench.leaderboard.soundness import faults_of, in_words, ranking_faults, read_ranking, score_faults
from reidbench.record import RANKINGS, RECORD, RunRecord, read_record
from reidbench.store import AGAIN

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

    What each of them keeps is taken as ``add`` takes it; rows that were allowed there are allowed here. The result does
    not depend on the order. Raises DataError, names every conflict and writes nothing, where two of them differ in a
    run, or a row has no record.
    """
    first: dict[str, list[Kept]] = defaultdict(list)
    again: dict[str, list[Kept]] = defaultdict(list)
    reasons: list[str] = []
    for source in sources:
        if not (source / RECORDS).is_dir():
            raise DataError(f"{source}: holds no leaderboard; expected a folder with PROTOCOL.csv and {RECORDS}/ in it")
        for name in board_names(source):
            there = Board(source, name)
            for pattern, found in ((f"*/{RECORD}", first), (f"*/{AGAIN}/{RECORD}", again)):
                kept = [(file.parent, read_record(file)) for file in sorted(there.records.glob(pattern))]
                sound, wrong = _sort(kept, allow_dirty=True)
                reasons += wrong
                for board, runs in sound.items():
                    found[board] += runs
            there.kept = first[name]
            reasons += [reason for reason in there.derive(allow_mixed=True) if str(there.csv) in reason]
    for name in board_names(folder):
        first[name] += []
    return _update(folder, first, again, reasons, "merged", allow_mixed=True)


def _sort(records: Sequence[Kept], allow_dirty: bool) -> tuple[dict[str, list[Kept]], list[str]]:
    """Return the sound ones among the records by the names of their leaderboards, and what is wrong with the others."""
    sound: dict[str, list[Kept]] = defaultdict(list)
    reasons = []
    for path, record in records:
        found = list(_reasons(path, record, allow_dirty))
        reasons += found
        if not found:
            sound[board_name(record)].append((path, record))
    return sound, reasons


def _reasons(path: Path, record: RunRecord, allow_dirty: bool) -> Iterator[str]:
    faults = [f"{path}: {in_words(fault)}" for fault in faults_of(record, allow_dirty=allow_dirty)]
    if faults:
        yield from faults
        return
    try:
        ranking = read_ranking(path)
    except DataError as error:
        yield str(error)
        return
    structure = list(ranking_faults(ranking))
    yield from (f"{path / RANKINGS}: {what}" for what in structure)
    if not structure:
        yield from (f"{path}: {in_words(fault)}" for fault in score_faults(record, ranking))


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
            raise DataError(f"nothing was {done}:\n" + "\n".join(dict.fromkeys(reasons)))
        files = [file for board in boards for file in board.write()]
    pairs = [(board.before.get(row["config_hash"]), row) for board in boards for row in board.rows]
    return Added(
        tuple(files),
        added=sum(before is None for before, _ in pairs),
        changed=sum(before is not None and before != row for before, row in pairs),
        unchanged=sum(before == row for before, row in pairs),
    )
