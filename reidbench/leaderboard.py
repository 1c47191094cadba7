"""Leaderboards: kept records, and a CSV a protocol that follows from them byte for byte, in any order of adding."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from reidbench.errors import DataError, ReidbenchError
from reidbench.files import lock, write_atomic
from reidbench.record import ITEMS, RANKINGS, RECORD, RunRecord, read_record
from reidbench.spec import Item, Spec, write_value
from reidbench.statistics import mean_and_sd

COLUMNS = tuple(
    """
    schema dataset protocol track loss loss_params backbone weights head embedding_dim test_metric pool normalize tta
    rerank metric_learner map_market map_market_sd map_step r1 r1_sd r5 r10 r20 minp n_seeds iterations params_m
    train_s extract_s gpu reidbench plugin_dist plugin_version commit dirty data_fingerprint config_hash tier faithful
    trained_on source date notes
    """.split()  # noqa: SIM905, forty-five lines of one word each would be harder to compare with the documentation
)
_SORTED_BY = ("track", "loss", "loss_params", "config_hash")

_SCORES = ("map_market", "map_step", "r1", "r5", "r10", "r20", "minp")
_RISING = (("r1", "r5"), ("r5", "r10"), ("r10", "r20"), ("map_market", "map_step"))
_ROUNDING = 1e-12

_WAIT_SECONDS = 60.0

Row = dict[str, str]


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


@dataclass
class _Board:
    """One protocol's leaderboard as it is and as it will be."""

    folder: Path
    name: str
    kept: list[tuple[Path, RunRecord]] = field(default_factory=list)
    new: list[tuple[Path, RunRecord]] = field(default_factory=list)
    before: dict[str, Row] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    @property
    def csv(self) -> Path:
        return self.folder / f"{self.name}.csv"

    def home(self, record: RunRecord) -> Path:
        """Return the folder that a record is kept in."""
        return self.folder / "records" / self.name / record.id[:12]


def add(records: Sequence[tuple[Path, RunRecord]], folder: Path, *, allow_dirty: bool = False) -> Added:
    """Add runs to the leaderboards in ``folder`` and return what changed.

    ``records`` are run folders with their records. Each record, and the rankings beside it, is kept below
    ``records/PROTOCOL/``; ``PROTOCOL.csv`` is made anew from all that is kept there (``PROTOCOL.standin`` for
    stand-ins). Waits up to a minute for another process that adds. Raises DataError with every reason, and writes
    nothing, where a run cannot stand in a leaderboard.
    """
    reasons: list[str] = []
    sound: dict[str, list[tuple[Path, RunRecord]]] = defaultdict(list)
    for path, record in records:
        found = list(_unfit(record, allow_dirty))
        reasons += [f"{path}: {reason}" for reason in found]
        if not found:
            sound[_board_name(record)].append((path, record))
    with lock(folder / ".lock", "adding to the leaderboards", wait=_WAIT_SECONDS):
        boards = [_open(folder, name) for name in sorted(sound)]
        for board in boards:
            reasons += _join(board, sound[board.name])
            reasons += _derive(board)
        if reasons:
            raise DataError("nothing was added:\n" + "\n".join(dict.fromkeys(reasons)))
        return _write(boards)


def _board_name(record: RunRecord) -> str:
    # A third party's "owner/name" stays one file name: no item's name holds a "-".
    name = Spec.parse(record.items["protocol"].spec).item.name.replace("/", "-")
    return f"{name}.standin" if record.standin else name


def _open(folder: Path, name: str) -> _Board:
    board = _Board(folder, name)
    for file in sorted((folder / "records" / name).glob(f"*/{RECORD}")):
        record = read_record(file)
        reasons = [f"{file}: {reason}" for reason in _unfit(record, allow_dirty=True)]
        if reasons:
            raise DataError("\n".join(["a kept record is damaged; restore it, or delete its folder:", *reasons]))
        board.kept.append((file.parent, record))
    return board


