"""Run one job: train, embed, rank and record what the results folder lacks of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import cast

import torch
from torch import Tensor

from reidbench.data.positives_and_exclusions import find_positives, own_units
from reidbench.data.samples import Samples
from reidbench.embedding.cache import EmbeddingCache
from reidbench.embedding.pooling import UnitEmbeddings, pool_units
from reidbench.errors import Interrupted, OutOfMemory, PeerError, PluginError, ReidbenchError, TrainingError
from reidbench.images.contents import split_contents
from reidbench.plugins.interfaces import Backbone, PairMetric, learns
from reidbench.plugins.weights import WEIGHTS
from reidbench.ranking.camera_matrix import camera_scores
from reidbench.ranking.pipeline import rank_embeddings
from reidbench.ranking.rankings import Rankings, save_ranking
from reidbench.ranking.scores import intervals, score
from reidbench.runs import record as schema
from reidbench.runs.preflight import initialised_backbone
from reidbench.runs.prepare import Prepared
from reidbench.runs.provenance import commit
from reidbench.runs.record import RECORD, RunRecord, Status
from reidbench.runs.store import RunState, read_state
from reidbench.training.build import build_backbone, build_loss
from reidbench.training.checkpoint import TrainingSummary, load_weights, read_summary
from reidbench.training.loop import train
from reidbench.training.precision import float32_products
from reidbench.utils.atomic import set_aside, sweep, write_atomic
from reidbench.utils.device import peak_memory_mib
from reidbench.utils.lock import lock
from reidbench.utils.machine import Machine, environment
from reidbench.utils.syntax import references_of
from reidbench.utils.untrusted_files import file_digest

TRACEBACK = "traceback.txt"
# What the first process tells the others of a run.
TRAIN, END = "train", "end"
# Why a training with a verdict is not to be ranked, and what to do.
FLAW_REASONS = {
    "no_gradient": (
        "the network learned nothing, as its gradient was 0 in all {steps} steps; use two or more images (the recipe's "
        "k) of two or more identities (p), weights that are not frozen, and a loss that depends on the embeddings"
    ),
    "collapsed": (
        "the network collapsed: all images of a batch had one embedding in the last steps, and in {packed} of {steps} "
        "steps; the scores are those of such a network; try a lower learning_rate or another margin"
    ),
}


def run_job(
    run: Prepared, machine: Machine, planned: RunState | None = None, network: Backbone | None = None
) -> RunRecord:
    """Train, embed and rank what the results folder lacks of a run, and return its record.

    ``planned`` is the state of the run when it was planned: a record in it is returned as it is. ``network`` is the
    run's network, built and initialised, where there is one already. A run that fails ends as a record with status
    "failed" and the reason, so that a suite continues; an interruption leaves a record too and is raised, as is a
    mistake of the request. Raises DataError where another process holds a folder.
    Of several processes the first calls this, the others call ``follow``.
    """
    try:
        record = planned.record if planned and planned.record else _run_locked(run, machine, network)
    except Interrupted:
        machine.world.from_first(lambda: END)
        raise
    machine.world.from_first(lambda: END)
    return record


def follow(run: Prepared, machine: Machine) -> None:
    """Take part in the training of a run that the first process runs, if it trains."""
    world = machine.world
    torch.set_num_threads(machine.threads)
    while world.from_first(lambda: "") == TRAIN:
        try:
            _train(run, build_backbone(run.items["backbone"], run.job.seed), machine)
        except OutOfMemory:  # which the others have not met
            raise
        except Interrupted:
            with suppress(PeerError):
                world.from_first(lambda: "")  # until the first has written its record
            raise
        except (TrainingError, PluginError, PeerError):  # reported by the first process
            continue


def _run_locked(run: Prepared, machine: Machine, network: Backbone | None) -> RunRecord:
    torch.set_num_threads(machine.threads)
    empty = partial(_record, run, machine, _now())
    commit()  # as it is while this code is loaded, not when the run ends
    with ExitStack() as stack:
        for folder in (run.training_folder, run.run_folder):
            stack.enter_context(lock(folder / "lock", f"running {run.run_folder.name}"))
            sweep(folder)
        state = read_state(run.training_folder, run.run_folder, run.id, run.code, run.split, machine)
        if state.record:
            return state.record
        if state.superseded:
            names = ", ".join(set_aside(file, "superseded").name for file in state.superseded)
            machine.log(f"{state.changes}: the earlier results are renamed: {names}")
        (run.run_folder / TRACEBACK).unlink(missing_ok=True)
        this_process_only = False  # whether it failed in a way that the other processes have not met
        try:
            with float32_products():
                record = _train_and_score(run, state, machine, network, empty)
        except Interrupted as error:
            record = empty("interrupted", str(error))
            write_atomic(run.run_folder / RECORD, record.to_json())
            machine.observer.finish(record)
            raise
        except (Exception, SystemExit) as error:  # a plugin's bug, or its exit, must not end a suite
            expected = isinstance(error, TrainingError | PluginError)
            if isinstance(error, ReidbenchError) and not expected:
                raise
            this_process_only = not expected or isinstance(error, OutOfMemory)
            where = traceback.format_exception(error)[-2].strip().splitlines()[0]
            reason = str(error) if expected else f"{type(error).__name__}: {error} ({where})"
            record = empty("failed", reason)
            if cause := error.__cause__ if expected else error:
                write_atomic(run.run_folder / TRACEBACK, "".join(traceback.format_exception(cause)))
        write_atomic(run.run_folder / RECORD, record.to_json())
        machine.observer.finish(record)
        if this_process_only and machine.world.size > 1:
            raise TrainingError(f"{record.error}; it ends all {machine.world.size} processes")
    return record


def _train_and_score(
    run: Prepared, state: RunState, machine: Machine, network: Backbone | None, empty: Callable[[Status], RunRecord]
) -> RunRecord:
    """Train where there are no weights, embed what is not cached, rank, and return the record with its scores.

    ``empty`` returns the record without scores.
    """
    # --- weights -----------------------------------------------------------------------------------------------------
    summary = state.summary
    if network is None:
        new = state.status == "new"
        network = initialised_backbone(run) if new else build_backbone(run.items["backbone"], run.job.seed)
    if summary:
        load_weights(network, run.training_folder)
    elif run.trains:
        machine.world.from_first(lambda: TRAIN)
        summary = _train(run, network, machine)

    # --- one embedding per unit, and the ranks of the positives -------------------------------------------------------
    network.to(machine.device)
    cache = EmbeddingCache(run.training_folder, network, run.protocol.views, machine)
    rankings, rank_seconds = rank_split(run, network, cache.embeddings)
    save_ranking(run.run_folder, rankings.ranking)

    # --- scores ------------------------------------------------------------------------------------------------------
    record, query, gallery = empty("ok"), run.split.query, run.split.gallery
    cameras = camera_scores(rankings.with_junk, query.cams, gallery.cams, own_units(query, gallery))
    observed, steps = record.observed, run.recipe.steps
    flaw = FLAW_REASONS.get(observed.verdict, "").format(steps=steps, packed=observed.packed_steps)
    trained = (summary.seconds, summary.sampling_seconds, summary.peak_memory_mib) if summary else (0.0, 0.0, 0)
    seconds = {"train": trained[0], "rounds": trained[1], "embed": cache.seconds, "rank": rank_seconds}
    return replace(
        record,
        status=cast("Status", observed.verdict) if flaw else "ok",
        error=flaw,
        scores=score(rankings.ranking, len(gallery), run.protocol.rank_scores).as_dict(),
        intervals=intervals(rankings.ranking, query.pids, run.protocol.rank_scores, run.protocol.primary),
        cameras=schema.CameraMatrix(**cameras.as_dict()),
        seconds={phase: round(value, 3) for phase, value in seconds.items()},
        peak_memory_mib=max(trained[2], record.peak_memory_mib),
        weights=file_digest(run.training_folder / WEIGHTS) if run.trains else "",
    )


def rank_split(run: Prepared, network: Backbone, rows_of: Callable[[Samples, str], Tensor]) -> tuple[Rankings, float]:
    """Return the rankings of a run's queries, and the seconds of the ranking.

    ``rows_of`` returns the embedding by ``network`` of every image [m, D] of a part with this name.
    """
    split = run.split

    def embed(samples: Samples, part: str) -> UnitEmbeddings:
        rows = rows_of(samples, part)
        pooled = rows if run.info.pairs else pool_units(rows, samples.starts, run.evaluation.pool)
        return UnitEmbeddings(pooled, samples.pids, samples.cams)

    query, gallery = embed(split.query, "query"), embed(split.gallery, "gallery")
    metric, reranker = run.items["metric"].build(), run.items["rerank"].build()
    if isinstance(metric, PairMetric):
        metric.network, metric.starts, reranker = network.eval(), split.query.starts, metric
    fit = embed(split.fit, "training") if learns(metric) else None
    began = time.monotonic()
    rankings = rank_embeddings(query, gallery, metric, reranker, fit, find_positives(run.protocol, split))
    return rankings, time.monotonic() - began


def _train(run: Prepared, network: Backbone, machine: Machine) -> TrainingSummary:
    loss = build_loss(run.items["loss"], run.info, run.split, run.job.seed, network)
    assert loss is not None
    samples, folder = run.split.train, run.training_folder
    return train(network, loss, run.recipe, samples, seed=run.job.seed, folder=folder, machine=machine)


def _record(run: Prepared, machine: Machine, started: str, status: Status, error: str = "") -> RunRecord:
    """Return the record of a run without scores."""
    split, info = run.split, run.info
    preprocess = schema.PreprocessRecord(**asdict(info.preprocess))
    scored_in = environment(machine)
    summary = read_summary(run.training_folder) if run.trains else None
    *earlier, last = summary.environments if summary else [scored_in]
    devices = "; ".join(dict.fromkeys(part.device_name for part in (*earlier, last)))  # of all parts of the training
    trained_in = schema.TrainingEnvironment(**{**asdict(last), "device_name": devices}, earlier_parts=earlier)
    digests, contents = (split.digest, split.train.digest), split_contents(split, machine)
    contradictions = {kind: len(names) for kind, names in run.contradictions.items()}
    sha, dirty = commit()
    return RunRecord(
        schema=schema.SCHEMA,
        status=status,
        id=run.id,
        train_id=run.train_id,
        group=run.group,
        code=run.code,
        code_files=dict(run.code_files),
        job=run.job,
        items=_item_records(run),
        training=f"{run.training_folder.parent.name}/{run.training_folder.name}",
        evaluation=run.evaluation,
        dataset=schema.DatasetRecord(*digests, split.counts, contents, split.wrong_counts, contradictions),
        recipe=run.recipe,
        network=schema.NetworkRecord(info.embedding_dim, info.parameters, info.pretrained, preprocess),
        standin=run.standin,
        faithful=run.faithful and not split.wrong_counts,
        deviations=[*run.deviations, *(f"partial data: {text}" for text in split.wrong_counts)],
        scores={},
        seconds={},
        peak_memory_mib=peak_memory_mib(machine.device),
        environment=trained_in,
        scored_in=scored_in,
        observed=schema.MonitorRecord(summary.verdict, summary.packed_steps) if summary else schema.MonitorRecord(),
        commit=sha,
        dirty=dirty,
        started=started,
        finished=_now(),
        error=error,
    )


def _item_records(run: Prepared) -> dict[str, schema.ItemRecord]:
    given = {**asdict(run.job), **run.protocol.datasets}
    records = {}
    for kind, item in run.items.items():
        plugins = [offer.plugin for offer in item.plugin_items]
        records[kind] = schema.ItemRecord(
            given=str(given[kind]),
            spec=item.text,
            short=item.short,
            origins=item.origins,
            plugin=", ".join(dict.fromkeys(plugin.name for plugin in plugins)),
            distribution=", ".join(dict.fromkeys(plugin.distribution for plugin in plugins)),
            version=", ".join(dict.fromkeys(plugin.version for plugin in plugins)),
            identity="" if item.identity == item.text else item.identity,
            label=item.label,
            references=[url for offer in item.plugin_items for url in references_of(offer.factory)],
        )
    return records


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
