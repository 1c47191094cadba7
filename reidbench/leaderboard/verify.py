"""Verify a leaderboards folder: against the datasets' lists, published weights and new trainings; state each tier."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from reidbench.data.protocol import is_standin
from reidbench.embedding.cache import EmbeddingCache
from reidbench.errors import DataError, OptionError, ReidbenchError, TrainingError
from reidbench.leaderboard.board import TIERS, Run, Statement, Tier, check, load_boards, run_digests
from reidbench.leaderboard.check_lists import check_lists, ranking_problems
from reidbench.leaderboard.check_record import Problem, file_problem
from reidbench.leaderboard.external import load_external
from reidbench.leaderboard.rows import changing
from reidbench.plugins.interfaces import Backbone
from reidbench.plugins.weights import load_tensors, read_weights
from reidbench.ranking.bootstrap import mean_and_sd
from reidbench.ranking.external_embeddings import Evaluation, evaluate_files
from reidbench.ranking.rankings import RANKINGS
from reidbench.ranking.scores import headline_scores, score
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
from reidbench.utils.download import without_downloads
from reidbench.utils.machine import environment
from reidbench.utils.untrusted_files import file_digest

TOLERANCE = 0.001  # 0.1 points
LEAST_SEEDS = 3
_ARRAYS = (".safetensors", ".npz", ".npy")

# Files of weights or embeddings by their sha256.
Files = Mapping[str, Path]


@dataclass
class Verification:
    """The result of ``verify``.

    ``problems``: what is wrong.
    ``notes``: one sentence for each thing that was not verified, and for each training.
    ``rows``: what this machine verified of each row, by its ``config_hash``.
    """

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: dict[str, Statement] = field(default_factory=dict)


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
    damaged, prefixes, order = {problem.file for problem in result.problems}, tuple(rows) or ("",), TIERS.index
    files = [] if weights is None else weights.glob("*.*") if weights.is_dir() else [weights]
    given = {file_digest(file): file for file in files if file == weights or file.suffix in _ARRAYS}
    (head, dirty), today = commit(), str(datetime.now(UTC).date())
    state = partial(Statement, date=today, commit=head, dirty=dirty, environment=environment(planner.machine))
    for board in load_boards(folder)[0]:
        groups = {key: runs for key, runs in board.groups().items() if key.startswith(prefixes)}
        unique = {path: (path, record) for runs in groups.values() for path, record in runs}
        valid = [run for path, run in unique.items() if not damaged & {path / RECORD, path / RANKINGS}]
        tiers = _run_tiers(valid, board.weights | given, planner, result)
        for group, runs in groups.items():
            reached: list[Tier] = [tiers.get(path, "self-reported") for path, _ in runs]
            tier: Tier = "self-reported" if board.csv in damaged else min(reached, key=order)
            trained = _retrain(runs, seeds, planner, result) if tier != "self-reported" else []
            result.rows[group] = state("retrained" if trained else tier, runs=run_digests(runs), seeds=trained)
    external = _external_tiers(folder, planner, given, result)
    result.rows |= {key: state(tier, runs={}, seeds=[]) for key, tier in external if key.startswith(prefixes)}
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
    order, files = TIERS.index, []
    if verification.problems:
        raise DataError("\n".join(["nothing was written:", *map(str, verification.problems)]))
    with changing(folder):
        for board in load_boards(folder)[0]:
            for group in board.groups().keys() & verification.rows.keys():
                old, new = board.statements.get(group), verification.rows[group]
                if not old or old.runs != new.runs or order(old.tier) <= order(new.tier):
                    board.statements[group] = new
            files += board.write()
    return files


def _away(scores: Mapping[str, float], published: Mapping[str, float]) -> dict[str, float]:
    """Return the ``scores`` that are more than the tolerance away from the published ones of the same names."""
    return {name: value for name, value in scores.items() if abs(value - published.get(name, value)) > TOLERANCE + 1e-9}


def _external_tiers(folder: Path, planner: Planner, given: Files, result: Verification) -> Iterator[tuple[str, Tier]]:
    """Yield the ids of rows made by other programs with their tiers; add problems and notes to ``result``.

    They are consistent where the rankings agree with the lists. Where all input files are in ``given``, by sha256, they
    are scored again, which says nothing of the training.
    """
    for place, (entry, ranking) in load_external(folder)[0].items():
        how, name = entry.evaluation, f"{place.name} ({entry.method})"
        files = {part: given[digest] for part, digest in how.inputs.items() if digest in given}
        try:
            _, protocol, split = planner.data(how.protocol)
            if is_standin(protocol, split):
                raise DataError("the data here are a stand-in")
            wrong = list(ranking_problems(ranking, protocol, split))
            if (how.version, entry.gallery) != (protocol.version, len(split.gallery)):
                wrong.append(f"is of version {how.version} with {entry.gallery} gallery units, unlike the lists")
            if not wrong and {"query", "gallery"} <= files.keys() == how.inputs.keys():
                rules = Evaluation(how.metric or "auto", how.rerank, protocol.exclude, protocol.rank_scores)
                optional = (files.get("train"), files.get("distances"))
                again, _ = evaluate_files(files["query"], files["gallery"], *optional, rules)
                if away := _away(again.as_dict(), entry.scores(ranking)):
                    wrong.append(f"gives other scores than its embeddings do here: {', '.join(away)}")
                result.notes.append(f"{name}: scored again from its embeddings; its training was not looked at")
        except ReidbenchError as error:
            result.notes.append(f"{name}: not verified: {error}")
            yield place.name, "self-reported"
        else:
            result.problems += [file_problem(place / RANKINGS, text) for text in wrong]
            yield place.name, "self-reported" if wrong else "consistent"


def _run_tiers(runs: Sequence[Run], weights: Files, planner: Planner, result: Verification) -> dict[Path, Tier]:
    """Return the tier of each run that agrees with the lists, by folder; add problems and notes to ``result``.

    It is recomputed where its scores follow here from ``weights``, files by sha256, or from no training. Runs of one
    network share its embeddings, which are computed anew, and those of one test also its scores.
    """
    tiers: dict[Path, Tier] = {}
    scores: dict[tuple[str, ...], Mapping[str, float]] = {}  # of the present network, by protocol, metric, re-ranker
    key, cache = None, None
    with tempfile.TemporaryDirectory() as empty, float32_products():
        torch.set_num_threads(planner.machine.threads)
        for path, record in sorted(runs, key=lambda run: _network_key(run[1])):
            try:
                problems = check_lists((path, record), planner)
            except DataError as error:
                result.notes.append(str(error))
                continue
            result.problems += problems
            if not problems:
                tiers[path] = "consistent"
            file = weights.get(record.weights)
            if problems or (file is None and record.items["loss"].spec != "none"):
                continue
            try:
                run = planner.plan(record.resolved_job())
                if run.id != record.id:
                    raise DataError("its items have other options here than in the record")
                if cache is None or key != _network_key(record):
                    network = _network(run, file).to(planner.machine.device)
                    cache = EmbeddingCache(Path(empty), network, run.protocol.views, planner.machine, write=False)
                    key, scores = _network_key(record), {}
                test = tuple(record.items[kind].spec for kind in ("protocol", "metric", "rerank"))
                if test not in scores:
                    ranking = rank_split(run, cache.backbone, cache.embeddings)[0].ranking
                    scores[test] = score(ranking, len(run.split.gallery), run.protocol.rank_scores).as_dict()
            except Exception as error:  # of a plugin too: it costs this run
                result.notes.append(f"{path}: not recomputed: {error}")
                continue
            away = _away(scores[test], record.scores)
            if not away:
                tiers[path] = "recomputed"
            for name, value in away.items():
                text = f"is {record.scores[name]:.6f}, but its weights give {value:.6f} here"
                if abs(value - record.scores[name]) * len(run.split.query) <= 1 + 1e-9:
                    result.notes.append(f"{path}: not recomputed: {name} {text}, as one query may on another processor")
                else:
                    result.problems.append(Problem(path / RECORD, f"scores.{name}", text))
    return tiers


def _network_key(record: RunRecord) -> tuple[str, str]:
    """Return what runs of one network and view have in common; an untrained one depends on backbone and seed alone."""
    untrained = f"{record.items['backbone'].spec} {record.job.seed}"
    return untrained if record.items["loss"].spec == "none" else record.train_id, str(record.evaluation.views)


def _network(run: Prepared, file: Path | None) -> Backbone:
    """Return the network of a run with the weights in an untrusted file, or untrained; raises DataError."""
    if file is None:
        return initialised_backbone(run)
    network = build_backbone(run.items["backbone"], run.job.seed)
    load_tensors(network, read_weights(file), str(file))
    return network


def _retrain(runs: Sequence[Run], number: int, planner: Planner, result: Verification) -> list[int]:
    """Train a row ``number`` times, in the folder of repeated runs, and return the seeds; notes say the rest.

    Empty where its mean does not agree with these trainings.
    """
    records = [record for _, record in runs]
    first, start = records[0], 1 + max(record.job.seed for record in records)
    if not number or first.items["loss"].spec == "none":
        return []
    name, seeds = f"row {first.group[:12]} ({first.items['loss'].short})", list(range(start, start + number))
    try:
        if any(record.group != first.group for record in records):
            raise DataError("each of its seeds has the options that its search chose")
        machine = replace(planner.machine, results=planner.machine.results / AGAIN)
        plan = make_plan(Request([first.resolved_job(seed) for seed in seeds]), machine, planner.catalogue)
        if any(run.group != first.group for run in plan.runs):
            raise DataError("its items have other options here than in the record, or the data here are other data")
        trained = [record for _, record in execute(plan)]
        if flawed := [record for record in trained if record.status != "ok"]:
            raise TrainingError(f"seed {flawed[0].job.seed} is {flawed[0].status}: {flawed[0].error}")
    except ReidbenchError as error:
        result.notes.append(f"{name}: not retrained: {error}")
        return []
    agrees = True
    for each in headline_scores(first.scores, first.evaluation.primary):
        mean, _ = mean_and_sd(record.scores[each] for record in records)
        low, high = prediction_interval([record.scores[each] for record in trained], len(records))
        agrees &= low - 1e-9 <= mean <= high + 1e-9
        text = f"{each} is {mean:.4f}; {number} trainings here expect {low:.4f} to {high:.4f} (99 %)"
        result.notes.append(f"{name}: {text}")
    return seeds if agrees else []


def prediction_interval(values: Sequence[float], number: int) -> tuple[float, float]:
    """Return the 99 % interval of the mean of ``number`` further values, from two or more ``values``.

    m ± t(0.995, k - 1) sd sqrt(1/k + 1/n): the k values and the n further ones are samples of one normal distribution.
    """
    from scipy.special import stdtrit  # noqa: PLC0415, not needed where nothing is trained

    mean, sd = mean_and_sd(values)
    assert sd is not None
    half = float(stdtrit(len(values) - 1, 0.995)) * sd * math.sqrt(1 / len(values) + 1 / number)
    return mean - half, mean + half