def _unfit(record: RunRecord, allow_dirty: bool) -> Iterator[str]:
    """Yield why a record cannot stand in a leaderboard, looking at nothing but itself."""
    if record.status != "ok":
        yield f"the run is {record.status}: {record.error or 'no reason given'}"
        return
    if record.dirty and not allow_dirty:
        yield "was made with uncommitted changes; commit and run it again, or allow it with --allow-dirty"
    digests = {"id": record.id, "group": record.group, "dataset.digest": record.dataset.get("digest")}
    for name, text in digests.items():
        if not isinstance(text, str) or not re.fullmatch("[0-9a-f]{64}", text):
            yield f"{name} must be 64 hex digits, got {text!r:.80}"
    yield from record.lacks()
    for phase in ("train", "embed"):
        if not record.seconds.get(phase, -1.0) >= 0.0:
            yield f"seconds.{phase} must be 0 or more, got {record.seconds.get(phase)!r}"
    if not _day(record):
        yield f"finished must be a date and time with its offset from UTC, got {record.finished!r:.80}"
    yield from _wrong_scores(record.scores)
    for kind, item in record.items.items():
        try:
            spec = Spec.parse(item.spec)
            if kind not in ("loss", "rerank"):
                _ = spec.item
        except ReidbenchError as error:
            yield f"items.{kind}.spec: {error}"


def _wrong_scores(scores: Mapping[str, float]) -> Iterator[str]:
    wrong = [name for name in _SCORES if not 0.0 <= scores.get(name, -1.0) <= 1.0]
    yield from (f"scores.{name} must be a fraction from 0 to 1, got {scores.get(name)!r}" for name in wrong)
    for lower, upper in _RISING:
        if not {lower, upper} & set(wrong) and scores[lower] > scores[upper] + _ROUNDING:
            yield f"scores.{lower} = {scores[lower]!r} cannot be above scores.{upper} = {scores[upper]!r}"


def _join(board: _Board, candidates: Sequence[tuple[Path, RunRecord]]) -> Iterator[str]:
    """Take up what is new among the candidates; yield what contradicts what is there."""
    known = {record.id[:12]: (path, record) for path, record in board.kept}
    for path, record in candidates:
        run = record.id[:12]
        if run not in known:
            known[run] = (path, record)
            board.new.append((path, record))
            continue
        other, there = known[run]
        if there != record or _rankings_differ(other, path):
            yield (
                f"{path}: is run {run} with other content than {other}; "
                "keep one of them (to replace a kept run, delete its folder and add again)"
            )
        elif (path / RANKINGS).is_file() and not (other / RANKINGS).is_file():
            board.new.append((path, record))


def _rankings_differ(one: Path, other: Path) -> bool:
    files = (one / RANKINGS, other / RANKINGS)
    return all(file.is_file() for file in files) and files[0].read_bytes() != files[1].read_bytes()


def _derive(board: _Board) -> Iterator[str]:
    """Make the board's rows from all its records; yield what stands against them."""
    groups: dict[str, dict[str, tuple[Path, RunRecord]]] = defaultdict(dict)
    for path, record in [*board.kept, *board.new]:
        groups[record.group].setdefault(record.id, (path, record))
    for group, members in groups.items():
        runs = sorted(members.values(), key=lambda run: (run[1].job.seed, run[1].id))
        for (path, record), (other, second) in itertools.pairwise(runs):
            if record.job.seed == second.job.seed:
                yield f"{path} and {other}: are two runs of combination {group[:12]} with seed {second.job.seed}"
            if record.code != second.code:
                edited = {**record.code_files, **second.code_files}
                names = [n for n in sorted(edited) if record.code_files.get(n) != second.code_files.get(n)]
                yield (
                    f"{path} and {other}: are seeds of one combination ({group[:12]}) made by different code "
                    f"({', '.join(names[:3]) or 'no file named'}); run all its seeds with one version"
                )
        row = _row([record for _, record in runs])
        board.rows.append(row)
        yield from (f"{runs[0][0]}: {reason}" for reason in _unsafe(row))
    board.rows.sort(key=lambda row: tuple(row[column] for column in _SORTED_BY))
    board.before = _read(board.csv)
    folder = board.folder / "records" / board.name
    for lost in sorted(set(board.before) - set(groups)):
        yield (
            f"{board.csv}: the row with config_hash {lost[:12]} has no record below {folder}; "
            "rows come from records only: add its run folder, or delete the row"
        )


