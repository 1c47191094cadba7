"""Do the kept rankings follow from the data set's lists? And what each run has shown: its tier."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from reidbench.data.ground_truth import Matches
from reidbench.data.protocol import Protocol, is_standin
from reidbench.data.split import Split
from reidbench.errors import DataError, ReidbenchError
from reidbench.leaderboard.board import Board, Kept, board_names
from reidbench.leaderboard.check_board import check
from reidbench.leaderboard.findings import Finding, in_record
from reidbench.leaderboard.rows import SELF_REPORTED
from reidbench.ranking.bootstrap import mean_and_sd
from reidbench.ranking.rankings import RANKINGS, Ranking, read_ranking
from reidbench.ranking.scores import intervals, scores_at
from reidbench.runs.job import Job
from reidbench.runs.prepare import Planner
from reidbench.runs.record import RECORD, RunRecord
from reidbench.utils.arrays import IntArray

CONSISTENT, REPRODUCED = "consistent", "reproduced"
TIERS = (SELF_REPORTED, CONSISTENT, REPRODUCED)
WITHIN_SDS = 3.0


@dataclass
class Verification:
    """What was found: what is wrong, what is worth knowing, and the tier of each row by its ``config_hash``."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tiers: dict[str, str] = field(default_factory=dict)


def verify(folder: Path, planner: Planner) -> Verification:
    """Return whether the leaderboards in a folder follow from the lists of the data sets, and the tier of every row.

    All that ``check`` finds is found here too. A protocol whose lists are not on this machine is named in the notes,
    and its rows stay self-reported. Raises DataError where the folder holds no leaderboard.
    """
    found = Verification(findings=check(folder))
    damaged = {finding.file for finding in found.findings}
    for name in board_names(folder):
        board = Board(folder, name)
        try:
            board = Board.open(folder, name)
        except DataError:  # check has said why
            continue
        sound = [(path, record) for path, record in board.kept if not damaged & {path / RECORD, path / RANKINGS}]
        tiers = dict.fromkeys((record.id for _, record in board.kept), SELF_REPORTED)
        made_again = {
            key: run for key, run in board.again.items() if not damaged & {run[0] / RECORD, run[0] / RANKINGS}
        }
        for _, record in _follow_from_lists(sound, planner, found):
            again = list(_follow_from_lists([made_again[record.id]], planner, found)) if record.id in made_again else []
            seeds = [seed for _, seed in board.kept if seed.group == record.group]
            tiers[record.id] = _reproduced(record, *again[0], seeds, found) if again else CONSISTENT
        _name_copies(sound, found)
        for _, record in board.kept:
            row = found.tiers.get(record.group, REPRODUCED)
            found.tiers[record.group] = min(row, tiers[record.id], key=TIERS.index)
        if damaged & {board.csv, board.records}:
            found.tiers |= dict.fromkeys((record.group for _, record in board.kept), SELF_REPORTED)
    found.findings = sorted(set(found.findings))
    found.notes = list(dict.fromkeys(found.notes))
    return found


def _follow_from_lists(runs: Sequence[Kept], planner: Planner, found: Verification) -> Iterator[Kept]:
    """Yield the runs whose rankings follow from the lists; note what is wrong with the others, and what is not here."""
    for path, record in runs:
        file = path / RECORD
        spec = record.items["protocol"].spec
        try:
            item, protocol, split = planner.data(spec)
        except ReidbenchError as error:
            found.notes.append(f"{spec}: not verified, its lists are not here: {str(error).splitlines()[0]}")
            continue
        standin, same = is_standin(protocol, split), split.digest == record.dataset.digest
        if not same and (standin or record.standin) and protocol.names:
            found.notes.append(f"{spec}: not verified, the data here are {'a' if standin else 'not that'} stand-in")
            continue
        faults = [in_record(file, "items.protocol.spec", f"is {spec!r:.200}, which is {item.text!r:.200} here")] * (
            item.text != spec
        )
        faults += _against_protocol(file, record, protocol, split, same=same, standin=standin)
        ranking = read_ranking(path)
        wrong = [Finding(path / RANKINGS, 0, "", what) for what in against_lists(ranking, protocol, split)]
        faults += wrong
        if not wrong and not _close(record.intervals, intervals(ranking, split.query.pids)):
            faults.append(in_record(file, "intervals", "do not follow from the rankings"))
        if same and not faults:
            faults += _against_plan(file, record, planner)
        found.findings += faults
        if not faults:
            yield path, record


