"""Check one run of a leaderboard without its data: the record, the rankings beside it, and whether both agree."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath

import numpy as np

from reidbench.data.protocol import RANKS
from reidbench.data.split import SHARED_IDENTITIES
from reidbench.errors import DataError, OptionError
from reidbench.leaderboard.rows import Row, board_name, derive, unsafe_cells, utc_time, write_rows
from reidbench.plugins.catalogue import part_names
from reidbench.plugins.spec import Item, Spec, Value, write_value
from reidbench.ranking.rankings import RANKINGS, Ranking, read_ranking
from reidbench.ranking.scores import HEADLINE, score, scores_at
from reidbench.runs.provenance import LOCAL, code_digest
from reidbench.runs.record import FLAWS, ITEMS, RECORD, ItemRecord, RunRecord, read_record
from reidbench.utils.machine import AUTO
from reidbench.utils.random_streams import MOST_SEED, SEEDS
from reidbench.utils.untrusted_files import read_text

_ROUNDING = 1e-9
_PRINTED = 1e-6
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


def csv_problems(file: Path, rows: Sequence[Row]) -> Iterator[Problem]:
    """Yield the lines of a CSV that differ from those of the rows that it must hold; raises DataError if it is none."""
    derived, text = write_rows(rows).decode(), read_text(file) if file.exists() else ""
    if text == derived:
        return
    missing, lines = derived.splitlines(), text.splitlines()
    for number, line in enumerate(lines, start=1):
        if line in missing:
            missing.remove(line)
        else:
            yield file_problem(file, f"line {number} is not what the records give: {line!r:.200}")
    for line in missing:
        yield file_problem(file, f"lacks a line that the records give (run merge): {line!r:.200}")
    if sorted(lines) == sorted(derived.splitlines()):
        yield file_problem(file, "has other line ends or order of rows than its records give; run merge")


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
    return record, check_run(file.parent, record, allow_dirty=True) if rankings else []


def check_run(folder: Path, record: RunRecord, *, allow_dirty: bool) -> list[Problem]:
    """Return what is wrong with a run in its folder: with the record, the rankings, or one against the other."""
    file, rankings = folder / RECORD, folder / RANKINGS
    if problems := list(record_problems(record, allow_dirty=allow_dirty)):
        return [Problem(file, *each) for each in problems]
    try:
        return [Problem(file, *each) for each in score_problems(record, read_ranking(folder))]
    except DataError as error:
        return [file_problem(rankings, str(error))]


def record_problems(record: RunRecord, *, allow_dirty: bool = False) -> Iterator[FieldProblem]:
    """Yield why no leaderboard accepts a record, from the record alone."""
    if record.status != "ok":
        yield "status", f"is {record.status}, expected ok: {record.error or 'no reason given'}"
        return
    if record.observed.verdict in FLAWS:
        yield "observed.verdict", f"is {record.observed.verdict}, which a run with the status ok does not have"
    if record.dirty and not allow_dirty:
        yield "dirty", "is true: made with uncommitted changes; commit and run it again, or allow it with --allow-dirty"
    problems = list(_unusable_items(record)) or list(_item_problems(record))
    for check in (_value_problems, _time_problems, _interval_problems, _camera_problems, _digest_problems):
        problems += check(record)
    yield from problems or unsafe_cells(derive([record])[0])


def _value_problems(record: RunRecord) -> Iterator[FieldProblem]:
    """Yield values that no run has and that neither ids nor rankings determine."""
    if record.faithful and record.deviations:
        yield "faithful", f"is true, but deviations name {'; '.join(record.deviations)}"
    if record.evaluation.primary not in scores_at():
        yield "evaluation.primary", f"must be a score ({', '.join(scores_at())}), got {record.evaluation.primary!r:.80}"
    if not record.code_files:
        yield "code_files", "is empty, so nothing tells which code ran"
    # The entry of a third-party distribution is its version.
    files = {f"code_files.{k}": v for k, v in record.code_files.items() if not k.startswith("distribution ")}
    digests = {"dataset.digest": record.dataset.digest, **files}
    for field, digest in (digests | ({"weights": record.weights} if record.weights else {})).items():
        if not re.fullmatch("[0-9a-f]{64}", digest):
            yield field, f"must be 64 hex digits, got {digest!r:.80}"
    if record.scores.get("unmatched", -1) == record.scores.get("queries"):
        yield "scores.unmatched", "is the number of queries: none has a positive"
    for kind, count in record.dataset.contradictions.items():
        if kind != SHARED_IDENTITIES:  # numbers may mean other identities in training and test
            yield "dataset.contradictions", f"{count:,} {kind.replace('_', ' ')}; such scores are no test"
    if not re.fullmatch("([0-9a-f]{40})?", record.commit):
        yield "commit", f"must be 40 hex digits, or empty outside of a checkout, got {record.commit!r:.80}"
    if not 0 <= record.job.seed <= MOST_SEED:
        yield "job.seed", f"must be {SEEDS}, got {record.job.seed!r:.40}"
    for phase in ("train", "embed"):
        if not record.seconds.get(phase, -1.0) >= 0.0:
            yield f"seconds.{phase}", f"must be 0 or more, got {record.seconds.get(phase)!r}"
    for name in scores_at():
        if not 0.0 <= record.scores.get(name, -1.0) <= 1.0:
            yield f"scores.{name}", f"must be from 0 to 1, got {record.scores.get(name)!r}"


def _digest_problems(record: RunRecord) -> Iterator[FieldProblem]:
    """Yield which of the code digest and the ids do not follow from the record."""
    if record.code != code_digest(record.code_files):
        yield "code", "is not the digest of the files in code_files"
    ids = record.ids()
    for name in ("train_id", "group", "id"):
        expected, recorded = getattr(ids, name), getattr(record, name)
        if expected != recorded:
            yield name, f"is {recorded[:12]!r}, but the options, data and seed give {expected[:12]!r}: one was changed"


def _unusable_items(record: RunRecord) -> Iterator[FieldProblem]:
    """Yield which items no plugin provides, have a text that is no spec, or names that may pass for other ones."""
    for kind, item in record.items.items():
        if kind not in ITEMS:
            yield f"items.{kind}", f"is no kind of item; known are {', '.join(ITEMS)}"
        for field in ("plugin", "distribution", "version"):
            if not (text := getattr(item, field)).isascii():
                yield f"items.{kind}.{field}", f"must be ASCII, got {text!a:.80}"
        if LOCAL in item.plugin.split(", "):
            yield f"items.{kind}.plugin", f"is {LOCAL!r}: {item.spec} was given as a Python object; make it a plugin"
        try:
            spec = Spec.parse(item.spec)
            if kind not in ("loss", "rerank"):
                _ = spec.item
        except OptionError as error:
            yield f"items.{kind}.spec", f"cannot be used: {error}"


def _time_problems(record: RunRecord) -> Iterator[FieldProblem]:
    started, finished = utc_time(record.started), utc_time(record.finished)
    for name, moment in (("started", started), ("finished", finished)):
        if moment is None:
            yield name, f"must be a date and time with its offset from UTC, got {getattr(record, name)!r:.80}"
    if started and finished and started > finished + _CLOCK_TOLERANCE:
        yield "started", f"is {record.started}, after the run finished ({record.finished})"
    if finished and finished > datetime.now(UTC) + _CLOCK_TOLERANCE:
        yield "finished", f"is {record.finished}, which is in the future"


def _item_problems(record: RunRecord) -> Iterator[FieldProblem]:
    """Yield where an item's texts disagree: in the job, in ids, and with only the options that are no defaults.

    Defaults are not looked up: the next version of a plugin may have others.
    """
    for kind, item in record.items.items():
        junk = item.origins.keys() - _options(Spec.parse(item.spec)).keys()
        junk |= {name for name, origin in item.origins.items() if origin not in _ORIGINS}
        if junk:
            text = f"must be an option's name and one of {', '.join(_ORIGINS)}: {sorted(junk)!a:.80}"
            yield f"items.{kind}.origins", text
    for kind in (kind for kind in record.items if kind != "dataset"):
        item, requested = record.items[kind], str(getattr(record.job, kind))
        if item.given != requested:
            yield f"items.{kind}.given", f"is {item.given!r:.80}, but the job has {requested!r:.80}"
        given = {name for name, origin in item.origins.items() if origin == "given"}
        labels = _labels(kind, item)
        if item.label and not labels:
            yield f"items.{kind}.label", f"is {item.label!r:.80}, which no option of {item.spec!r:.200} is"
        texts: list[tuple[str, str, Set[str] | None]] = [
            (f"items.{kind}.short", item.short, frozenset()),
            (f"items.{kind}.identity", item.identity or item.spec, None),
        ]
        if kind not in ("recipe", "metric") or requested != AUTO:
            texts.append((f"job.{kind}", requested, given))
        for field, text, required in texts:
            try:
                # Options that are newer than an item's first ids are not part of them while they have their default.
                needed = _options(Spec.parse(item.short)).keys() - labels if required is None else required
                agrees = _agrees(Spec.parse(text), Spec.parse(item.spec), field.rpartition(".")[2], needed)
            except OptionError as error:
                yield field, f"cannot be used: {error}"
            else:
                if not agrees:
                    yield field, f"is {text!r:.80}, but the run's {kind} is {item.spec!r:.200}"


def _labels(kind: str, item: ItemRecord) -> set[str]:
    """Return the options that name an item for people; only data have such names."""
    options = _options(Spec.parse(item.spec)) if kind in ("protocol", "dataset") and item.label else {}
    return {name for name, value in options.items() if value == item.label}


def follows(kind: str, item: ItemRecord, text: str) -> bool:
    """Return whether an item has the options of a requested text, and for all others those of protocol or default."""
    if text == AUTO:
        return True
    of_protocol = {name for name, origin in item.origins.items() if origin == "protocol"}
    required = _options(Spec.parse(item.short)).keys() - of_protocol - _labels(kind, item)
    return _agrees(Spec.parse(text), Spec.parse(item.spec), "spec", required)


def _agrees(spec: Spec, resolved: Spec, field: str, required: Set[str]) -> bool:
    """Return whether ``spec`` has the items of ``resolved`` and only options of it, with the same values.

    ``required`` are the options that it must have, with the part's name before them in a sum.
    """
    if [(term.weight, term.item.name) for term in spec.terms] != [(t.weight, t.item.name) for t in resolved.terms]:
        return False
    options, known = _options(spec), _options(resolved)
    if not required & known.keys() <= options.keys() <= known.keys():
        return False
    return all(_same_value(value, known[name], field) for name, value in options.items())


def _options(spec: Spec) -> dict[str, Value]:
    """Return the options of an item, or of all parts of a sum with the part's name before them."""
    parts = part_names([term.item.name for term in spec.terms])
    prefixes = [f"{part}." for part in parts] if len(parts) > 1 else [""]
    pairs = zip(prefixes, spec.terms, strict=False)
    return {prefix + name: value for prefix, term in pairs for name, value in term.item.options}


