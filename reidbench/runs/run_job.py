"""Run one job: train, embed, rank and record what the results folder lacks of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import cast

import torch

from reidbench.data.samples import Samples
from reidbench.embedding.cache import EmbeddingCache
from reidbench.embedding.pooling import UnitEmbeddings, pool_units
from reidbench.errors import Interrupted, OutOfMemory, PeerError, PluginError, ReidbenchError, TrainingError
from reidbench.images.contents import split_contents
from reidbench.plugins.interfaces import Backbone, learns
from reidbench.plugins.weights import WEIGHTS
from reidbench.ranking.camera_matrix import camera_scores, own_units
from reidbench.ranking.pipeline import rank_embeddings
from reidbench.ranking.rankings import Rankings, save_ranking
from reidbench.ranking.scores import intervals, score
from reidbench.runs.preflight import initialised_backbone
from reidbench.runs.prepare import Prepared
from reidbench.runs.provenance import commit
from reidbench.runs.record import (
    RECORD,
    SCHEMA,
    CameraMatrix,
    DatasetRecord,
    EvaluationRecord,
    ItemRecord,
    MonitorRecord,
    NetworkRecord,
    PreprocessRecord,
    RunRecord,
    Status,
    TrainingEnvironment,
)
from reidbench.runs.store import RunState, read_state, save_contents
from reidbench.training.build import build_backbone, build_loss
from reidbench.training.checkpoint import TrainingSummary, load_weights, read_summary
from reidbench.training.loop import train
from reidbench.training.precision import float32_products
from reidbench.utils.atomic import set_aside, sweep, write_atomic
from reidbench.utils.device import peak_memory_mib
from reidbench.utils.lock import lock
from reidbench.utils.machine import Environment, Machine, environment
from reidbench.utils.untrusted_files import file_digest

TRACEBACK = "traceback.txt"
# What the first process tells the others of a run.
TRAIN, END = "train", "end"


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
        state = read_state(run.training_folder, run.run_folder, run.id, run.code, run.split, machine)
        if state.record:
            return state.record
        if state.superseded:
            names = ", ".join(set_aside(file, "superseded").name for file in state.superseded)
            machine.log(f"{state.changes}: the earlier results are renamed: {names}")
        save_contents(run.split, machine)
        for folder in (run.training_folder, run.run_folder):
            sweep(folder)
        (run.run_folder / TRACEBACK).unlink(missing_ok=True)
        this_process_only = False  # whether it failed in a way that the other processes have not met
        try:
            with float32_products():
                rankings, seconds, peak = _compute(run, state, machine, network)
            record = _with_scores(run, empty("ok"), rankings, seconds, peak)
            save_ranking(run.run_folder, rankings.ranking)
        except Interrupted as error:
            write_atomic(run.run_folder / RECORD, empty("interrupted", str(error)).to_json())
            raise
        except (TrainingError, PluginError, torch.OutOfMemoryError) as error:
            this_process_only = isinstance(error, OutOfMemory | torch.OutOfMemoryError)
            record = empty("failed", str(error))
            if isinstance(error, PluginError) and error.__cause__:
                write_atomic(run.run_folder / TRACEBACK, "".join(traceback.format_exception(error.__cause__)))
        except ReidbenchError:
            raise
        except (Exception, SystemExit) as error:
            # A plugin's bug, or its exit, must not end a suite; the record says where it happened.
            where = traceback.format_exception(error)[-2].strip().splitlines()[0] if error.__traceback__ else ""
            this_process_only = True
            record = empty("failed", f"{type(error).__name__}: {error} ({where})")
            write_atomic(run.run_folder / TRACEBACK, "".join(traceback.format_exception(error)))
        write_atomic(run.run_folder / RECORD, record.to_json())
        if this_process_only and machine.world.size > 1:
            raise TrainingError(f"{record.error}; it ends all {machine.world.size} processes")
    return record


def _compute(
    run: Prepared, state: RunState, machine: Machine, network: Backbone | None
) -> tuple[Rankings, dict[str, float], int]:
    """Train where there are no weights, embed what is not cached, and rank.

    Return the rankings, the seconds of each phase and the most memory in MiB of the training and this process.
    """
    backbone, seed = run.items["backbone"], run.job.seed

    # --- weights -----------------------------------------------------------------------------------------------------
    summary = state.summary
    if network is None:
        network = initialised_backbone(run) if state.status == "new" else build_backbone(backbone, seed)
    if summary:
        load_weights(network, run.training_folder)
    elif run.trains:
        machine.world.from_first(lambda: TRAIN)
        summary = _train(run, network, machine)

    # --- one embedding per unit, and the ranks of the positives -------------------------------------------------------
    network.to(machine.device)
    cache = EmbeddingCache(run.training_folder, network, run.protocol.views, machine)
    rankings, rank_seconds = rank_split(run, cache)
    trained = (summary.seconds, summary.sampling_seconds, summary.peak_memory_mib) if summary else (0.0, 0.0, 0)
    seconds = {"train": trained[0], "rounds": trained[1], "embed": cache.seconds, "rank": rank_seconds}
    return rankings, seconds, max(trained[2], peak_memory_mib(machine.device))


def rank_split(run: Prepared, cache: EmbeddingCache) -> tuple[Rankings, float]:
    """Return the rankings of a run's queries by the embeddings that ``cache`` gives, and the seconds of the ranking."""
    split = run.split

    def embed(samples: Samples, part: str) -> UnitEmbeddings:
        embeddings = pool_units(cache.embeddings(samples, part), samples.starts, run.pool)
        return UnitEmbeddings(embeddings, samples.pids, samples.cams)

    query, gallery = embed(split.query, "query"), embed(split.gallery, "gallery")
    metric, reranker = run.items["metric"].build(), run.items["rerank"].build()
    fit = embed(split.fit, "training") if learns(metric) else None
    began = time.monotonic()
    rankings = rank_embeddings(query, gallery, metric, reranker, fit, run.protocol.exclude)
    return rankings, time.monotonic() - began


