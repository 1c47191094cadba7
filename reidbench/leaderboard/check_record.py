"""What a record, and the rankings beside it, must fulfil to stand in a leaderboard; no data are needed for it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta

import numpy as np

from reidbench.errors import ReidbenchError
from reidbench.leaderboard.particulars import Fault, wrong_cameras, wrong_intervals, wrong_requests
from reidbench.plugins.spec import Spec
from reidbench.ranking.rankings import Ranking
from reidbench.ranking.scores import score, scores_at
from reidbench.runs.provenance import code_digest
from reidbench.runs.record import RunRecord
from reidbench.utils.random_streams import MOST_SEED, SEEDS

RISING = (("r1", "r5"), ("r5", "r10"), ("r10", "r20"), ("map_market", "map_step"))
_ROUNDING = 1e-9
_CLOCKS_DIFFER = timedelta(minutes=10)
_DISTANCE_ROUNDING = 1e-6  # shown distances are computed otherwise than the order


def in_words(fault: Fault) -> str:
    """Return a fault as one clause."""
    return " ".join(filter(None, fault))


def faults_of(record: RunRecord, *, allow_dirty: bool = False) -> Iterator[Fault]:
    """Yield why a record cannot stand in a leaderboard, looking at nothing but itself."""
    if record.status != "ok":
        yield "status", f"is {record.status}, expected ok: {record.error or 'no reason given'}"
        return
    if record.dirty and not allow_dirty:
        yield "dirty", "is true: made with uncommitted changes; commit and run it again, or allow it with --allow-dirty"
    if record.faithful and record.deviations:
        yield "faithful", f"is true, but deviations name {'; '.join(record.deviations)}"
    digests = {
        "id": record.id,
        "train_id": record.train_id,
        "group": record.group,
        "dataset.digest": record.dataset.digest,
    }
    for name, text in digests.items():
        if not re.fullmatch("[0-9a-f]{64}", text):
            yield name, f"must be 64 hex digits, got {text!r:.80}"
    for phase in ("train", "embed"):
        if not record.seconds.get(phase, -1.0) >= 0.0:
            yield f"seconds.{phase}", f"must be 0 or more, got {record.seconds.get(phase)!r}"
    yield from _wrong_times(record)
    if not re.fullmatch("([0-9a-f]{40})?", record.commit):
        yield "commit", f"must be 40 hex digits, or empty outside of a checkout, got {record.commit!r:.80}"
    if not 0 <= record.job.seed <= MOST_SEED:
        yield "job.seed", f"must be {SEEDS}, got {record.job.seed!r:.40}"
    yield from _wrong_scores(record.scores)
    for kind, item in record.items.items():
        try:
            spec = Spec.parse(item.spec)
            if kind not in ("loss", "rerank"):
                _ = spec.item
        except ReidbenchError as error:
            yield f"items.{kind}.spec", f"cannot be used: {error}"
    if record.code != code_digest(record.code_files):
        yield "code", "is not the digest of the files in code_files"
    yield from wrong_requests(record)
    yield from wrong_intervals(record)
    yield from wrong_cameras(record.cameras, record.scores)
    ids = record.identity()
    for name in ("train_id", "group", "id"):
        follows, said = getattr(ids, name), getattr(record, name)
        if follows != said:
            yield name, f"is {said[:12]!r}, but the options, data and seed give {follows[:12]!r}: one was changed"


def rising_faults(scores: Mapping[str, float], rounding: float = _ROUNDING) -> Iterator[Fault]:
    """Yield which of the scores that cannot fall do."""
    for lower, upper in RISING:
        if scores[lower] > scores[upper] + rounding:
            yield lower, f"= {scores[lower]!r} cannot be above {upper} = {scores[upper]!r}"


def _wrong_scores(scores: Mapping[str, float]) -> Iterator[Fault]:
    wrong = [name for name in scores_at() if not 0.0 <= scores.get(name, -1.0) <= 1.0]
    yield from ((f"scores.{name}", f"must be a fraction from 0 to 1, got {scores.get(name)!r}") for name in wrong)
    if not wrong:
        yield from ((f"scores.{name}", what) for name, what in rising_faults(scores))


def _wrong_times(record: RunRecord) -> Iterator[Fault]:
    began, ended = _moment(record.started), _moment(record.finished)
    for name, moment in (("started", began), ("finished", ended)):
        if moment is None:
            yield name, f"must be a date and time with its offset from UTC, got {getattr(record, name)!r:.80}"
    if began and ended and began > ended + _CLOCKS_DIFFER:
        yield "started", f"is {record.started}, after the run finished ({record.finished})"
    if ended and ended > datetime.now(UTC) + _CLOCKS_DIFFER:
        yield "finished", f"is {record.finished}, which is still to come"


def day_of(record: RunRecord) -> date | None:
    """Return the day (UTC) on which a run finished, None where its time cannot be placed."""
    moment = _moment(record.finished)
    return moment.date() if moment else None


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def ranking_faults(ranking: Ranking) -> Iterator[str]:
    """Yield what no ranking can be, whatever was ranked."""
    queries = len(ranking)
    sizes = {"ranked": len(ranking.ranked), "top": len(ranking.top), "top_distances": len(ranking.top_distances)}
    wrong = [f"{name} holds {size}" for name, size in sizes.items() if size != queries]
    for part in ("", "same_camera_"):
        starts, units, ranks, distances = (
            getattr(ranking, f"{part}{name}") for name in ("starts", "units", "ranks", "distances")
        )
        if len(starts) != queries + 1 or starts[0] != 0 or (np.diff(starts) < 0).any():
            wrong.append(f"{part}starts does not rise from 0 in {queries + 1} steps")
        elif not len(units) == len(ranks) == len(distances) == starts[-1]:
            wrong.append(f"{part}units, ranks and distances are not {starts[-1]} long")
    if queries < 1 or wrong or ranking.top.shape != ranking.top_distances.shape:
        yield f"does not hold {queries} queries throughout: {', '.join(wrong) or 'no query'}"
        return
    query = np.repeat(np.arange(queries), np.diff(ranking.starts))
    same = query[1:] == query[:-1]
    outside = (ranking.ranks < 0) | (ranking.ranks >= ranking.ranked[query])
    if outside.any():
        yield f"query {query[outside][0]} has a rank outside of what was ranked"
    tied = same & (np.diff(ranking.ranks) <= 0)
    if tied.any():
        yield f"query {query[1:][tied][0]} has ranks that do not rise"
    near = _DISTANCE_ROUNDING * max(1.0, float(np.abs(ranking.distances).max(initial=0.0)))
    falling = same & ~(np.diff(ranking.distances) >= -near)
    if falling.any():
        yield f"query {query[1:][falling][0]} has distances that fall from one rank to the next"
    listed = (
        ranking.top_distances[:, :-1][ranking.top[:, 1:] >= 0],
        ranking.top_distances[:, 1:][ranking.top[:, 1:] >= 0],
    )
    if not (listed[1] - listed[0] >= -near).all():
        yield "the closest items do not stand in the order of their distances"
    width = ranking.top.shape[1]
    shown = ~outside & (ranking.ranks < width)
    if (ranking.top[query[shown], ranking.ranks[shown]] != ranking.units[shown]).any():
        yield "the closest items are not those that the ranks say"


def score_faults(record: RunRecord, ranking: Ranking) -> Iterator[Fault]:
    """Yield which scores of a record do not follow from its rankings."""
    ranks = tuple(sorted(int(name[1:]) for name in record.scores if re.fullmatch(r"r[1-9][0-9]{0,5}", name)))
    follow = score(ranking, int(record.scores.get("gallery", 0)), ranks).as_dict()
    for name in sorted({*follow, *record.scores}):
        said, right = record.scores.get(name), follow.get(name)
        if said is None or right is None or not math.isclose(said, right, rel_tol=0.0, abs_tol=_ROUNDING):
            yield f"scores.{name}", f"is {said!r}, but the rankings give {right!r}"
