"""A leaderboards folder: stored records, rankings and weights, and one CSV per protocol that follows from them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from reidbench.errors import DataError
from reidbench.leaderboard.check_record import Problem, check_run, check_stored, csv_problems, file_problem
from reidbench.leaderboard.external import EXTERNAL, load_external, write_external
from reidbench.leaderboard.published_studies import load_studies, study_board, study_rows
from reidbench.leaderboard.rows import Row, board_name, changing, derive, write_rows
from reidbench.leaderboard.tiers import Statements, read_statements, run_digest
from reidbench.plugins.weights import WEIGHTS
from reidbench.ranking.rankings import RANKINGS, read_ranking
from reidbench.runs.record import RECORD, RunRecord
from reidbench.utils.atomic import sweep, write_atomic
from reidbench.utils.untrusted_files import file_digest, read_text

RECORDS = "records"

# A run's folder and its record.
Run = tuple[Path, RunRecord]


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

        Without ``files`` neither rankings nor weights are read. Raises DataError where the statements are none, or the
        CSV is no leaderboard.
        """
        board = cls(folder, name)
        board.statements = read_statements(board.statements_file)
        if board.csv.exists() and (text := read_text(board.csv)) and "config_hash" not in text:
            raise DataError(f"{board.csv}: is no leaderboard; move it away and add again")
        studies, problems = load_studies(folder, files=files)
        board.study_rows = dict(
            row for each in studies if study_board(each) == name for row in study_rows(each).items()
        )
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
    return sorted(names | {study_board(study) for study in load_studies(folder)[0]})


def check(folder: Path) -> list[Problem]:
    """Return everything that is wrong with the leaderboards in a folder; no dataset is needed.

    Ids must follow from options, scores from rankings, and each CSV from the records byte for byte. Raises DataError
    where the folder holds no leaderboard.
    """
    names = board_names(folder)
    if not names and not (folder / EXTERNAL).exists():
        raise DataError(f"{folder}: holds no leaderboard; expected PROTOCOL.csv and {RECORDS}/PROTOCOL/ in it")
    problems = []
    for name in names:
        try:
            board, problems_of_runs = Board.load(folder, name)
            problems += [*problems_of_runs, *board.copies(), *csv_problems(board.csv, board.rows())]
        except DataError as error:
            problems.append(file_problem(folder / f"{name}.csv", str(error)))
    return sorted({*problems, *load_external(folder)[1]})


def add(runs: Sequence[Run], folder: Path, *, allow_dirty: bool = False, weights: bool = False) -> list[Path]:
    """Add runs to the leaderboards in ``folder``: store records and rankings, and derive each ``PROTOCOL.csv``.

    ``allow_dirty`` accepts runs of a checkout with uncommitted changes. With ``weights`` the trained weights are stored
    too. Waits for other processes that add. Returns the files that were written. Raises DataError with every reason,
    and writes nothing, where a run is refused.
    """
    boards: dict[str, Board] = {}
    reasons: list[str] = []
    with changing(folder):
        for run in runs:
            if problems := check_run(*run, allow_dirty=allow_dirty):
                reasons += map(str, problems)
                continue
            name = board_name(run[1])
            if name not in boards:
                boards[name], stored = Board.load(folder, name, files=False)
                reasons += map(str, stored)
            try:
                reasons += boards[name].insert(run, _weights_file(*run) if weights else None)
            except DataError as error:
                reasons.append(str(error))
        return _write(boards.values(), reasons, "added")


def _weights_file(path: Path, record: RunRecord) -> Path | None:
    """Return the weights of a run in its results or leaderboards folder, None if untrained; raises DataError."""
    if record.items["loss"].spec == "none":
        return None
    place = path.absolute().parent
    expected = place.parent / record.training / WEIGHTS
    for file in (expected, place / "weights" / f"{record.weights}.safetensors"):
        if file.is_file() and file_digest(file) == record.weights:
            return file
    raise DataError(
        f"{path}: its weights cannot be published: {expected} is missing, or its sha256 is not the one in the record "
        f"({record.weights[:12] or 'none'}); add the run without --weights, or run it again"
    )


def merge(folder: Path) -> list[Path]:
    """Derive every CSV of a folder from its records, as after a merge by git; return the files that were written.

    Raises DataError with every reason, and writes nothing, where ``check`` finds a problem with a stored run.
    """
    with changing(folder):
        loaded = [Board.load(folder, name) for name in board_names(folder)]
        reasons = [str(problem) for _, problems in loaded for problem in problems]
        return [*_write([board for board, _ in loaded], reasons, "merged"), *write_external(folder)]


def _write(boards: Collection[Board], reasons: list[str], done: str) -> list[Path]:
    """Write the boards and return the files that were written; raises DataError where there are ``reasons`` not to."""
    reasons += [str(problem) for board in boards for problem in board.copies()]
    if reasons:
        raise DataError("\n".join([f"nothing was {done}:", *dict.fromkeys(reasons)]))
    return [file for board in boards for file in board.write()]


def _differ(one: Run, other: Run) -> bool:
    files = (one[0] / RANKINGS, other[0] / RANKINGS)
    both = all(file.is_file() for file in files)
    return one[1] != other[1] or (both and files[0].read_bytes() != files[1].read_bytes())
