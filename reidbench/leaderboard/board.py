"""A leaderboards folder: stored records, rankings and weights, and one CSV per protocol that follows from them."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reidbench.errors import DataError
from reidbench.leaderboard.check_record import Problem, check_run, check_stored, file_problem
from reidbench.leaderboard.published_studies import load_studies
from reidbench.leaderboard.rows import Row, board_name, derive, read_rows, write_rows
from reidbench.leaderboard.tiers import Statements, read_statements, run_digest
from reidbench.plugins.weights import WEIGHTS
from reidbench.ranking.rankings import RANKINGS, read_ranking
from reidbench.runs.provenance import changed_files
from reidbench.runs.record import RECORD, RunRecord
from reidbench.utils.atomic import sweep, write_atomic
from reidbench.utils.lock import lock
from reidbench.utils.untrusted_files import file_digest

RECORDS = "records"
WAIT_SECONDS = 300.0

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
    ``weights``: the files of published weights, by their sha256.
    ``statements``: what the maintainers verified of each row, by its ``config_hash``.
    ``study_rows``: of each row of a study, by its ``config_hash``, the cells that the study determines, and its runs.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.csv, self.statements_file = folder / f"{name}.csv", folder / f"{name}.verified.json"
        self.records = folder / RECORDS / name
        self.weights_folder = self.records / "weights"
        self.runs: dict[str, Run] = {}
        self.weights: dict[str, Path] = {}
        self.statements: Statements = {}
        self.study_rows: dict[str, tuple[Row, list[Run]]] = {}
        self._new: list[tuple[Path, Run]] = []

    @classmethod
    def load(cls, folder: Path, name: str, *, files: bool = True) -> tuple[Board, list[Problem]]:
        """Return a leaderboard with its stored runs that have a valid record, and the problems of all that is stored.

        Without ``files`` neither rankings nor weights are read. Raises DataError where the statements are none.
        """
        board = cls(folder, name)
        board.statements = read_statements(board.statements_file)
        studies, problems = load_studies(folder, files=files)
        board.study_rows = dict(row for study in studies if study.board == name for row in study.rows().items())
        for file in sorted(board.records.glob(f"*/{RECORD}")):
            record, problems_of_run = check_stored(file, name, rankings=files)
            problems += problems_of_run
            if record is not None:
                board.runs[record.id[:12]] = (file.parent, record)
        published = {record.weights for _, record in board.runs.values()}
        for file in sorted(board.weights_folder.glob("*.safetensors")):
            digest = file_digest(file) if files else file.stem
            board.weights[digest] = file
            if files and (file.stem != digest or digest not in published):
                text = "is damaged" if file.stem in published else "are weights that no stored record names"
                problems.append(file_problem(file, f"{text}: sha256 {digest[:12]}; delete it and add again --weights"))
        return board, problems

    def insert(self, run: Run, weights: Path | None = None) -> Iterator[str]:
        """Insert a run, with the file of its weights; yield why not, if another one has its id."""
        path, record = run
        key = record.id[:12]
        present = self.runs.setdefault(key, run)
        if weights is not None:
            self.weights.setdefault(record.weights, weights)
        if present is run:
            self._new.append((self.records / key, run))
        elif _differ(present, run):
            yield (
                f"{path}: is run {key} with other content than {present[0]}; another training of this row is another "
                "seed (to replace a stored run, delete its folder and add again)"
            )

    def copies(self) -> Iterator[Problem]:
        """Yield runs with the rankings of another run, though the networks of the two are different trainings.

        Equal ranks alone are no copy: two networks may rank every positive of a small dataset first.
        """
        first: dict[str, Run] = {}
        new = {record.id for _, (_, record) in self._new}
        for path, record in sorted(self.runs.values(), key=lambda run: (run[1].id in new, run[1].started, run[1].id)):
            try:
                ranking = read_ranking(path)
            except DataError:  # a problem of its own
                continue
            if not ranking.top.shape[1]:
                yield file_problem(path / RANKINGS, "lacks the closest items; only final runs of studies may")
            digest = hashlib.sha256()
            for array in (ranking.starts, ranking.units, ranking.ranks, ranking.top):
                digest.update(array.tobytes())
            other, original = first.setdefault(digest.hexdigest(), (path, record))
            untrained = record.items["loss"].spec == original.items["loss"].spec == "none"
            if record.train_id != original.train_id and not untrained:
                text = f"ranks exactly as {other / RANKINGS}, though these are two trainings: one is a copy"
                yield file_problem(path / RANKINGS, text)

    def groups(self) -> dict[str, list[Run]]:
        """Return the runs of each row by its ``config_hash``, in the order of their seeds."""
        groups: dict[str, list[Run]] = defaultdict(list)
        for run in sorted(self.runs.values(), key=lambda run: (run[1].job.seed, run[1].id)):
            groups[run[1].group].append(run)
        return groups | {key: runs for key, (_, runs) in self.study_rows.items()}

    def mixed_code(self) -> Iterator[str]:
        """Yield pairs of seeds of one row, one of them new, that were made by different code."""
        new = {run[1].id for _, run in self._new}
        for seeds in self.groups().values():
            for (path, first), (other, second) in itertools.pairwise(seeds):
                if first.code != second.code and new & {first.id, second.id}:
                    names = changed_files(first.code_files, second.code_files)
                    yield (
                        f"{path} and {other}: are seeds of one combination ({first.group[:12]}) made by different code "
                        f"({', '.join(names[:3]) or 'no file named'}); run all its seeds with one version, or allow it "
                        "with --allow-mixed"
                    )

    def rows(self) -> list[Row]:
        """Return the rows that follow from the runs; a statement counts while the files of its row are unchanged."""
        tiers: dict[str, str] = {}
        for key, runs in self.groups().items():
            statement = self.statements.get(key)
            if statement and all((path / RANKINGS).is_file() for path, _ in runs):
                same = statement.runs == {record.id[:12]: run_digest(path) for path, record in runs}
                tiers |= {key: statement.tier} if same else {}
        studies = [(cells, [record for _, record in runs]) for cells, runs in self.study_rows.values()]
        return derive((record for _, record in self.runs.values()), tiers, studies)

    def lost_rows(self) -> Iterator[str]:
        """Yield rows of the file that no record supports; raises DataError where the file is no leaderboard."""
        for key in sorted(set(read_rows(self.csv)) - self.groups().keys()):
            yield (
                f"{self.csv}: the row with config_hash {key[:12]!r} has no record below {self.records} and is of "
                "no study beside it; rows come from records only: add its run folder, or delete the row"
            )

    def write(self) -> list[Path]:
        """Write what is new, then the CSV, each file whole or not at all; return the files that were written."""
        contents: dict[Path, bytes] = {}
        for digest, file in self.weights.items():
            if file.parent != self.weights_folder:
                contents[self.weights_folder / f"{digest}.safetensors"] = file.read_bytes()
        for home, (path, record) in self._new:
            sweep(home)
            contents |= {home / RANKINGS: (path / RANKINGS).read_bytes(), home / RECORD: record.to_json().encode()}
            self.runs[home.name] = (home, record)
        for file, content in contents.items():
            write_atomic(file, content)
        sweep(self.folder, self.csv.name)
        rows = write_rows(self.rows())
        if self.csv.is_file() and self.csv.read_bytes() == rows:
            return list(contents)
        write_atomic(self.csv, rows)
        return [*contents, self.csv]


def board_names(folder: Path) -> list[str]:
    """Return the names of the leaderboards in a folder: of its CSV files, and of the records and studies below it."""
    names = {file.stem for file in folder.glob("*.csv")} | {place.name for place in folder.glob(f"{RECORDS}/*/")}
    return sorted(names | {study.board for study in load_studies(folder)[0]})


def add(
    runs: Sequence[Run],
    folder: Path,
    *,
    allow_dirty: bool = False,
    allow_mixed: bool = False,
    weights: bool = False,
) -> Changes:
    """Add runs to the leaderboards in ``folder``: store records and rankings, and derive each ``PROTOCOL.csv``.

    ``allow_dirty`` accepts runs of a checkout with uncommitted changes, ``allow_mixed`` seeds of one row made by
    different code. With ``weights`` the trained weights are stored too. Waits for other processes that add. Raises
    DataError with every reason, and writes nothing, where a run is refused.
    """
    boards: dict[str, Board] = {}
    reasons: list[str] = []
    for run in runs:
        problems = check_run(*run, allow_dirty=allow_dirty)
        reasons += map(str, problems)
        try:
            file = _weights_file(*run) if weights and not problems else None
        except DataError as error:
            reasons.append(str(error))
            continue
        if not problems:
            name = board_name(run[1])
            reasons += boards.setdefault(name, Board(folder, name)).insert(run, file)
    return _update(folder, list(boards.values()), reasons, "added", allow_mixed=allow_mixed)


def _weights_file(path: Path, record: RunRecord) -> Path | None:
    """Return the weights of a run in its results folder, None for an untrained network; raises DataError."""
    if record.items["loss"].spec == "none":
        return None
    file = path.absolute().parent.parent / record.training / WEIGHTS
    if not file.is_file() or file_digest(file) != record.weights:
        raise DataError(
            f"{path}: its weights cannot be published: {file} is missing, or its sha256 is not the one in the record "
            f"({record.weights[:12] or 'none'}); add the run without --weights, or run it again"
        )
    return file


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
            if board.study_rows and place != folder:
                reasons.append(f"{place}: copy its studies to {folder} with their files, and merge again")
    return _update(folder, boards, reasons, "merged", allow_mixed=True)


def _update(folder: Path, sources: Sequence[Board], reasons: list[str], done: str, *, allow_mixed: bool) -> Changes:
    """Join ``sources`` into the leaderboards of ``folder`` under a lock; write them where there are no ``reasons``."""
    with lock(folder / ".lock", "changing the leaderboards", wait=WAIT_SECONDS):
        boards = []
        for name in sorted({source.name for source in sources}):
            board, problems = Board.load(folder, name, files=False)
            boards.append(board)
            reasons += map(str, problems)
            for source in (source for source in sources if source.name == name):
                for run in source.runs.values():
                    reasons += board.insert(run, source.weights.get(run[1].weights))
            reasons += map(str, board.copies())
            reasons += [] if allow_mixed else board.mixed_code()
            reasons += board.lost_rows()
        if reasons:
            raise DataError("\n".join([f"nothing was {done}:", *dict.fromkeys(reasons)]))
        before = {key: row for board in boards for key, row in read_rows(board.csv).items()}
        files = [file for board in boards for file in board.write()]
    rows = {row["config_hash"]: row for board in boards for row in board.rows()}
    added = len(rows.keys() - before.keys())
    unchanged = sum(before.get(key) == row for key, row in rows.items())
    return Changes(tuple(files), added, len(rows) - added - unchanged, unchanged)


def _differ(one: Run, other: Run) -> bool:
    files = (one[0] / RANKINGS, other[0] / RANKINGS)
    both = all(file.is_file() for file in files)
    return one[1] != other[1] or (both and files[0].read_bytes() != files[1].read_bytes())
