"""A leaderboards folder: stored records, rankings and weights, and one CSV per protocol that follows from them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

from pydantic import ConfigDict

from reidbench.errors import DataError
from reidbench.leaderboard.check_record import Problem, check_run, check_stored, csv_problems, file_problem
from reidbench.leaderboard.external import EXTERNAL, load_external, write_external
from reidbench.leaderboard.published_studies import load_studies, study_board, study_rows
from reidbench.leaderboard.rows import Row, board_name, changing, row_of, write_rows
from reidbench.plugins.weights import WEIGHTS
from reidbench.ranking.rankings import RANKINGS, read_ranking
from reidbench.runs.record import RECORD, RunRecord
from reidbench.studies.study import StudyResult, parse_typed
from reidbench.utils.atomic import sweep, write_atomic
from reidbench.utils.machine import Environment
from reidbench.utils.untrusted_files import file_digest, read_text

RECORDS = "records"

# A run's folder and its record.
Run = tuple[Path, RunRecord]
Tier = Literal["self-reported", "consistent", "recomputed", "retrained"]
TIERS: tuple[Tier, ...] = get_args(Tier)  # from the least to the most that a checking machine did


@dataclass(frozen=True)
class Statement:
    """What one machine verified of a row of a leaderboard.

    ``tier``: the highest tier that it reached.
    ``date``: the day (UTC).
    ``commit``: the commit of its checkout, 40 hex digits; empty outside of one.
    ``dirty``: whether the checkout had uncommitted changes.
    ``environment``: the machine and the versions of its libraries.
    ``runs``: for each run of the row, by the first 12 digits of its id, the digest of its files.
    ``seeds``: the seeds that were trained for the tier "retrained".
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    tier: Tier
    date: str
    commit: str
    dirty: bool
    environment: Environment
    runs: dict[str, str]
    seeds: list[int]

    def __str__(self) -> str:
        checkout = f", commit {self.commit[:12]}{' with changes' * self.dirty}" if self.commit else ""
        seeds = f", seeds {', '.join(map(str, self.seeds))}" if self.seeds else ""
        versions = f"reidbench {self.environment.reidbench}, torch {self.environment.torch}"
        return f"{self.tier} on {self.date}{seeds} ({versions}{checkout})"


