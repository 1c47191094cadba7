"""Verify a leaderboards folder: against the datasets' lists, published weights and new trainings; state each tier."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from reidbench.errors import DataError, Interrupted, OptionError, ReidbenchError
from reidbench.leaderboard.board import WAIT_SECONDS, Board, Run, board_names
from reidbench.leaderboard.check_board import check
from reidbench.leaderboard.check_lists import check_lists
from reidbench.leaderboard.check_record import Problem, field_problem
from reidbench.leaderboard.recompute import LEAST_SEEDS, prediction_interval, recomputed_scores, retrain
from reidbench.leaderboard.tiers import (
    CONSISTENT,
    RECOMPUTED,
    RETRAINED,
    SELF_REPORTED,
    TIERS,
    Statement,
    Statements,
    Tier,
    run_digest,
)
from reidbench.ranking.bootstrap import mean_and_sd
from reidbench.ranking.rankings import RANKINGS
from reidbench.ranking.scores import HEADLINE
from reidbench.runs.prepare import Planner
from reidbench.runs.provenance import commit
from reidbench.runs.record import RECORD
from reidbench.utils.lock import lock
from reidbench.utils.machine import environment
from reidbench.utils.untrusted_files import file_digest

TOLERANCE = 0.001  # 0.1 points


@dataclass
class Verification:
    """The result of ``verify``.

    ``problems``: what is wrong.
    ``notes``: one sentence for each thing that was not verified, and for each training.
    ``rows``: what this machine verified of each row, by its ``config_hash``.
    """

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: Statements = field(default_factory=dict)


def verify(
    folder: Path, planner: Planner, *, rows: Sequence[str] = (), weights: Path | None = None, seeds: int = 0
) -> Verification:
    """Return what this machine can verify of the leaderboards in a folder.

    ``rows`` are the first digits of the ``config_hash`` of rows; without them all rows are verified. ``weights`` is a
    file of weights, or a folder of such, beside those that are stored with the records. With ``seeds`` so many new
    trainings of each row are made. Includes all problems that ``check`` finds. A protocol whose lists are not on this
    machine is named in the notes. Raises DataError where the folder holds no leaderboard, or no row is one of ``rows``.
    """
    if 0 < seeds < LEAST_SEEDS:
        raise OptionError(f"--train {seeds}: at least {LEAST_SEEDS} trainings tell how far seeds differ")
    result = Verification(problems=check(folder))
    damaged = {problem.file for problem in result.problems}
    given = _digests(weights)
    for name in board_names(folder):
        board, _ = Board.load(folder, name, files=False)
        groups: dict[str, list[Run]] = defaultdict(list)
        for run in board.runs.values():
            if not rows or run[1].group.startswith(tuple(rows)):
                groups[run[1].group].append(run)
        valid = [run for runs in groups.values() for run in runs if not damaged & {run[0] / RECORD, run[0] / RANKINGS}]
        consistent = list(_consistent(valid, planner, result))
        recomputed = list(_recomputed(consistent, board.weights | given, planner, result))
        for group, runs in groups.items():
            tier: Tier = SELF_REPORTED
            trained: list[int] = []
            if board.csv not in damaged and all(run in consistent for run in runs):
                tier = RECOMPUTED if all(run in recomputed for run in runs) else CONSISTENT
                trained = _retrained(runs, seeds, planner, result) if seeds else []
                tier = RETRAINED if trained else tier
            result.rows[group] = _statement(tier, runs, trained, planner)
    if rows and not result.rows:
        raise DataError(f"{folder}: no row has a config_hash that begins with {' or '.join(rows)}")
    result.problems = sorted(set(result.problems))
    result.notes = list(dict.fromkeys(result.notes))
    return result


def write(folder: Path, verification: Verification) -> list[Path]:
    """Write what was verified beside each CSV, and derive the CSV; return the files that were written.

    A statement about other files is replaced, and one about the same files unless it has a higher tier. Raises
    DataError where something is wrong with the leaderboards.
    """
    order = list(TIERS)
    files = []
    if verification.problems:
        raise DataError("\n".join(["nothing was written:", *map(str, verification.problems)]))
    with lock(folder / ".lock", "changing the leaderboards", wait=WAIT_SECONDS):
        for name in board_names(folder):
            board, _ = Board.load(folder, name, files=False)
            groups = {record.group for _, record in board.runs.values()}
            board.statements = {group: each for group, each in board.statements.items() if group in groups}
            for group, new in verification.rows.items():
                old = board.statements.get(group)
                higher = old and old.runs == new.runs and order.index(old.tier) > order.index(new.tier)
                if group in groups and not higher:
                    board.statements[group] = new
            files += board.write()
    return files


def _consistent(runs: Sequence[Run], planner: Planner, result: Verification) -> Iterator[Run]:
    """Yield the runs that agree with the lists; add problems and notes to ``result``."""
    for run in runs:
        try:
            problems = check_lists(run, planner)
        except DataError as error:
            result.notes.append(str(error))
            continue
        result.problems += problems
        if not problems:
            yield run


def _digests(weights: Path | None) -> dict[str, Path]:
    """Return files of weights by their sha256; ``weights`` is one or a folder of them. Raises DataError."""
    if weights is None:
        return {}
    files = sorted(weights.glob("*.safetensors")) if weights.is_dir() else [weights]
    return {file_digest(file): file for file in files}


def _statement(tier: Tier, runs: Sequence[Run], seeds: list[int], planner: Planner) -> Statement:
    sha, dirty = commit()
    return Statement(
        tier=tier,
        date=str(datetime.now(UTC).date()),
        commit=sha,
        dirty=dirty,
        environment=environment(planner.machine),
        runs={record.id[:12]: run_digest(path) for path, record in runs},
        seeds=seeds,
    )


def _recomputed(
    runs: Sequence[Run], weights: Mapping[str, Path], planner: Planner, result: Verification
) -> Iterator[Run]:
    """Yield the runs whose scores follow from their weights here; add problems and notes to ``result``."""
    for (path, record), scores in recomputed_scores(runs, weights, planner):
        if isinstance(scores, Exception):
            result.notes.append(f"{path}: not recomputed: {scores}")
            continue
        away = {name: value for name, value in scores.items() if abs(value - record.scores[name]) > TOLERANCE + 1e-9}
        for name, value in away.items():
            text = f"is {record.scores[name]:.6f}, but its published weights give {value:.6f} here"
            result.problems.append(field_problem(path / RECORD, f"scores.{name}", text))
        if not away:
            yield path, record


def _retrained(runs: Sequence[Run], number: int, planner: Planner, result: Verification) -> list[int]:
    """Train a row ``number`` times and return the seeds, none where its mean does not agree; notes say the rest."""
    records = [record for _, record in runs]
    first = records[0]
    name = f"row {first.group[:12]} ({first.items['loss'].short})"
    if first.items["loss"].spec == "none":
        return []
    start = 1 + max(record.job.seed for record in records)
    seeds = list(range(start, start + number))
    try:
        trained = retrain(first, seeds, planner)
    except Interrupted:
        raise
    except ReidbenchError as error:
        result.notes.append(f"{name}: not retrained: {error}")
        return []
    agrees = True
    for score in dict.fromkeys((first.evaluation.primary, *HEADLINE)):
        mean, _ = mean_and_sd(record.scores[score] for record in records)
        low, high = prediction_interval([record.scores[score] for record in trained], len(records))
        agrees &= low - 1e-9 <= mean <= high + 1e-9
        result.notes.append(
            f"{name}: {score} is {mean:.4f}; {number} trainings here expect {low:.4f} to {high:.4f} (99 %)"
        )
    return seeds if agrees else []
