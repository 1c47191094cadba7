"""Check one run of a leaderboard without its data: the record, the rankings beside it, and whether both agree."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath

import numpy as np

from reidbench.data.split import SHARED_IDENTITIES
from reidbench.errors import DataError, OptionError
from reidbench.leaderboard.rows import Row, board_name, row_of, unsafe_cells, utc_time, write_rows
from reidbench.plugins.catalogue import part_names
from reidbench.plugins.spec import Item, Spec, Value, write_value
from reidbench.ranking.rankings import RANKINGS, Ranking, read_ranking
from reidbench.ranking.scores import HEADLINE, Score, score, scores_at
from reidbench.runs.job import DATASETS
from reidbench.runs.provenance import LOCAL, code_digest
from reidbench.runs.record import FLAWS, ITEMS, RECORD, ItemRecord, RunRecord, read_record
from reidbench.utils.machine import AUTO
from reidbench.utils.random_streams import MOST_SEED
from reidbench.utils.untrusted_files import read_text

_ROUNDING = 1e-9
PRINTED = 1e-6  # of means and intervals in a record
ADDED_SCORES = {"r_precision", "map_at_r"}  # which records made before lack
_CLOCK_TOLERANCE = timedelta(minutes=10)
_ORIGINS = ("given", "protocol", "default")

# The field of a record and a clause about it.
FieldProblem = tuple[str, str]


@dataclass(frozen=True, order=True)
class Problem:
    """Something wrong with a leaderboard.

    ``file``: the file.
    ``field``: a field of a record such as "scores.r1"; empty for the whole file.
    ``text``: one clause about it.
    """

    file: Path
    field: str
    text: str

    def __str__(self) -> str:
        return ": ".join([str(self.file), f"{self.field} {self.text}".lstrip()])


def file_problem(file: Path, text: str) -> Problem:
    """Return a problem of a whole file; an error's text may begin with the file's name."""
    return Problem(file, "", text.removeprefix(f"{file}: "))


def csv_problems(file: Path, rows: Sequence[Row]) -> list[Problem]:
    """Return how the lines of a CSV differ from those of the rows that it must hold; raises DataError if it is none."""
    content, text = write_rows(rows).decode(), read_text(file) if file.exists() else ""
    derived, lines = content.splitlines(), text.splitlines()
    extra = [(n, line) for n, line in enumerate(lines, start=1) if lines[:n].count(line) > derived.count(line)]
    problems = [f"line {number} is not what the records give: {line!r:.200}" for number, line in extra]
    missing = (Counter(derived) - Counter(lines)).elements()
    problems += [f"lacks a line that the records give (run merge): {line!r:.200}" for line in missing]
    if text != content and not problems:
        problems = ["has other line ends or order of rows than its records give; run merge"]
    return [file_problem(file, problem) for problem in problems]


def check_stored(file: Path, name: str, *, rankings: bool) -> tuple[RunRecord | None, list[Problem]]:
    """Return a record stored for the leaderboard ``name``, None where no row follows from it, and its problems.

    Without ``rankings`` the rankings beside it are not read, which saves a moment per run.
    """
    try:
        record = read_record(file)
    except DataError as error:
        return None, [file_problem(file, str(error))]
    if fields := list(record_problems(record, allow_dirty=True)) or list(_misplaced(file, record, name)):
        return None, [Problem(file, *each) for each in fields]
    return record, _rankings_problems(file.parent, record) if rankings else []


def check_run(folder: Path, record: RunRecord, *, allow_dirty: bool) -> list[Problem]:
    """Return what is wrong with a run in its folder: with the record, the rankings, or one against the other."""
    problems = [Problem(folder / RECORD, *each) for each in record_problems(record, allow_dirty=allow_dirty)]
    return problems or _rankings_problems(folder, record)


def _rankings_problems(folder: Path, record: RunRecord) -> list[Problem]:
    try:
        return [Problem(folder / RECORD, *each) for each in score_problems(record, read_ranking(folder))]
    except DataError as error:
        return [file_problem(folder / RANKINGS, str(error))]


def record_problems(record: RunRecord, *, allow_dirty: bool = False) -> Iterator[FieldProblem]:
    """Yield why no leaderboard accepts a record, from the record alone."""
    if record.status != "ok":
        yield "status", f"is {record.status}, expected ok: {record.error or 'no reason given'}"
        return
    if record.dirty and not allow_dirty:
        yield "dirty", "is true: made with uncommitted changes; commit and run it again, or allow it with --allow-dirty"
    problems = list(_unusable_items(record)) or list(_item_problems(record))
    problems += [(field, problem) for field, holds, problem in _rules(record) if not holds]
    problems += [*_interval_problems(record), *_camera_problems(record)]
    yield from problems or unsafe_cells(row_of([record]))


def _rules(record: RunRecord) -> Iterator[tuple[str, object, str]]:
    """Yield (field, whether its value is valid, the problem if not) for the fields that are checked one by one."""
    verdict, primary = record.observed.verdict, record.evaluation.primary
    yield "observed.verdict", verdict not in FLAWS, f"is {verdict}, which a run with the status ok does not have"
    yield "faithful", not (record.faithful and record.deviations), f"is true, but there are {record.deviations!r:.200}"
    yield "evaluation.primary", primary in _scores(record), f"must be a score, got {primary!r:.80}"
    # The entry of a third-party distribution is its version.
    digests = {f"code_files.{k}": (v, 64) for k, v in record.code_files.items() if not k.startswith("distribution ")}
    digests |= {"dataset.digest": (record.dataset.digest, 64)}
    digests |= {"weights": (record.weights or "0" * 64, 64), "commit": (record.commit or "0" * 40, 40)}
    for field, (digest, length) in digests.items():
        text = f"must be {length} hex digits, got {digest!r:.80}"
        yield field, re.fullmatch(f"[0-9a-f]{{{length}}}", digest), text
    yield "code_files", record.code_files, "is empty, so nothing tells which code ran"
    yield "code", record.code == code_digest(record.code_files), "is not the digest of the files in code_files"
    for field, expected in record.ids().items():
        shown = f"is {getattr(record, field)[:12]!r}, but the options, data and seed give {expected[:12]!r}"
        yield field, getattr(record, field) == expected, f"{shown}: one was changed"
    matched = record.scores.get("unmatched", -1) != record.scores.get("queries")
    yield "scores.unmatched", matched, "is the number of queries: none has a positive"
    numbers = {f"scores.{name}": (record.scores.get(name), 1.0) for name in _scores(record)}
    numbers |= {f"seconds.{phase}": (record.seconds.get(phase), math.inf) for phase in ("train", "embed")}
    for field, (number, most) in (numbers | {"job.seed": (record.job.seed, MOST_SEED)}).items():
        yield field, number is not None and 0 <= number <= most, f"must be from 0 to {most:,}, got {number!r}"
    for kind, count in record.dataset.contradictions.items():
        text = f"{count:,} {kind.replace('_', ' ')}; such scores are no test"
        # Numbers may mean other identities in training and test.
        yield "dataset.contradictions", kind == SHARED_IDENTITIES, text
    started, finished = utc_time(record.started), utc_time(record.finished)
    for field, moment in (("started", started), ("finished", finished)):
        yield field, moment, f"must be a time with its offset from UTC, got {getattr(record, field)!r:.80}"
    if started and finished:
        yield "started", started <= finished + _CLOCK_TOLERANCE, f"is {record.started}, after the end {record.finished}"
        yield "finished", finished <= datetime.now(UTC) + _CLOCK_TOLERANCE, f"is {record.finished}, in the future"


def _scores(record: RunRecord) -> dict[str, Score]:
    """Return the scores that a record must have, by name: its ranks, rank 1 among them, and all others."""
    names = record.scores if "recall_at_1" in record.scores else {"r1", *record.scores}
    return {name: each for name, each in scores_at(names).items() if name in names or name not in ADDED_SCORES}


def _unusable_items(record: RunRecord) -> Iterator[FieldProblem]:
    """Yield which items no plugin provides, have a text that is no spec, or names that may pass for other ones."""
    for kind, item in record.items.items():
        if kind not in (*ITEMS, *DATASETS):
            yield f"items.{kind}", f"is no kind of item; known are {', '.join(dict.fromkeys(ITEMS + DATASETS))}"
        for field in ("plugin", "distribution", "version"):
            if not (text := getattr(item, field)).isascii():
                yield f"items.{kind}.{field}", f"must be ASCII, got {text!a:.80}"
        if LOCAL in item.plugin.split(", "):
            yield f"items.{kind}.plugin", f"is {LOCAL!r}: {item.spec} was given as a Python object; make it a plugin"
        for field in ("spec", "short", "identity") if item.identity else ("spec", "short"):
            try:
                spec = Spec.parse(getattr(item, field))
                _ = kind in ("loss", "rerank") or spec.item
            except OptionError as error:
                yield f"items.{kind}.{field}", f"cannot be used: {error}"


def _item_problems(record: RunRecord) -> Iterator[FieldProblem]:
    """Yield where an item's texts disagree: in the job, in ids, and with only the options that are no defaults.

    Defaults are not looked up: the next version of a plugin may have others.
    """
    for kind, item in record.items.items():
        if item.origins.keys() - _options(item.spec).keys() or {*item.origins.values()} - {*_ORIGINS}:
            yield f"items.{kind}.origins", f"must be options with one of {_ORIGINS}, got {item.origins!a:.200}"
        if kind in DATASETS:  # the protocol names them
            continue
        requested, labels = str(getattr(record.job, kind)), _labels(kind, item)
        if item.given != requested:
            yield f"items.{kind}.given", f"is {item.given!r:.80}, but the job has {requested!r:.80}"
        if item.label and not labels:
            yield f"items.{kind}.label", f"is {item.label!r:.80}, which no option of {item.spec!r:.200} is"
        given = {name for name, origin in item.origins.items() if origin == "given"}
        # Options that are newer than an item's first ids are not part of them while they have their default.
        identity = (item.identity or item.spec, _options(item.short).keys() - labels)
        texts = {f"items.{kind}.short": (item.short, set()), f"items.{kind}.identity": identity}
        if kind not in ("recipe", "metric") or requested != AUTO:
            texts[f"job.{kind}"] = requested, given
        for field, (text, required) in texts.items():
            try:
                if not _agrees(text, item.spec, field.rpartition(".")[2], required):
                    yield field, f"is {text!r:.80}, but the run's {kind} is {item.spec!r:.200}"
            except OptionError as error:
                yield field, f"cannot be used: {error}"


def _labels(kind: str, item: ItemRecord) -> set[str]:
    """Return the options that name an item for people; only data have such names."""
    options = _options(item.spec) if kind in ("protocol", "dataset") and item.label else {}
    return {name for name, value in options.items() if value == item.label}


def follows(kind: str, item: ItemRecord, text: str) -> bool:
    """Return whether an item has the options of a requested text, and for all others those of protocol or default."""
    of_protocol = {name for name, origin in item.origins.items() if origin == "protocol"}
    required = _options(item.short).keys() - of_protocol - _labels(kind, item)
    return text == AUTO or _agrees(text, item.spec, "spec", required)


def _agrees(text: str, resolved: str, field: str, required: Set[str]) -> bool:
    """Return whether a spec has the items of the ``resolved`` one and only options of it, with the same values.

    ``required`` are the options that it must have, with the part's name before them in a sum.
    """
    one, other = ([(term.weight, term.item.name) for term in Spec.parse(each).terms] for each in (text, resolved))
    options, expected = _options(text), _options(resolved)
    complete = required & expected.keys() <= options.keys() <= expected.keys()
    return one == other and complete and all(_same_value(each, expected[name], field) for name, each in options.items())


def _options(text: str) -> dict[str, Value]:
    """Return the options of an item, or of all parts of a sum with the part's name before them."""
    items = [term.item for term in Spec.parse(text).terms]
    prefixes = [f"{part}." for part in part_names([item.name for item in items])] if len(items) > 1 else [""]
    return {prefix + name: value for prefix, item in zip(prefixes, items, strict=False) for name, value in item.options}