def _close(said: Mapping[str, Sequence[float]], found: Mapping[str, Sequence[float]]) -> bool:
    """Say whether intervals are the same to rounding."""
    return said.keys() == found.keys() and all(np.allclose(said[name], found[name]) for name in found)


def _against_plan(file: Path, record: RunRecord, planner: Planner) -> Iterator[Finding]:
    """Yield what a record says of its items, recipe, network and mark that its options do not give here."""
    specs = {kind: item.spec for kind, item in record.items.items() if kind != "dataset"}
    try:
        plan = planner.plan(Job(**specs, seed=record.job.seed))
    except ReidbenchError:  # an item that is not installed here, or another version of it, has other options
        return
    if plan.id != record.id:
        return
    network = ("embedding_dim", "parameters", "pretrained")
    for what, said, found, names in (
        ("recipe", record.recipe, plan.recipe, [each.name for each in fields(plan.recipe)]),
        ("network", record.network, plan.info, network),
    ):
        for name in names:
            if getattr(said, name) != getattr(found, name):
                text = f"is {getattr(said, name)!r}, the run's items give {getattr(found, name)!r}"
                yield in_record(file, f"{what}.{name}", text)
    for kind, item in plan.items.items():
        if record.items[kind].short != item.short:
            yield in_record(
                file, f"items.{kind}.short", f"is {record.items[kind].short!r:.80}, expected {item.short!r:.80}"
            )
    if record.faithful and not plan.faithful:
        yield in_record(file, "faithful", f"is true, but the run differs: {'; '.join(plan.deviations) or 'no paper'}")


def _against_protocol(
    file: Path, record: RunRecord, protocol: Protocol, split: Split, *, same: bool, standin: bool
) -> Iterator[Finding]:
    said = record.evaluation
    for name in ("version", "views", "primary"):
        if getattr(said, name) != getattr(protocol, name):
            what = f"is {getattr(said, name)!r}, the protocol's is {getattr(protocol, name)!r}"
            yield in_record(file, f"evaluation.{name}", what)
    if said.exclude != list(protocol.exclude):
        yield in_record(file, "evaluation.exclude", f"is not the protocol's ({', '.join(protocol.exclude)})")
    if not same and not protocol.names:
        yield in_record(file, "dataset.digest", "is not that of the data that the protocol names")
    if same and record.dataset.counts != split.counts:
        yield in_record(file, "dataset.counts", "are not those of the lists")
    if record.standin != standin:
        yield in_record(file, "standin", f"is {str(record.standin).lower()}, but the lists say otherwise")
    expected = {*scores_at(protocol.ranks), "unmatched"}
    if lacking := sorted(expected - set(record.scores)):
        yield in_record(file, "scores", f"lacks {', '.join(lacking)}")
    for name, number in {"queries": len(split.query), "gallery": len(split.gallery)}.items():
        if record.scores.get(name) != number:
            yield in_record(file, f"scores.{name}", f"is {record.scores.get(name)!r}, the lists have {number}")