def _train(run: Prepared, network: Backbone, machine: Machine) -> TrainingSummary:
    loss = build_loss(run.items["loss"], run.info, run.split, run.job.seed)
    assert loss is not None
    samples, folder = run.split.train, run.training_folder
    return train(network, loss, run.recipe, samples, seed=run.job.seed, folder=folder, machine=machine)


def _with_scores(
    run: Prepared, record: RunRecord, rankings: Rankings, seconds: Mapping[str, float], peak: int
) -> RunRecord:
    """Return the record of a run with its scores; its training may have a flaw."""
    query, gallery = run.split.query, run.split.gallery
    cameras = camera_scores(rankings.with_junk, query.cams, gallery.cams, own_units(query, gallery))
    flaw = _describe_flaw(record)
    return replace(
        record,
        status=cast("Status", record.observed.verdict) if flaw else "ok",
        error=flaw,
        scores=score(rankings.ranking, len(gallery), run.protocol.ranks).as_dict(),
        intervals=intervals(rankings.ranking, query.pids),
        cameras=CameraMatrix(**cameras.as_dict()),
        seconds={phase: round(value, 3) for phase, value in seconds.items()},
        peak_memory_mib=peak,
        weights=file_digest(run.training_folder / WEIGHTS) if run.trains else "",
    )


def _describe_flaw(record: RunRecord) -> str:
    """Return in one sentence why a training is not to be ranked and what to do, or an empty text."""
    if record.observed.verdict == "no_gradient":
        return (
            f"the network learned nothing: its gradient was 0 in all {record.recipe.steps} steps, so the scores are "
            "those of the network before the training; use batches with two or more images of an identity (the "
            "recipe's k) and two or more identities (p), a network whose weights are not frozen, and a loss that "
            "depends on the embeddings"
        )
    if record.observed.verdict == "collapsed":
        return (
            "the network collapsed: all images of a batch had one embedding in the last steps, and in "
            f"{record.observed.packed_steps} of {record.recipe.steps} steps; the scores are those of such a network; "
            "try a lower learning_rate or another margin"
        )
    return ""


def _record(run: Prepared, machine: Machine, started: str, status: Status, error: str = "") -> RunRecord:
    """Return the record of a run without scores."""
    split, info = run.split, run.info
    preprocess = PreprocessRecord(**asdict(info.preprocess))
    metric = run.items["metric"].build()
    scored_in = environment(machine)
    summary = read_summary(run.training_folder) if run.trains else None
    sha, dirty = commit()
    return RunRecord(
        schema=SCHEMA,
        status=status,
        id=run.id,
        train_id=run.train_id,
        group=run.group,
        code=run.code,
        code_files=dict(run.code_files),
        job=run.job,
        items=_item_records(run),
        training=f"{run.training_folder.parent.name}/{run.training_folder.name}",
        evaluation=EvaluationRecord(
            version=run.protocol.version,
            views=run.protocol.views,
            pool=run.pool,
            exclude=list(run.protocol.exclude),
            primary=run.protocol.primary,
            metric_is_auto=run.metric_is_auto,
            normalize=metric.normalize,
            learned=learns(metric),
        ),
        dataset=DatasetRecord(
            split.digest,
            split.train.digest,
            split.counts,
            split_contents(split, machine),
            split.wrong_counts,
            {kind: len(names) for kind, names in run.contradictions.items()},
        ),
        recipe=run.recipe,
        network=NetworkRecord(info.embedding_dim, info.parameters, info.pretrained, preprocess),
        standin=run.standin,
        faithful=run.faithful and not split.wrong_counts,
        deviations=[*run.deviations, *(f"partial data: {text}" for text in split.wrong_counts)],
        scores={},
        seconds={},
        peak_memory_mib=peak_memory_mib(machine.device),
        environment=_training_environment(summary.environments if summary else [scored_in]),
        scored_in=scored_in,
        observed=MonitorRecord(summary.verdict, summary.packed_steps) if summary else MonitorRecord(),
        commit=sha,
        dirty=dirty,
        started=started,
        finished=_now(),
        error=error,
    )


def _item_records(run: Prepared) -> dict[str, ItemRecord]:
    given = {**asdict(run.job), "dataset": run.protocol.dataset}
    records = {}
    for kind, item in run.items.items():
        plugins = [offer.plugin for offer in item.plugin_items]
        records[kind] = ItemRecord(
            given=str(given[kind]),
            spec=item.text,
            short=item.short,
            origins=item.origins,
            plugin=", ".join(dict.fromkeys(plugin.name for plugin in plugins)),
            distribution=", ".join(dict.fromkeys(plugin.distribution for plugin in plugins)),
            version=", ".join(dict.fromkeys(plugin.version for plugin in plugins)),
            identity="" if item.identity == item.text else item.identity,
        )
    return records


def _training_environment(parts: Sequence[Environment]) -> TrainingEnvironment:
    """Return the environment of the last part of a training, with the devices of all parts and the earlier parts."""
    names = "; ".join(dict.fromkeys(part.device_name for part in parts))
    return TrainingEnvironment(**{**asdict(parts[-1]), "device_name": names}, earlier_parts=list(parts[:-1]))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