def _same_value(value: Value, resolved: Value, field: str) -> bool:
    """Return whether two values are equal: 1 equals 1.0, an item its text.

    A file is its path in the job, its name in the short text and its digest in ids. Whether a text names a file is
    unknown here: any with a folder or a suffix may.
    """
    if isinstance(value, tuple) and isinstance(resolved, tuple):
        same_length = len(value) == len(resolved)
        return same_length and all(_same_value(*pair, field) for pair in zip(value, resolved, strict=True))
    one, other = (write_value(each) if each is None or isinstance(each, Item) else each for each in (value, resolved))
    if one == other or not (isinstance(one, str) and isinstance(other, str)):
        return isinstance(one, bool) == isinstance(other, bool) and one == other
    path = PurePath(other)
    if len(path.parts) < 2 and not path.suffix:
        return False
    if field == "identity":
        return re.fullmatch("sha256:[0-9a-f]{64}", one) is not None
    return PurePath(one) == (PurePath(path.name) if field == "short" else path)


def _interval_problems(record: RunRecord) -> Iterator[FieldProblem]:
    """Yield what cannot be the intervals of a run's scores; queries of a single identity have none."""
    identities = record.dataset.counts.get("query_identities", 0)
    scores = _scores(record) if identities > 1 else {}
    expected = {name for name, each in scores.items() if each.with_interval or name == record.evaluation.primary}
    if identities < 1:
        yield "dataset.counts.query_identities", f"must be 1 or more, got {identities}"
    elif record.intervals.keys() != expected:
        names, given = (", ".join(sorted(each)) or "none" for each in (expected, record.intervals))
        yield "intervals", f"must be those of {names}, got {given:.80}"
    for name in record.intervals.keys() & expected:
        bounds = record.intervals[name]
        steps = [0.0, *bounds[:1], record.scores.get(name, -1.0), *bounds[1:], 1.0]
        if len(bounds) != 2 or any(low > high + PRINTED for low, high in itertools.pairwise(steps)):
            yield f"intervals.{name}", f"must be [low, high] around the score, from 0 to 1, got {bounds!r:.80}"