def _same_value(value: Value, resolved: Value, field: str) -> bool:
    """Return whether two values are equal: 1 equals 1.0, an item its text.

    A file is its path in the job, its name in the short text and its digest in ids. Whether a text names a file is
    unknown here: any with a folder or a suffix may.
    """
    if isinstance(value, tuple) and isinstance(resolved, tuple):
        return len(value) == len(resolved) and all(
            _same_value(*pair, field) for pair in zip(value, resolved, strict=True)
        )
    one, other = (write_value(each) if each is None or isinstance(each, Item) else each for each in (value, resolved))
    if isinstance(one, str) and isinstance(other, str):
        path = PurePath(other)
        if one == other or not (len(path.parts) > 1 or path.suffix):
            return one == other
        if field == "identity":
            return re.fullmatch("sha256:[0-9a-f]{64}", one) is not None
        return PurePath(one) == (PurePath(path.name) if field == "short" else path)
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _interval_problems(record: RunRecord) -> Iterator[FieldProblem]:
    """Yield what cannot be the intervals of a run's scores; queries of a single identity have none."""
    identities = record.dataset.counts.get("query_identities", 0)
    if identities < 1:
        yield "dataset.counts.query_identities", f"must be 1 or more, got {identities}"
        return
    expected = {name for name, each in scores_at().items() if each.with_interval and identities > 1}
    if record.intervals.keys() != expected:
        names, given = (", ".join(sorted(each)) or "none" for each in (expected, record.intervals))
        yield "intervals", f"must be those of {names}, got {given:.80}"
        return
    for name, bounds in record.intervals.items():
        steps = [0.0, *bounds[:1], record.scores.get(name, -1.0), *bounds[1:], 1.0]
        if len(bounds) != 2 or any(low > high + _PRINTED for low, high in itertools.pairwise(steps)):
            yield f"intervals.{name}", f"must be [low, high] around the score, from 0 to 1, got {bounds!r:.80}"


