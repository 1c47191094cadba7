"""Repeat what a leaderboard's rows report: score published weights, and train rows again."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch

from reidbench.embedding.cache import EmbeddingCache
from reidbench.errors import DataError, Interrupted, TrainingError
from reidbench.leaderboard.board import Run
from reidbench.plugins.interfaces import Backbone
from reidbench.plugins.weights import load_tensors
from reidbench.ranking.bootstrap import mean_and_sd
from reidbench.ranking.scores import score
from reidbench.runs.execute import execute
from reidbench.runs.plan import Request, make_plan
from reidbench.runs.preflight import initialised_backbone
from reidbench.runs.prepare import Planner, Prepared
from reidbench.runs.record import RunRecord
from reidbench.runs.run_job import rank_split
from reidbench.runs.store import AGAIN
from reidbench.training.build import build_backbone
from reidbench.training.precision import float32_products
from reidbench.utils.untrusted_files import open_regular

LEAST_SEEDS = 3
LEVEL = 0.99


def recomputed_scores(
    runs: Sequence[Run], weights: Mapping[str, Path], planner: Planner
) -> Iterator[tuple[Run, dict[str, float] | Exception]]:
    """Yield each run whose weights are in ``weights``, by sha256, or that is untrained, with its scores here.

    In place of the scores stands an error where they cannot be computed on this machine. Runs of one network share its
    embeddings, which are computed anew and never read from a file.
    """
    key, cache = None, None
    with tempfile.TemporaryDirectory() as empty, float32_products():
        torch.set_num_threads(planner.machine.threads)
        for path, record in sorted(runs, key=lambda run: (run[1].train_id, run[1].evaluation.views)):
            trained = record.items["loss"].spec != "none"
            if trained and record.weights not in weights:
                continue
            try:
                run = planner.plan(record.resolved_job())
                if run.id != record.id:
                    raise DataError("its items have other options here than in the record")
                if cache is None or key != (record.train_id, run.protocol.views):
                    network = _trained(run, weights[record.weights]) if trained else initialised_backbone(run)
                    network.to(planner.machine.device)
                    key = (record.train_id, run.protocol.views)
                    cache = EmbeddingCache(Path(empty), network, run.protocol.views, planner.machine, write=False)
                rankings, _ = rank_split(run, cache)
                yield (path, record), score(rankings.ranking, len(run.split.gallery), run.protocol.ranks).as_dict()
            except Interrupted:
                raise
            except Exception as error:  # of a plugin too: it costs this run
                yield (path, record), error


def _trained(run: Prepared, file: Path) -> Backbone:
    """Return the network of a run with the weights in an untrusted file; raises DataError where these do not fit."""
    network = build_backbone(run.items["backbone"], run.job.seed)
    try:
        with open_regular(file) as opened:
            tensors = safetensors.torch.load(opened.read())
    except (ValueError, KeyError, safetensors.SafetensorError) as error:
        raise DataError(f"{file}: is no safetensors file: {error}") from None
    load_tensors(network, tensors, str(file))
    return network


def retrain(record: RunRecord, seeds: Sequence[int], planner: Planner) -> list[RunRecord]:
    """Return the records of new trainings of a row with other seeds, in the folder of repeated runs.

    Raises ReidbenchError where the row cannot be trained here.
    """
    machine = replace(planner.machine, results=planner.machine.results / AGAIN)
    plan = make_plan(Request([record.resolved_job(seed) for seed in seeds]), machine, planner.catalogue)
    if any(run.group != record.group for run in plan.runs):
        raise DataError("its items have other options here than in the record, or the data here are other data")
    records = [trained for _, trained in execute(plan)]
    if failed := [trained for trained in records if trained.status != "ok"]:
        raise TrainingError(f"seed {failed[0].job.seed} is {failed[0].status}: {failed[0].error}")
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
