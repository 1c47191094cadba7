"""One protocol's leaderboard on disk: the records that are kept for it, and the rows that follow from them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reidbench.errors import DataError
from reidbench.leaderboard.check_record import in_words
from reidbench.leaderboard.kept import kept_record
from reidbench.leaderboard.rows import Row, in_order, read_rows, row_of, unsafe_cells, write_rows
from reidbench.ranking.rankings import RANKINGS
from reidbench.runs.record import RECORD, RunRecord
from reidbench.runs.store import AGAIN
from reidbench.utils.atomic import sweep, write_atomic

RECORDS = "records"
Kept = tuple[Path, RunRecord]


@dataclass
class Board:
    """A leaderboard as it is and as it will be.

    ``kept`` and ``new`` are the folders of runs with their records; ``again`` those of runs that were made again by
    somebody else, by the id of the first. ``rows`` follow from all first records, ``before`` is what the file said.
    """

    folder: Path
    name: str
    kept: list[Kept] = field(default_factory=list)
    new: list[Kept] = field(default_factory=list)
    again: dict[str, Kept] = field(default_factory=dict)
    new_again: list[Kept] = field(default_factory=list)
    before: dict[str, Row] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    @property
    def csv(self) -> Path:
        return self.folder / f"{self.name}.csv"

    @property
    def records(self) -> Path:
        return self.folder / RECORDS / self.name

    def home(self, record: RunRecord) -> Path:
        """Return the folder that a record is kept in."""
        return self.records / record.id[:12]

    @classmethod
    def open(cls, folder: Path, name: str) -> Board:
        """Return a leaderboard with what is kept for it; raises DataError where a kept record is damaged."""
        board = cls(folder, name)
        for file in sorted(board.records.glob(f"*/{RECORD}")):
            board.kept.append((file.parent, _sound(file, name)))
        for file in sorted(board.records.glob(f"*/{AGAIN}/{RECORD}")):
            record = _sound(file, name)
            board.again[record.id] = (file.parent, record)
        return board

    def join(self, candidates: Sequence[Kept]) -> Iterator[str]:
        """Take up what is new among the candidates; yield what contradicts what is there."""
        known = {record.id[:12]: (path, record) for path, record in self.kept}
        for path, record in candidates:
            run = record.id[:12]
            if run not in known:
                known[run] = (path, record)
                self.new.append((path, record))
            elif _differ(known[run], (path, record)):
                yield (
                    f"{path}: is run {run} with other content than {known[run][0]}; "
                    "keep one of them (to replace a kept run, delete its folder and add again)"
                )

    def join_again(self, candidates: Sequence[Kept]) -> Iterator[str]:
        """Take up runs that were made again; yield what stands against them."""
        first = {record.id: (path, record) for path, record in [*self.kept, *self.new]}
        for path, record in candidates:
            if record.id not in first:
                yield f"{path}: makes run {record.id[:12]} again, which is not kept for {self.name}; add that first"
            elif first[record.id][1].started == record.started:
                yield f"{path}: is the run {first[record.id][0]} itself, not one that was made again from its record"
            elif record.id not in self.again:
                self.again[record.id] = (path, record)
                self.new_again.append((path, record))
            elif _differ(self.again[record.id], (path, record)):
                other = self.again[record.id][0]
                yield f"{path}: run {record.id[:12]} was made again before, with other content: {other}"

    def derive(self, *, allow_mixed: bool = False) -> Iterator[str]:
        """Make the rows from all records; yield what stands against them."""
        groups: dict[str, dict[str, Kept]] = defaultdict(dict)
        for path, record in [*self.kept, *self.new]:
            groups[record.group].setdefault(record.id, (path, record))
        fresh = {record.id for _, record in self.new}
        rows = []
        for group, members in groups.items():
            runs = sorted(members.values(), key=lambda run: (run[1].job.seed, run[1].id))
            for (path, record), (other, second) in itertools.pairwise(runs):
                if record.code != second.code and fresh & {record.id, second.id} and not allow_mixed:
                    edited = {**record.code_files, **second.code_files}
                    names = [n for n in sorted(edited) if record.code_files.get(n) != second.code_files.get(n)]
                    yield (
                        f"{path} and {other}: are seeds of one combination ({group[:12]}) made by different code "
                        f"({', '.join(names[:3]) or 'no file named'}); run all its seeds with one version, or allow it "
                        "with --allow-mixed"
                    )
            row = row_of([record for _, record in runs])
            rows.append(row)
            yield from (f"{runs[0][0]}: {in_words(fault)}" for fault in unsafe_cells(row))
        self.rows = in_order(rows)
        self.before = read_rows(self.csv)
        for lost in sorted(set(self.before) - set(groups)):
            yield (
                f"{self.csv}: the row with config_hash {lost[:12]!r} has no record below {self.records}; "
                "rows come from records only: add its run folder, or delete the row"
            )

    def write(self) -> list[Path]:
        """Write what is new, the file of rows last, each file whole or not at all; return what was written."""
        files = []
        homes = [(self.home(record), path, record) for path, record in self.new]
        homes += [(self.home(record) / AGAIN, path, record) for path, record in self.new_again]
        for home, path, record in homes:
            sweep(home)
            write_atomic(home / RANKINGS, (path / RANKINGS).read_bytes())
            write_atomic(home / RECORD, record.to_json())
            files += [home / RANKINGS, home / RECORD]
        sweep(self.folder, self.csv.name)
        content = write_rows(self.rows)
        if not self.csv.is_file() or self.csv.read_bytes() != content:
            write_atomic(self.csv, content)
            files.append(self.csv)
        return files


def board_names(folder: Path) -> list[str]:
    """Return the names of the leaderboards in a folder: of its CSV files, and of the records kept below it."""
    return sorted({file.stem for file in folder.glob("*.csv")} | {kept.name for kept in folder.glob(f"{RECORDS}/*/")})


def _sound(file: Path, name: str) -> RunRecord:
    findings, record = kept_record(file, name)
    if findings or record is None:
        raise DataError("\n".join(["a kept record is damaged; restore it, or delete its folder:", *map(str, findings)]))
    return record


def _differ(one: Kept, other: Kept) -> bool:
    files = (one[0] / RANKINGS, other[0] / RANKINGS)
    whole = all(file.is_file() for file in files)
    return one[1] != other[1] or (whole and files[0].read_bytes() != files[1].read_bytes())