Statements = dict[str, Statement]


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

    def load(self, studies: Iterable[StudyResult], *, files: bool) -> list[Problem]:
        """Read the stored runs that have a valid record, and return the problems of all that is stored.

        Without ``files`` neither rankings nor weights are read. Raises DataError where the statements are none, or the
        CSV is no leaderboard.
        """
        self.statements = read_statements(self.statements_file)
        if self.csv.exists() and (text := read_text(self.csv)) and "config_hash" not in text:
            raise DataError(f"{self.csv}: is no leaderboard; move it away and add again")
        for study in studies:
            self.study_rows |= study_rows(study) if study_board(study) == self.name else {}
        problems: list[Problem] = []
        for file in sorted(self.records.glob(f"*/{RECORD}")):
            record, problems_of_run = check_stored(file, self.name, rankings=files)
            problems += problems_of_run
            if record is not None:
                self.runs[record.id[:12]] = (file.parent, record)
        published = {record.weights for _, record in self.runs.values()}
        for file in sorted(self.weights_folder.glob("*.safetensors")):
            digest = file_digest(file) if files else file.stem
            self.weights[digest] = file
            if files and (file.stem != digest or digest not in published):
                text = "is damaged" if file.stem in published else "are weights that no stored record names"
                problems.append(file_problem(file, f"{text}: sha256 {digest[:12]}; delete it and add again --weights"))
        return problems

    def insert(self, run: Run, weights: Path | None = None) -> Iterator[str]:
        """Insert a run, with the file of its weights; yield why not, if another one has its id."""
        path, record = run
        present = self.runs.setdefault(record.id[:12], run)
        if weights is not None:
            self.weights.setdefault(record.weights, weights)
        files = (path / RANKINGS, present[0] / RANKINGS)
        same = not all(file.is_file() for file in files) or files[0].read_bytes() == files[1].read_bytes()
        if present[1] != record or not same:
            advice = "another training of this row is another seed (to replace a run, delete its folder and add again)"
            yield f"{path}: is run {record.id[:12]} with other content than {present[0]}; {advice}"

    def copies(self) -> Iterator[Problem]:
        """Yield runs with the rankings of another run, though the networks of the two are different trainings.

        Equal ranks alone are no copy: two networks may rank every positive of a small dataset first.
        """
        first: dict[str, Run] = {}
        by_age = sorted(self.runs.values(), key=lambda run: (run[1].started, run[1].id))
        for path, record in sorted(by_age, key=lambda run: run[0].parent != self.records):  # stored runs first
            try:
                ranking = read_ranking(path)
            except DataError:  # a problem of its own
                continue
            if not ranking.top.shape[1]:
                yield file_problem(path / RANKINGS, "lacks the closest items; only final runs of studies may")
            arrays = (ranking.starts, ranking.units, ranking.ranks, ranking.top)
            digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
            other, original = first.setdefault(digest, (path, record))
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

    def rows(self) -> list[Row]:
        """Return the rows that follow from the runs; a statement counts while the files of its row are unchanged."""
        rows = []
        for key, runs in self.groups().items():
            statement, (own, _) = self.statements.get(key), self.study_rows.get(key, ({}, []))
            tier = statement.tier if statement and statement.runs == run_digests(runs) else TIERS[0]
            rows.append(row_of((record for _, record in runs), own, tier))
        return sorted(rows, key=lambda row: (row["track"], row["loss"], row["loss_params"], row["config_hash"]))

    def write(self) -> list[Path]:
        """Write what is new, then the CSV, each file whole or not at all; return the files that were written."""
        contents: dict[Path, bytes] = {}
        for digest, file in self.weights.items():
            if file.parent != self.weights_folder:
                contents[self.weights_folder / f"{digest}.safetensors"] = file.read_bytes()
        for key, (path, record) in self.runs.items():
            home = self.records / key
            if path != home:
                sweep(home)
                contents |= {home / RANKINGS: (path / RANKINGS).read_bytes(), home / RECORD: record.to_json().encode()}
                self.runs[key] = (home, record)
        if self.statements and self.statements != read_statements(self.statements_file):
            stated = {key: asdict(each) for key, each in self.statements.items()}
            contents[self.statements_file] = (json.dumps(stated, indent=1, sort_keys=True) + "\n").encode()
        for file, content in contents.items():
            write_atomic(file, content)
        sweep(self.folder, self.csv.name)
        rows = write_rows(self.rows())
        if self.csv.is_file() and self.csv.read_bytes() == rows:
            return list(contents)
        write_atomic(self.csv, rows)
        return [*contents, self.csv]


def load_boards(folder: Path, *, files: bool = False) -> tuple[list[Board], list[Problem]]:
    """Return the leaderboards in a folder, and the problems of all that is stored; rankings and weights with ``files``.

    A leaderboard is a CSV file, or a name of which there are records or studies; an unreadable one is a problem.
    """
    studies, problems = load_studies(folder, files=files)
    names = {file.stem for file in folder.glob("*.csv")} | {place.name for place in folder.glob(f"{RECORDS}/*/")}
    boards = []
    for board in (Board(folder, name) for name in sorted(names | set(map(study_board, studies)))):
        try:
            problems += board.load(studies, files=files)
            boards.append(board)
        except DataError as error:
            problems.append(file_problem(board.csv, str(error)))
    return boards, problems