def _camera_problems(record: RunRecord) -> Iterator[FieldProblem]:
    """Yield what cannot be the scores per pair of cameras."""
    matrix, size, queries = record.cameras, len(record.cameras.cameras), record.scores.get("queries", 0)
    tables = {name: getattr(matrix, name) for name in ("queries", *HEADLINE)}
    if not size and record.dataset.counts.get("cameras", 0) >= record.scores.get("gallery", 0) > 0:
        return  # every gallery unit has a camera of its own
    if not size or matrix.cameras != sorted({*matrix.cameras}):
        yield "cameras.cameras", f"must be the rising numbers of the cameras, got {matrix.cameras!r:.80}"
    elif torn := [name for name, rows in tables.items() if [len(row) for row in rows] != [size] * size]:
        yield f"cameras.{torn[0]}", f"must be {size} rows of {size}, one per camera"
    elif min(map(min, matrix.queries)) < 0 or sum(map(max, matrix.queries)) > queries:
        yield "cameras.queries", f"must be counts of the {queries} queries"
    else:
        for name in HEADLINE:
            means = np.array(tables[name], np.float64)  # nan for None
            if not np.where(matrix.queries, (means >= 0) & (means <= 1), np.isnan(means)).all():
                yield f"cameras.{name}", "must be from 0 to 1, and null where no query has a positive"