def against_lists(ranking: Ranking, protocol: Protocol, split: Split) -> Iterator[str]:
    """Yield what in a ranking cannot come from the queries and the gallery of the lists."""
    query, gallery = split.query, split.gallery
    if len(ranking) != len(query):
        yield f"holds {len(ranking)} queries, the lists have {len(query)}"
        return
    matches = Matches.find(query.pids, query.cams, gallery.pids, gallery.cams, protocol.exclude)
    wrong = np.flatnonzero(ranking.ranked != matches.ranked)
    if len(wrong):
        yield f"query {wrong[0]} has another number of ranked items than the lists say ({len(wrong)} queries in all)"
    for what, starts, units, hidden in (
        ("positives", ranking.starts, ranking.units, False),
        ("same-camera matches", ranking.same_camera_starts, ranking.same_camera_units, True),
    ):
        ours = matches.hidden == hidden
        theirs = np.repeat(np.arange(len(query)), np.diff(starts))
        wrong = _queries_that_differ(matches.queries[ours], matches.units[ours], theirs, units)
        if len(wrong):
            yield f"query {wrong[0]} has other {what} than the lists ({len(wrong)} queries in all)"
    rows, places = np.nonzero(ranking.top >= 0)
    units = ranking.top[rows, places]
    size = len(gallery)
    if ((units >= size) | ~np.isin(units, matches.kept)).any():
        yield "its closest items are not all in what the protocol ranks"
    codes = rows * size + units
    hidden_codes = matches.queries[matches.hidden] * size + matches.units[matches.hidden]
    if np.isin(codes, hidden_codes).any():
        yield "its closest items hold some that the camera rule takes out"
    if len(np.unique(codes)) != len(codes):
        yield "its closest items hold one twice"
    positive = np.isin(codes, matches.queries[~matches.hidden] * size + matches.units[~matches.hidden])
    ranked = np.repeat(np.arange(len(query)), np.diff(ranking.starts))[ranking.ranks < ranking.top.shape[1]]
    if (np.bincount(rows[positive], minlength=len(query)) != np.bincount(ranked, minlength=len(query))).any():
        yield "its closest items hold matches that its ranks do not know"


def _queries_that_differ(query: IntArray, unit: IntArray, other_query: IntArray, other_unit: IntArray) -> IntArray:
    """Return the queries [n] that do not have the same units in both lists of pairs."""
    pairs = {*zip(query.tolist(), unit.tolist(), strict=True)} ^ {
        *zip(other_query.tolist(), other_unit.tolist(), strict=True)
    }
    counts = np.bincount(query, minlength=1), np.bincount(other_query, minlength=1)
    wide = max(map(len, counts))
    unequal = np.flatnonzero(
        np.pad(counts[0], (0, wide - len(counts[0]))) != np.pad(counts[1], (0, wide - len(counts[1])))
    )
    return np.unique([*(pair[0] for pair in pairs), *unequal.tolist()]).astype(np.int64)


def _reproduced(
    first: RunRecord, path: Path, second: RunRecord, seeds: Sequence[RunRecord], found: Verification
) -> str:
    """Return the tier of a run that was made again: every score within three standard deviations over the seeds."""
    if first.dirty or second.dirty:
        found.notes.append(f"{path}: proves nothing, since one of the two was made with uncommitted changes")
        return CONSISTENT
    for name in scores_at():
        # One seed has no spread: then only the very same scores will do.
        spread = mean_and_sd(record.scores[name] for record in seeds)[1] or 0.0
        away = abs(second.scores[name] - first.scores[name])
        if away > WITHIN_SDS * spread:
            found.notes.append(
                f"{path}: not reproduced: {name} is {away:.6f} from the first run's, three standard deviations of "
                f"{len(seeds)} seed{'s' * (len(seeds) > 1)} are {WITHIN_SDS * spread:.6f}"
            )
            return CONSISTENT
    return REPRODUCED


def _name_copies(runs: Sequence[Kept], found: Verification) -> None:
    """Name runs that rank exactly alike: what one training gives to two metrics may, two trainings hardly can."""
    alike: dict[str, list[Kept]] = defaultdict(list)
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
                found.notes.append(f"{path} and {first_path}: rank exactly alike, from one network")
            else:
                what = f"ranks exactly as {first_path / RANKINGS}, though the two were trained differently: a copy?"
                found.findings.append(Finding(path / RANKINGS, 0, "", what))