def _camera_problems(record: RunRecord) -> Iterator[FieldProblem]:
    """Yield what cannot be the scores per pair of cameras."""
    matrix, size = record.cameras, len(record.cameras.cameras)
    if not size or matrix.cameras != sorted({*matrix.cameras}):
        yield "cameras.cameras", f"must be the rising numbers of the cameras, got {matrix.cameras!r:.80}"
        return
    for name in ("queries", *HEADLINE):
        if [len(row) for row in getattr(matrix, name)] != [size] * size:
            yield f"cameras.{name}", f"must be {size} rows of {size}, one per camera"
            return
    counts, queries = np.array(matrix.queries), record.scores.get("queries", 0)
    if counts.min() < 0 or sum(map(max, matrix.queries)) > queries:
        yield "cameras.queries", f"must be counts of the {queries} queries"
        return
    for name in HEADLINE:
        means = np.array(getattr(matrix, name), np.float64)  # nan for None
        if (np.where(counts, (means >= 0) & (means <= 1), np.isnan(means)) == 0).any():
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
    own_ranks = {int(name[1:]) for name in record.scores if re.fullmatch(r"r[1-9][0-9]{0,5}", name)}
    gallery = int(record.scores.get("gallery", 0))
    if ranking.gallery > gallery:
        yield "scores.gallery", f"is {gallery}, but the rankings need {ranking.gallery} gallery units or more"
    expected: Mapping[str, float] = score(ranking, gallery, sorted({*RANKS, *own_ranks})).as_dict()
    for name in sorted({*expected, *record.scores}):
        recorded, derived = record.scores.get(name), expected.get(name)
        if recorded is None or derived is None or not math.isclose(recorded, derived, rel_tol=0.0, abs_tol=_ROUNDING):
            yield f"scores.{name}", f"is {recorded!r}, but the rankings give {derived!r}"