def _misplaced(file: Path, record: RunRecord, name: str) -> Iterator[FieldProblem]:
    own = board_name(record)
    if own != name:
        field = "standin" if own.removesuffix(".standin") == name.removesuffix(".standin") else "items.protocol.spec"
        yield field, f"belongs to {own}.csv, but the record is stored for {name}.csv"
    if file.parent.name != record.id[:12]:
        yield "id", f"begins with {record.id[:12]}, but its folder is named {file.parent.name}"


def score_problems(record: RunRecord, ranking: Ranking) -> Iterator[FieldProblem]:
    """Yield which scores of a record do not follow from its rankings."""
    gallery = int(record.scores.get("gallery", 0))
    if ranking.gallery > gallery:
        yield "scores.gallery", f"is {gallery}, but the rankings need {ranking.gallery} gallery units or more"
    expected: Mapping[str, float] = score(ranking, gallery, record.scores).as_dict()
    for name in sorted({*record.scores, *_scores(record), "queries", "unmatched"}):
        recorded, derived = record.scores.get(name), expected.get(name)
        if recorded is None or derived is None or not math.isclose(recorded, derived, rel_tol=0.0, abs_tol=_ROUNDING):
            yield f"scores.{name}", f"is {recorded!r}, but the rankings give {derived!r}"
