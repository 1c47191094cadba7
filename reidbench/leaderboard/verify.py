"""Verify a leaderboards folder: against the datasets' lists, published weights and new trainings; state each tier."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import safetensors.torch
import torch

from reidbench.data.protocol import is_standin
from reidbench.embedding.cache import EmbeddingCache
from reidbench.errors import DataError, Interrupted, OptionError, ReidbenchError, TrainingError
from reidbench.leaderboard.board import Board, Run, board_names, check
from reidbench.leaderboard.check_lists import check_lists, ranking_problems
from reidbench.leaderboard.check_record import Problem, file_problem
from reidbench.leaderboard.external import load_external
from reidbench.leaderboard.rows import changing
from reidbench.leaderboard.tiers import TIERS, Statement, Statements, Tier, run_digest, write_statements
from reidbench.plugins.interfaces import Backbone
from reidbench.plugins.weights import load_tensors
from reidbench.ranking.bootstrap import mean_and_sd
from reidbench.ranking.external_embeddings import Evaluation, evaluate_files
from reidbench.ranking.rankings import RANKINGS
from reidbench.ranking.scores import HEADLINE, score
from reidbench.runs.execute import execute
from reidbench.runs.plan import Request, make_plan
from reidbench.runs.preflight import initialised_backbone
from reidbench.runs.prepare import Planner, Prepared
from reidbench.runs.provenance import commit
from reidbench.runs.record import RECORD, RunRecord
from reidbench.runs.run_job import rank_split
from reidbench.runs.store import AGAIN
from reidbench.training.build import build_backbone
from reidbench.training.precision import float32_products
from reidbench.utils.atomic import write_atomic
from reidbench.utils.download import without_downloads
from reidbench.utils.machine import environment
from reidbench.utils.untrusted_files import file_digest, open_regular

TOLERANCE = 0.001  # 0.1 points
LEAST_SEEDS = 3
LEVEL = 0.99


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


@without_downloads()
def verify(
    folder: Path, planner: Planner, *, rows: Sequence[str] = (), weights: Path | None = None, seeds: int = 0
) -> Verification:
    """Return what this machine can verify of the leaderboards in a folder.

    ``rows`` are the first digits of the ``config_hash`` of rows; without them all rows are verified. ``weights`` is a
    file of weights or embeddings, or a folder of such, beside the stored weights. With ``seeds`` so many new trainings
    of each row are made. Includes all problems that ``check`` finds. A protocol whose lists are not on this machine is
    named in the notes. Raises DataError where the folder holds no leaderboard, or no row is one of ``rows``.
    """
    if 0 < seeds < LEAST_SEEDS:
        raise OptionError(f"--train {seeds}: at least {LEAST_SEEDS} trainings tell how far seeds differ")
    result = Verification(problems=check(folder))
    damaged = {problem.file for problem in result.problems}
    given, today = _digests(weights), str(datetime.now(UTC).date())
    for name in board_names(folder):
        board, _ = Board.load(folder, name, files=False)
        groups = {key: runs for key, runs in board.groups().items() if not rows or key.startswith(tuple(rows))}
        unique = {run[0]: run for runs in groups.values() for run in runs}.values()
        valid = [run for run in unique if not damaged & {run[0] / RECORD, run[0] / RANKINGS}]
        consistent = list(_consistent(valid, planner, result))
        recomputed = list(_recomputed(consistent, board.weights | given, planner, result))
        for group, runs in groups.items():
            tier: Tier = "self-reported"
            trained: list[int] = []
            if board.csv not in damaged and all(run in consistent for run in runs):
                tier = "recomputed" if all(run in recomputed for run in runs) else "consistent"
                trained = _retrained(runs, seeds, planner, result)
                tier = "retrained" if trained else tier
            digests = {record.id[:12]: run_digest(path) for path, record in runs}
            result.rows[group] = Statement(tier, today, *commit(), environment(planner.machine), digests, trained)
    for key, tier in _verify_external(folder, planner, given, result):
        if not rows or key.startswith(tuple(rows)):
            result.rows[key] = Statement(tier, today, *commit(), environment(planner.machine), {}, [])
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
    order, files = list(TIERS), []
    if verification.problems:
        raise DataError("\n".join(["nothing was written:", *map(str, verification.problems)]))
    with changing(folder):
        for name in board_names(folder):
            board, _ = Board.load(folder, name, files=False)
            before = dict(board.statements)
            for group in board.groups().keys() & verification.rows.keys():
                old, new = before.get(group), verification.rows[group]
                if not old or old.runs != new.runs or order.index(old.tier) <= order.index(new.tier):
                    board.statements[group] = new
            if board.statements != before:
                write_atomic(board.statements_file, write_statements(board.statements))
                files.append(board.statements_file)
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
    """Return files of weights or embeddings by their sha256; ``weights`` is one or a folder. Raises DataError."""
    if weights is None:
        return {}
    arrays = (file for file in weights.glob("*.*") if file.suffix in (".safetensors", ".npz", ".npy"))
    return {file_digest(file): file for file in (arrays if weights.is_dir() else [weights])}


def _verify_external(
    folder: Path, planner: Planner, given: Mapping[str, Path], result: Verification
) -> Iterator[tuple[str, Tier]]:
    """Yield the ids of rows made by other programs with their tiers; add problems and notes to ``result``.

    They are consistent where the rankings agree with the lists. Where all input files are in ``given``, by sha256, they
    are scored again, which says nothing of the training.
    """
    for place, (entry, ranking) in load_external(folder)[0].items():
        how, name = entry.evaluation, f"{place.name} ({entry.method})"
        files = {part: given.get(digest) for part, digest in how.inputs.items()}
        query, gallery = files.get("query"), files.get("gallery")
        try:
            _, protocol, split = planner.data(how.protocol)
            if is_standin(protocol, split):
                raise DataError("the data here are a stand-in")
            wrong = list(ranking_problems(ranking, protocol, split))
            if (how.version, entry.gallery) != (protocol.version, len(split.gallery)):
                wrong.append(f"is of version {how.version} with {entry.gallery} gallery units, unlike the lists")
            if query and gallery and all(files.values()) and not wrong:
                rules = Evaluation(how.metric or "auto", how.rerank, protocol.exclude, protocol.ranks)
                scores, _ = evaluate_files(query, gallery, files.get("train"), files.get("distances"), rules)
                again = scores.as_dict()
                away = [
                    each
                    for each, value in entry.scores(ranking).items()
                    if abs(again.get(each, value) - value) > TOLERANCE
                ]
                wrong += [f"gives other scores than its embeddings do here: {', '.join(away)}"] * bool(away)
                result.notes.append(f"{name}: scored again from its embeddings; its training was not looked at")
        except ReidbenchError as error:
            result.notes.append(f"{name}: not verified: {error}")
            yield place.name, "self-reported"
            continue
        result.problems += [file_problem(place / RANKINGS, text) for text in wrong]
        yield place.name, "self-reported" if wrong else "consistent"


def _recomputed(
    runs: Sequence[Run], weights: Mapping[str, Path], planner: Planner, result: Verification
) -> Iterator[Run]:
    """Yield the runs whose scores follow here from ``weights``, files by sha256, or from no training.

    Adds problems and notes to ``result``. Runs of one network share its embeddings, which are computed anew.
    """
    key, cache = None, None
    with tempfile.TemporaryDirectory() as empty, float32_products():
        torch.set_num_threads(planner.machine.threads)
        for path, record in sorted(runs, key=lambda run: (run[1].train_id, run[1].evaluation.views)):
            file = weights.get(record.weights)
            if file is None and record.items["loss"].spec != "none":
                continue
            try:
                run = planner.plan(record.resolved_job())
                if run.id != record.id:
                    raise DataError("its items have other options here than in the record")
                if cache is None or key != (record.train_id, run.protocol.views):
                    network = _network(run, file).to(planner.machine.device)
                    cache = EmbeddingCache(Path(empty), network, run.protocol.views, planner.machine, write=False)
                    key = (record.train_id, run.protocol.views)
                ranking = rank_split(run, cache.backbone, cache.embeddings)[0].ranking
            except Interrupted:
                raise
            except Exception as error:  # of a plugin too: it costs this run
                result.notes.append(f"{path}: not recomputed: {error}")
                continue
            scores = score(ranking, len(run.split.gallery), run.protocol.ranks).as_dict()
            away = {name: abs(value - record.scores[name]) for name, value in scores.items()}
            away = {name: difference for name, difference in away.items() if difference > TOLERANCE + 1e-9}
            if not away:
                yield path, record
            for name, difference in away.items():
                text = f"is {record.scores[name]:.6f}, but its weights give {scores[name]:.6f} here"
                if difference * len(run.split.query) <= 1 + 1e-9:
                    result.notes.append(f"{path}: not recomputed: {name} {text}, as one query may on another processor")
                else:
                    result.problems.append(Problem(path / RECORD, f"scores.{name}", text))


def _network(run: Prepared, file: Path | None) -> Backbone:
    """Return the network of a run with the weights in an untrusted file, or untrained; raises DataError."""
    if file is None:
        return initialised_backbone(run)
    network = build_backbone(run.items["backbone"], run.job.seed)
    try:
        with open_regular(file) as opened:
            tensors = safetensors.torch.load(opened.read())
    except (ValueError, KeyError, safetensors.SafetensorError) as error:
        raise DataError(f"{file}: is no safetensors file: {error}") from None
    load_tensors(network, tensors, str(file))
    return network


def _retrained(runs: Sequence[Run], number: int, planner: Planner, result: Verification) -> list[int]:
    """Train a row ``number`` times and return the seeds, none where its mean does not agree; notes say the rest."""
    records = [record for _, record in runs]
    if not number or records[0].items["loss"].spec == "none":
        return []
    name = f"row {records[0].group[:12]} ({records[0].items['loss'].short})"
    if any(record.group != records[0].group for record in records):
        result.notes.append(f"{name}: not retrained: each of its seeds has the options that its search chose")
        return []
    start = 1 + max(record.job.seed for record in records)
    seeds = list(range(start, start + number))
    try:
        trained = _train(records[0], seeds, planner)
    except Interrupted:
        raise
    except ReidbenchError as error:
        result.notes.append(f"{name}: not retrained: {error}")
        return []
    agrees = True
    for each in dict.fromkeys((records[0].evaluation.primary, *HEADLINE)):
        mean, _ = mean_and_sd(record.scores[each] for record in records)
        low, high = prediction_interval([record.scores[each] for record in trained], len(records))
        agrees &= low - 1e-9 <= mean <= high + 1e-9
        text = f"{each} is {mean:.4f}; {number} trainings here expect {low:.4f} to {high:.4f} (99 %)"
        result.notes.append(f"{name}: {text}")
    return seeds if agrees else []


def _train(record: RunRecord, seeds: Sequence[int], planner: Planner) -> list[RunRecord]:
    """Return the records of new trainings of a row, in the folder of repeated runs; raises ReidbenchError."""
    machine = replace(planner.machine, results=planner.machine.results / AGAIN)
    plan = make_plan(Request([record.resolved_job(seed) for seed in seeds]), machine, planner.catalogue)
    if any(run.group != record.group for run in plan.runs):
        raise DataError("its items have other options here than in the record, or the data here are other data")
    records = [trained for _, trained in execute(plan)]
    for trained in records:
        if trained.status != "ok":
            raise TrainingError(f"seed {trained.job.seed} is {trained.status}: {trained.error}")
    return records


def prediction_interval(values: Sequence[float], number: int) -> tuple[float, float]:
    """Return the 99 % interval of the mean of ``number`` further values, from two or more ``values``.

    m ± t(0.995, k - 1) sd sqrt(1/k + 1/n): the k values and the n further ones are samples of one normal distribution.
    """
    from scipy.special import stdtrit  # noqa: PLC0415, not needed where nothing is trained

    mean, sd = mean_and_sd(values)
    assert sd is not None
    t = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2))
    half = t * sd * math.sqrt(1 / len(values) + 1 / number)
    return mean - half, mean + half
