"""A leaderboards folder: stored records and rankings, and one CSV per protocol that follows from them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reidbench.errors import DataError
from reidbench.leaderboard.check_record import Problem, check_run, check_stored
from reidbench.leaderboard.rows import Row, board_name, derive, read_rows, write_rows
from reidbench.ranking.rankings import RANKINGS
from reidbench.runs.provenance import changed_files
from reidbench.runs.record import RECORD, RunRecord
from reidbench.runs.store import AGAIN
from reidbench.utils.atomic import sweep, write_atomic
from reidbench.utils.lock import lock

RECORDS = "records"
_WAIT_SECONDS = 300.0

# A run's folder and its record.
Run = tuple[Path, RunRecord]


@dataclass(frozen=True)
class Changes:
    """The result of ``add`` or ``merge``.

    ``files``: the files that were written.
    ``added``: number of new rows.
    ``changed``: number of rows with other cells than before.
    ``unchanged``: number of the other rows.
    """

    files: tuple[Path, ...]
    added: int
    changed: int
    unchanged: int

    def __str__(self) -> str:
        rows = f"rows: {self.added} added, {self.changed} changed, {self.unchanged} unchanged"
        return "\n".join([rows, *(f"wrote {file}" for file in self.files if file.suffix == ".csv")])


class Board:
    """One protocol's leaderboard.

    ``folder``: the leaderboards folder.
    ``name``: the protocol's name, with ".standin" for stand-ins.
    ``runs``: the runs that rows follow from, by the first 12 digits of their ids.
    ``reruns``: runs that somebody else repeated from a record, likewise.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.csv, self.records = folder / f"{name}.csv", folder / RECORDS / name
        self.runs: dict[str, Run] = {}
        self.reruns: dict[str, Run] = {}
        self._new: list[tuple[Path, Run]] = []

    @classmethod
    def load(cls, folder: Path, name: str, *, rankings: bool = True) -> tuple[Board, list[Problem]]:
        """Return a leaderboard with its stored runs that have a valid record, and the problems of all stored runs.

        Without ``rankings`` these are not read.
        """
        board, problems = cls(folder, name), []
        for file in sorted([*board.records.glob(f"*/{RECORD}"), *board.records.glob(f"*/{AGAIN}/{RECORD}")]):
            record, problems_of_run = check_stored(file, name, rankings=rankings)
            problems += problems_of_run
            if record is not None:
                runs = board.reruns if file.parent.name == AGAIN else board.runs
                runs[record.id[:12]] = (file.parent, record)
        return board, problems

    def insert(self, run: Run, *, again: bool = False) -> Iterator[str]:
        """Insert a run, with ``again`` one that repeats a stored one; yield why not, if another one has its id."""
        path, record = run
        key = record.id[:12]
        present = (self.reruns if again else self.runs).setdefault(key, run)
        if present is run:
            self._new.append((self.records / key / AGAIN if again else self.records / key, run))
        elif _differ(present, run):
            yield (
                f"{path}: is run {key} with other content than {present[0]}; "
                "choose one of them (to replace a stored run, delete its folder and add again)"
            )

    def join(self, other: Board) -> Iterator[str]:
        """Insert the runs of another leaderboard; yield which contradict a run here, or repeat none."""
        for run in other.runs.values():
            yield from self.insert(run)
        for path, record in other.reruns.values():
            first = self.runs.get(record.id[:12])
            if first is None:
                yield f"{path}: repeats run {record.id[:12]}, which {self.name} does not have; add that one first"
            elif first[1].started == record.started:
                yield f"{path}: is the run {first[0]} itself, not a repetition from its record"
            else:
                yield from self.insert((path, record), again=True)

    def mixed_code(self) -> Iterator[str]:
        """Yield pairs of seeds of one row, one of them new, that were made by different code."""
        groups: dict[str, list[Run]] = defaultdict(list)
        for run in sorted(self.runs.values(), key=lambda run: (run[1].job.seed, run[1].id)):
            groups[run[1].group].append(run)
        new = {run[1].id for home, run in self._new if home.name != AGAIN}
        for seeds in groups.values():
            for (path, first), (other, second) in itertools.pairwise(seeds):
                if first.code != second.code and new & {first.id, second.id}:
                    names = changed_files(first.code_files, second.code_files)
                    yield (
                        f"{path} and {other}: are seeds of one combination ({first.group[:12]}) made by different code "
                        f"({', '.join(names[:3]) or 'no file named'}); run all its seeds with one version, or allow it "
                        "with --allow-mixed"
                    )

    def rows(self) -> list[Row]:
        """Return the rows that follow from the runs."""
        return derive(record for _, record in self.runs.values())

    def lost_rows(self) -> Iterator[str]:
        """Yield rows of the file that no record supports; raises DataError where the file is no leaderboard."""
        groups = {record.group for _, record in self.runs.values()}
        for key in sorted(set(read_rows(self.csv)) - groups):
            yield (
                f"{self.csv}: the row with config_hash {key[:12]!r} has no record below {self.records}; "
                "rows come from records only: add its run folder, or delete the row"
            )

    def write(self) -> list[Path]:
        """Write new runs, then the CSV, each file whole or not at all; return the files that were written."""
        files = []
        for home, (path, record) in self._new:
            sweep(home)
            write_atomic(home / RANKINGS, (path / RANKINGS).read_bytes())
            write_atomic(home / RECORD, record.to_json())
            files += [home / RANKINGS, home / RECORD]
        sweep(self.folder, self.csv.name)
        content = write_rows(self.rows())
        if not self.csv.is_file() or self.csv.read_bytes() != content:
            write_atomic(self.csv, content)
            files.append(self.csv)
        return files


