"""Verify a leaderboards folder against the lists of the datasets, and compute the tier of each row."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import reduce
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from reidbench.data.positives_and_exclusions import Positives
from reidbench.data.protocol import Protocol, is_standin
from reidbench.data.split import Split
from reidbench.errors import ReidbenchError
from reidbench.leaderboard.board import Board, Run, board_names
from reidbench.leaderboard.check_board import check
from reidbench.leaderboard.check_record import Problem, field_problem, file_problem
from reidbench.leaderboard.rows import SELF_REPORTED
from reidbench.ranking.bootstrap import mean_and_sd
from reidbench.ranking.rankings import RANKINGS, Ranking, read_ranking
from reidbench.ranking.scores import intervals, scores_at
from reidbench.runs.job import Job
from reidbench.runs.prepare import Planner
from reidbench.runs.record import RECORD, RunRecord
from reidbench.utils.arrays import IntArray

CONSISTENT, REPRODUCED = "consistent", "reproduced"
# What each tier means, from the least to the most that this machine verified.
TIERS = {
    SELF_REPORTED: "reported by the submitter's machine; only the files were checked",
    CONSISTENT: "scores follow from the stored rankings, and rankings from the dataset's lists; "
    "this does not show that a network produced them",
    REPRODUCED: "consistent, and somebody else repeated every run from its record: each score is within three "
    "standard deviations over the seeds",
}
WITHIN_SDS = 3.0


@dataclass
class Verification:
    """The result of ``verify``.

    ``problems``: what is wrong.
    ``notes``: one sentence for each thing that was not verified or not reproduced.
    ``tiers``: what this machine verified of each row, by its ``config_hash``.
    """

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tiers: dict[str, str] = field(default_factory=dict)


def verify(folder: Path, planner: Planner) -> Verification:
    """Return whether the leaderboards in a folder follow from the lists of the datasets, and the tier of every row.

    Includes all problems that ``check`` finds. A protocol whose lists are not on this machine is named in the notes,
    and its rows stay self-reported. Raises DataError where the folder holds no leaderboard.
    """
    result = Verification(problems=check(folder))
    damaged = {problem.file for problem in result.problems}
    for name in board_names(folder):
        board, _ = Board.load(folder, name, rankings=False)
        records = [record for _, record in board.runs.values()]
        valid, reruns = (
            [run for run in runs.values() if not damaged & {run[0] / RECORD, run[0] / RANKINGS}]
            for runs in (board.runs, board.reruns)
        )
        tiers = {record.id: CONSISTENT for _, record in _verified(valid, planner, result)}
        first = {record.id: record for record in records if record.id in tiers}
        for path, record in _verified([run for run in reruns if run[1].id in tiers], planner, result):
            seeds = [seed for seed in records if seed.group == record.group]
            if reason := _not_reproduced(first[record.id], record, seeds):
                result.notes.append(f"{path}: {reason}")
            else:
                tiers[record.id] = REPRODUCED
        _find_copies(valid, result)
        for record in records:
            tier = SELF_REPORTED if board.csv in damaged else tiers.get(record.id, SELF_REPORTED)
            result.tiers[record.group] = min(result.tiers.get(record.group, REPRODUCED), tier, key=list(TIERS).index)
    result.problems = sorted(set(result.problems))
    result.notes = list(dict.fromkeys(result.notes))
    return result


def _verified(runs: Sequence[Run], planner: Planner, result: Verification) -> Iterator[Run]:
    """Yield the runs whose rankings follow from the lists; add the problems of the others, and notes, to ``result``."""
    for path, record in runs:
        spec = record.items["protocol"].spec
        try:
            item, protocol, split = planner.data(spec)
        except ReidbenchError as error:
            result.notes.append(f"{spec}: not verified, its lists are not here: {str(error).splitlines()[0]}")
            continue
        standin, same = is_standin(protocol, split), split.digest == record.dataset.digest
        if not same and (standin or record.standin) and protocol.names:
            result.notes.append(f"{spec}: not verified, the data here are {'a' if standin else 'not that'} stand-in")
            continue
        expected = _protocol_fields(protocol, split) | {"items.protocol.spec": item.text, "standin": standin}
        # The published lists with files of other sizes have another digest.
        expected |= {"dataset.counts": split.counts} if same else {}
        expected |= {"dataset.digest": split.digest} if not protocol.names else {}
        missing = {*scores_at(protocol.ranks), "unmatched"} - record.scores.keys()
        differences = [*_compare(record, expected), *((f"scores.{name}", "is missing") for name in sorted(missing))]
        ranking = read_ranking(path)
        problems = [file_problem(path / RANKINGS, text) for text in against_lists(ranking, protocol, split)]
        if not problems and not _close(record.intervals, intervals(ranking, split.query.pids)):
            differences.append(("intervals", "do not follow from the rankings"))
        if same and not problems and not differences:
            differences += _compare(record, _plan_fields(record, planner))
        problems += [field_problem(path / RECORD, *each) for each in differences]
        result.problems += problems
        if not problems:
            yield path, record


def _protocol_fields(protocol: Protocol, split: Split) -> dict[str, Any]:
    """Return the fields of a record that its protocol and the lists determine."""
    return {
        "scores.queries": len(split.query),
        "scores.gallery": len(split.gallery),
        "evaluation.version": protocol.version,
        "evaluation.views": protocol.views,
        "evaluation.primary": protocol.primary,
        "evaluation.exclude": list(protocol.exclude),
    }


def _plan_fields(record: RunRecord, planner: Planner) -> dict[str, Any]:
    """Return the fields of a record that its items determine; none where they have other options here."""
    specs = {kind: item.spec for kind, item in record.items.items() if kind != "dataset"}
    try:
        plan = planner.plan(Job(**specs, seed=record.job.seed))
    except ReidbenchError:  # an item is not installed here
        return {}
    if plan.id != record.id:
        return {}
    fields = {f"recipe.{name}": value for name, value in asdict(plan.recipe).items()}
    fields |= {f"network.{name}": getattr(plan.info, name) for name in ("embedding_dim", "parameters", "pretrained")}
    fields |= {f"items.{kind}.short": item.short for kind, item in plan.items.items()}
    return fields if plan.faithful else fields | {"faithful": False}


def _compare(record: RunRecord, expected: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (field, problem) for each field of a record that is missing or not the expected one."""
    parts = asdict(record)
    for field_name, value in expected.items():
        *above, name = field_name.split(".")
        recorded = reduce(lambda part, key: part[key], above, parts).get(name)
        if recorded != value:
            yield field_name, f"is {recorded!r:.200}, but the lists and the run's items give {value!r:.200}"