def _row(runs: Sequence[RunRecord]) -> Row:
    """Return the row of one combination; ``runs`` are its seeds in order."""
    first, latest = runs[0], max(runs, key=lambda run: (_day(run) or date.min, run.finished, run.id))
    items = {kind: Spec.parse(first.items[kind].spec) for kind in ITEMS}
    terms, backbone, metric = items["loss"].terms, items["backbone"].item, items["metric"].item
    options = dict(backbone.options)
    means: dict[str, str] = {}
    for name in _SCORES:
        mean, sd = mean_and_sd(run.scores[name] for run in runs)
        means[name] = f"{mean:.6f}"
        means[f"{name}_sd"] = "" if sd is None else f"{sd:.6f}"
    dataset = items["dataset"].item.name
    cells = {
        "schema": str(first.schema),
        "dataset": dataset,
        "protocol": f"{items['protocol'].item.name}@{first.evaluation['version']}",
        "track": first.track,
        "loss": str(Spec(tuple(type(term)(term.weight, Item(term.item.name)) for term in terms))),
        "loss_params": " + ".join(_options(term.item) for term in terms),
        "backbone": backbone.name,
        "weights": write_value(options["weights"]) if "weights" in options else "",
        "head": write_value(options["head"]) if "head" in options else "",
        "embedding_dim": str(first.network["embedding_dim"]),
        "test_metric": metric.name,
        "pool": first.evaluation["pool"],
        "normalize": write_value(first.evaluation["normalize"]),
        "tta": first.evaluation["views"],
        "rerank": str(items["rerank"]),
        "metric_learner": metric.name if first.evaluation["learned"] else "",
        **{name: text for name, text in means.items() if name in COLUMNS},
        "n_seeds": str(len(runs)),
        "iterations": str(first.recipe["steps"]),
        "params_m": f"{first.network['parameters'] / 1e6:.6f}",
        "train_s": f"{mean_and_sd(run.seconds['train'] for run in runs)[0]:.2f}",
        "extract_s": f"{mean_and_sd(run.seconds['embed'] for run in runs)[0]:.2f}",
        "gpu": _each(run.environment["device_name"] for run in runs),
        "reidbench": _each(run.environment["reidbench"] for run in runs),
        "plugin_dist": first.items["loss"].distribution,
        "plugin_version": first.items["loss"].version,
        "commit": latest.commit,
        "dirty": write_value(any(run.dirty for run in runs)),
        "data_fingerprint": first.dataset["digest"][:16],
        "config_hash": first.group,
        "tier": "self-reported",
        "faithful": write_value(all(run.faithful for run in runs)),
        "trained_on": dataset,
        "source": "reidbench",
        "date": str(_day(latest)),
        "notes": _each(deviation for run in runs for deviation in run.deviations),
    }
    return {column: cells[column] for column in COLUMNS}


def _options(item: Item) -> str:
    return ", ".join(f"{name}={write_value(value)}" for name, value in item.options)


def _each(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))


def _day(record: RunRecord) -> date | None:
    """Return the day (UTC) on which a run finished, None where its time cannot be placed."""
    try:
        moment = datetime.fromisoformat(record.finished)
    except ValueError:
        return None
    return moment.astimezone(UTC).date() if moment.tzinfo else None


def _unsafe(row: Row) -> Iterator[str]:
    """Yield the cells that a spreadsheet would run as a formula, or that would not show what they hold."""
    for column, text in row.items():
        if text.startswith(("=", "+", "-", "@")):
            yield f"{column} would begin with {text[0]!r}, which spreadsheets run as a formula: {text!r:.80}"
        if not text.isprintable():
            yield f"{column} holds characters that cannot be shown: {text!r:.80}"


def _read(file: Path) -> dict[str, Row]:
    """Return the rows of a leaderboard by ``config_hash``, every cell as text; none where there is no such file."""
    if not file.is_file():
        return {}
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened, strict=True))
        return {row["config_hash"]: row for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise DataError(f"{file}: is no leaderboard ({error}); move it away and add again") from None


def _write(boards: Sequence[_Board]) -> Added:
    files: list[Path] = []
    added = changed = unchanged = 0
    for board in boards:
        for path, record in board.new:
            home = board.home(record)
            if (path / RANKINGS).is_file():
                write_atomic(home / RANKINGS, (path / RANKINGS).read_bytes())
                files.append(home / RANKINGS)
            write_atomic(home / RECORD, record.to_json())
            files.append(home / RECORD)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        writer.writeheader()
        writer.writerows(board.rows)
        content = text.getvalue().encode()
        if not board.csv.is_file() or board.csv.read_bytes() != content:
            write_atomic(board.csv, content)
            files.append(board.csv)
        for row in board.rows:
            before = board.before.get(row["config_hash"])
            added += before is None
            changed += before is not None and before != row
            unchanged += before == row
    return Added(tuple(files), added, changed, unchanged)