def board_names(folder: Path) -> list[str]:
    """Return the names of the leaderboards in a folder: of its CSV files, and of the records below it."""
    return sorted({file.stem for file in folder.glob("*.csv")} | {place.name for place in folder.glob(f"{RECORDS}/*/")})


def add(
    runs: Sequence[Run], folder: Path, *, allow_dirty: bool = False, allow_mixed: bool = False, again: bool = False
) -> Changes:
    """Add runs to the leaderboards in ``folder``: store records and rankings, and derive each ``PROTOCOL.csv``.

    ``allow_dirty`` accepts runs of a checkout with uncommitted changes, ``allow_mixed`` seeds of one row made by
    different code. With ``again`` the runs repeat stored records and are stored beside these. Waits for other
    processes that add. Raises DataError with every reason, and writes nothing, where a run is refused.
    """
    boards: dict[str, Board] = {}
    reasons: list[str] = []
    for run in runs:
        problems = check_run(*run, allow_dirty=allow_dirty)
        reasons += map(str, problems)
        if not problems:
            name = board_name(run[1])
            reasons += boards.setdefault(name, Board(folder, name)).insert(run, again=again)
    return _update(folder, list(boards.values()), reasons, "added", allow_mixed=allow_mixed)


def merge(sources: Sequence[Path], folder: Path) -> Changes:
    """Join the leaderboards of the folders ``sources`` into those of ``folder``, and derive every CSV.

    The result does not depend on the order. Raises DataError with every reason, and writes nothing, where ``check``
    finds a problem with a stored run, two folders differ in a run, or a row has no record.
    """
    boards = []
    reasons: list[str] = []
    for source in sources:
        if not (source / RECORDS).is_dir():
            raise DataError(f"{source}: holds no leaderboard; expected a folder with PROTOCOL.csv and {RECORDS}/ in it")
    for place in dict.fromkeys([*sources, folder]):
        for name in board_names(place):
            board, problems = Board.load(place, name)
            boards.append(board)
            reasons += [*map(str, problems), *board.lost_rows()]
    return _update(folder, boards, reasons, "merged", allow_mixed=True)


def _update(folder: Path, sources: Sequence[Board], reasons: list[str], done: str, *, allow_mixed: bool) -> Changes:
    """Join ``sources`` into the leaderboards of ``folder`` under a lock; write them where there are no ``reasons``."""
    with lock(folder / ".lock", "changing the leaderboards", wait=_WAIT_SECONDS):
        boards = []
        for name in sorted({source.name for source in sources}):
            board, problems = Board.load(folder, name, rankings=False)
            boards.append(board)
            reasons += map(str, problems)
            for source in sources:
                reasons += board.join(source) if source.name == name else []
            reasons += [] if allow_mixed else board.mixed_code()
            reasons += board.lost_rows()
        if reasons:
            raise DataError("\n".join([f"nothing was {done}:", *dict.fromkeys(reasons)]))
        before = [read_rows(board.csv) for board in boards]
        files = [file for board in boards for file in board.write()]
    pairs = [
        (old.get(row["config_hash"]), row) for old, board in zip(before, boards, strict=True) for row in board.rows()
    ]
    return Changes(
        tuple(files),
        added=sum(old is None for old, _ in pairs),
        changed=sum(old is not None and old != row for old, row in pairs),
        unchanged=sum(old == row for old, row in pairs),
    )


def _differ(one: Run, other: Run) -> bool:
    files = (one[0] / RANKINGS, other[0] / RANKINGS)
    both = all(file.is_file() for file in files)
    return one[1] != other[1] or (both and files[0].read_bytes() != files[1].read_bytes())