def _close(recorded: Mapping[str, Sequence[float]], expected: Mapping[str, Sequence[float]]) -> bool:
    """Return whether intervals are the same to rounding."""
    return recorded.keys() == expected.keys() and all(np.allclose(recorded[name], expected[name]) for name in expected)


def against_lists(ranking: Ranking, protocol: Protocol, split: Split) -> Iterator[str]:
    """Yield what in a ranking cannot come from the queries and the gallery of the lists."""
    query, gallery = split.query, split.gallery
    if len(ranking) != len(query):
        yield f"holds {len(ranking)} queries, the lists have {len(query)}"
        return
    positives = Positives.find(query.pids, query.cams, gallery.pids, gallery.cams, protocol.exclude)
    wrong = np.flatnonzero(ranking.ranked != positives.ranked)
    if len(wrong):
        yield f"query {wrong[0]} has another number of ranked items than the lists give ({len(wrong)} queries in all)"
    for name, starts, units, hidden in (
        ("positives", ranking.starts, ranking.units, False),
        ("same-camera positives", ranking.same_camera_starts, ranking.same_camera_units, True),
    ):
        chosen = positives.same_camera == hidden
        expected = _pairs(positives.queries[chosen], positives.units[chosen])
        differing = (pair for pair in zip_longest(_pairs(_queries(starts), units), expected) if pair[0] != pair[1])
        if different := next(differing, None):
            yield f"query {min(filter(None, different))[0]} has other {name} than the lists"
    # The closest items [n, k]: all of the ranked gallery, none twice, and every positive among the first k there.
    rows, places = np.nonzero(ranking.top >= 0)
    units = ranking.top[rows, places]
    size = len(gallery)
    if ((units >= size) | ~np.isin(units, positives.candidates)).any():
        yield "its closest items are not all in what the protocol ranks"
    codes = rows * size + units
    pairs = positives.queries * size + positives.units
    if np.isin(codes, pairs[positives.same_camera]).any():
        yield "its closest items hold some that the camera rule excludes"
    if len(np.unique(codes)) != len(codes):
        yield "its closest items hold one twice"
    positive = np.isin(codes, pairs[~positives.same_camera])
    ranked = _queries(ranking.starts)[ranking.ranks < ranking.top.shape[1]]
    if (np.bincount(rows[positive], minlength=len(query)) != np.bincount(ranked, minlength=len(query))).any():
        yield "its closest items hold positives that have no rank"


def _queries(starts: IntArray) -> IntArray:
    """Return the query [m] int64 of each positive; query i's are ``starts[i]:starts[i + 1]``."""
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def _pairs(queries: IntArray, units: IntArray) -> list[tuple[int, int]]:
    return sorted(zip(queries.tolist(), units.tolist(), strict=True))


def _not_reproduced(first: RunRecord, second: RunRecord, seeds: Sequence[RunRecord]) -> str:
    """Return why a repeated run does not reproduce the first, or nothing.

    Every score must lie within three standard deviations over the seeds of the row.
    """
    if first.dirty or second.dirty:
        return "proves nothing, since one of the two was made with uncommitted changes"
    for name in scores_at():
        # A single seed has no spread: then only equal scores will do.
        spread = WITHIN_SDS * (mean_and_sd(record.scores[name] for record in seeds)[1] or 0.0)
        away = abs(second.scores[name] - first.scores[name])
        if away > spread:
            return (
                f"not reproduced: {name} is {away:.6f} from the first run's, three standard deviations of "
                f"{len(seeds)} seed{'s' * (len(seeds) > 1)} are {spread:.6f}"
            )
    return ""


def _find_copies(runs: Sequence[Run], result: Verification) -> None:
    """Add runs that rank exactly alike: as a note those of one network, as a problem those of two trainings."""
    alike: dict[str, list[Run]] = defaultdict(list)
    for path, record in runs:
        ranking = read_ranking(path)
        digest = hashlib.sha256()
        for array in (ranking.starts, ranking.units, ranking.ranks):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        alike[digest.hexdigest()].append((path, record))
    for (first_path, first), *others in alike.values():
        for path, record in others:
            untrained = first.items["loss"].spec == record.items["loss"].spec == "none"
            if record.train_id == first.train_id or untrained:
                result.notes.append(f"{path} and {first_path}: rank exactly alike, from one network")
            else:
                text = f"ranks exactly as {first_path / RANKINGS}, though the two were trained differently: a copy?"
                result.problems.append(file_problem(path / RANKINGS, text))