def check(folder: Path) -> list[Problem]:
    """Return everything that is wrong with the leaderboards in a folder; no dataset is needed.

    Ids must follow from options, scores from rankings, and each CSV from the records byte for byte. Raises DataError
    where the folder holds no leaderboard.
    """
    boards, problems = load_boards(folder, files=True)
    if not boards and not problems and not (folder / EXTERNAL).exists():
        raise DataError(f"{folder}: holds no leaderboard; expected PROTOCOL.csv and {RECORDS}/PROTOCOL/ in it")
    for board in boards:
        problems += [*board.copies(), *csv_problems(board.csv, board.rows())]
    return sorted({*problems, *load_external(folder)[1]})


def add(runs: Sequence[Run], folder: Path, *, allow_dirty: bool = False, weights: bool = False) -> list[Path]:
    """Add runs to the leaderboards in ``folder``: store records and rankings, and derive each ``PROTOCOL.csv``.

    ``allow_dirty`` accepts runs of a checkout with uncommitted changes. With ``weights`` the trained weights are stored
    too. Waits for other processes that add. Returns the files that were written. Raises DataError with every reason,
    and writes nothing, where a run is refused.
    """
    changed: dict[str, Board] = {}
    with changing(folder):
        boards, problems = load_boards(folder)
        reasons = [str(problem) for problem in problems]
        by_name = {board.name: board for board in boards}
        problems_of = {run[0]: check_run(*run, allow_dirty=allow_dirty) for run in runs}
        for run in runs:
            if refused := problems_of[run[0]]:
                reasons += map(str, refused)
                continue
            name = board_name(run[1])
            board = changed.setdefault(name, by_name.get(name) or Board(folder, name))
            try:
                reasons += board.insert(run, _weights_file(*run) if weights else None)
            except DataError as error:
                reasons.append(str(error))
        if reasons and (sound := [str(path) for path, refused in problems_of.items() if not refused]):
            reasons.append(f"these runs are sound by themselves; name them alone: {' '.join(sound)}")
        return _write(changed.values(), reasons, "added")


def _weights_file(path: Path, record: RunRecord) -> Path | None:
    """Return the weights of a run in its results or leaderboards folder, None if untrained; raises DataError."""
    if record.items["loss"].spec == "none":
        return None
    place = path.absolute().parent
    expected = place.parent / record.training / WEIGHTS
    for file in (expected, place / "weights" / f"{record.weights}.safetensors"):
        if file.is_file() and file_digest(file) == record.weights:
            return file
    reason = f"{expected} is missing, or its sha256 is not the one in the record ({record.weights[:12] or 'none'})"
    raise DataError(
        f"{path}: its weights cannot be published: {reason}; add the run without --weights, or run it again"
    )


def merge(folder: Path) -> list[Path]:
    """Derive every CSV of a folder from its records, as after a merge by git; return the files that were written.

    Raises DataError with every reason, and writes nothing, where ``check`` finds a problem with a stored run.
    """
    with changing(folder):
        boards, problems = load_boards(folder, files=True)
        return [*_write(boards, list(map(str, problems)), "merged"), *write_external(folder)]


def _write(boards: Collection[Board], reasons: list[str], done: str) -> list[Path]:
    """Write the boards and return the files that were written; raises DataError where there are ``reasons`` not to."""
    reasons += [str(problem) for board in boards for problem in board.copies()]
    if reasons:
        raise DataError("\n".join([f"nothing was {done}:", *dict.fromkeys(reasons)]))
    return [file for board in boards for file in board.write()]


def run_digests(runs: Iterable[tuple[Path, RunRecord]]) -> dict[str, str]:
    """Return a sha256 (hex) over the files of record and rankings for each run, by the first 12 digits of its id."""
    files = {record.id[:12]: [folder / name for name in (RECORD, RANKINGS)] for folder, record in runs}
    digests = {key: [file_digest(file) for file in each if file.is_file()] for key, each in files.items()}
    return {key: hashlib.sha256(" ".join(each).encode()).hexdigest() for key, each in digests.items()}


def read_statements(file: Path) -> Statements:
    """Return the statements in a file by the row's ``config_hash``, none without a file; raises DataError."""
    statements: Statements = parse_typed(read_text(file), file, Statements) if file.exists() else {}
    return statements
