"""From a plan to its record: train once per training, embed once per view, rank, keep."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime

import torch

from reidbench.data.samples import Samples
from reidbench.embedding.cache import EmbeddingCache
from reidbench.embedding.pooling import UnitEmbeddings, pool_units
from reidbench.errors import Interrupted, OutOfMemory, PeerError, PluginError, ReidbenchError, TrainingError
from reidbench.plugins.interfaces import Backbone, learns
from reidbench.ranking.camera_matrix import camera_scores, own_units
from reidbench.ranking.pipeline import rank_embeddings
from reidbench.ranking.rankings import Rankings, save_ranking
from reidbench.ranking.scores import intervals, score
from reidbench.runs.preflight import check_images
from reidbench.runs.prepare import Plan
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
    read_record,
)
from reidbench.training.build import build_backbone, build_loss
from reidbench.training.checkpoint import TrainingSummary, latest_step, load_weights, read_summary
from reidbench.training.loop import train
from reidbench.training.precision import float32_products
from reidbench.utils.atomic import sweep, write_atomic
from reidbench.utils.lock import lock
from reidbench.utils.machine import Environment, Machine, environment
from reidbench.utils.memory import peak_memory_mib
from reidbench.utils.random_streams import with_seed

TRACEBACK = "traceback.txt"
# What the first process tells those that follow it.
TRAIN, END = "train", "end"


def execute(plan: Plan, machine: Machine) -> RunRecord:
    """Return the record of a plan, computing what is not there yet.

    A training that fails ends as a record with status "failed" and its reason, so that a suite goes on; an
    interruption leaves a record too and is raised, as is a mistake of the request. Raises DataError where another
    process holds a folder. Of several processes the first calls this, the others ``follow``.
    """
    try:
        record = plan.done() or _execute(plan, machine)
    except Interrupted:
        machine.world.from_first(lambda: END)
        raise
    machine.world.from_first(lambda: END)
    return record


def follow(plan: Plan, machine: Machine) -> None:
    """Take part in the training of a plan that the first process executes, if there is one."""
    world = machine.world
    torch.set_num_threads(machine.threads)
    while world.from_first(lambda: "") == TRAIN:
        try:
            _train(plan, build_backbone(plan.items["backbone"], plan.job.seed), machine)
        except OutOfMemory:  # which the others have not met
            raise
        except Interrupted:
            with suppress(PeerError):
                world.from_first(lambda: "")  # until the first has written its record
            raise
        except (TrainingError, PluginError, PeerError):  # the first one says it
            continue


def _execute(plan: Plan, machine: Machine) -> RunRecord:
    device = machine.device
    torch.set_num_threads(machine.threads)
    started = _now()
    commit()  # as it is while this code is loaded, not when the run ends
    with ExitStack() as stack:
        for folder in (plan.training_folder, plan.run_folder):
            stack.enter_context(lock(folder / "lock", f"running {plan.run_folder.name}"))
        record = plan.done()  # another process may have finished it while this one planned
        if record is not None:
            return record
        for folder in (plan.training_folder, plan.run_folder):
            sweep(folder)
        (plan.run_folder / TRACEBACK).unlink(missing_ok=True)
        single = False  # whether it failed in a way that the other processes have not met
        try:
            with float32_products():
                seconds, found, peak = _compute(plan, machine)
            status, error = _outcome(plan)
            record = _record(plan, status, machine, started=started, peak=peak, seconds=seconds, error=error)
            record = _scored(plan, found, record)
            save_ranking(plan.run_folder, found.ranking)
        except Interrupted as error:
            peak = peak_memory_mib(device)
            record = _record(plan, "interrupted", machine, started=started, peak=peak, error=str(error))
            write_atomic(plan.run_folder / RECORD, record.to_json())
            raise
        except (TrainingError, PluginError, torch.OutOfMemoryError) as error:
            single = isinstance(error, OutOfMemory | torch.OutOfMemoryError)
            record = _failed(plan, machine, started, str(error))
        except ReidbenchError:
            raise
        except (Exception, SystemExit) as error:
            # A plugin's bug, or its way out, must not take a suite down; the record keeps where it happened.
            where = traceback.format_exception(error)[-2].strip().splitlines()[0] if error.__traceback__ else ""
            text = f"{type(error).__name__}: {error} ({where})"
            single = True
            record = _failed(plan, machine, started, text)
            write_atomic(plan.run_folder / TRACEBACK, "".join(traceback.format_exception(error)))
        write_atomic(plan.run_folder / RECORD, record.to_json())
        if single and machine.world.size > 1:
            raise TrainingError(f"{record.error}; it ends all {machine.world.size} processes")
    return read_record(plan.run_folder / RECORD)


def _compute(plan: Plan, machine: Machine) -> tuple[dict[str, float], Rankings, int]:
    """Train where needed, embed where needed, rank; return the seconds of each phase, the ranking and peak memory."""
    split, seed, device = plan.split, plan.job.seed, machine.device
    seconds: dict[str, float] = {}

    check_images(plan, machine)

    # --- the network: trained before, or now -------------------------------------------------------------------------
    backbone = build_backbone(plan.items["backbone"], seed)
    summary = read_summary(plan.training_folder)
    if summary is None and plan.trains:
        if latest_step(plan.training_folder) == 0:
            with_seed(backbone.initialise, seed, "initialise")
        machine.world.from_first(lambda: TRAIN)
        summary = _train(plan, backbone, machine)
    elif summary is not None:
        load_weights(backbone, plan.training_folder)
    else:
        with_seed(backbone.initialise, seed, "initialise")
    seconds["train"], seconds["rounds"] = (summary.seconds, summary.sampling_seconds) if summary else (0.0, 0.0)

    # --- one embedding per unit --------------------------------------------------------------------------------------
    backbone.to(device)
    cache = EmbeddingCache(plan.training_folder, backbone, plan.protocol.views, device, machine.threads)

    def embed(samples: Samples, part: str) -> UnitEmbeddings:
        return UnitEmbeddings(
            pool_units(cache.embeddings(samples, part), samples.starts, plan.pool), samples.pids, samples.cams
        )

    query, gallery = embed(split.query, "query"), embed(split.gallery, "gallery")
    metric = plan.items["metric"].build()
    known = embed(split.fit, "training") if learns(metric) else None
    seconds["embed"] = cache.seconds

    # --- ranks of the positives --------------------------------------------------------------------------------------
    began = time.monotonic()
    reranker = plan.items["rerank"].build()
    found = rank_embeddings(query, gallery, metric, reranker, known, plan.protocol.exclude)
    seconds["rank"] = time.monotonic() - began
    return seconds, found, max(summary.peak_memory_mib if summary else 0, peak_memory_mib(device))


def _train(plan: Plan, backbone: Backbone, machine: Machine) -> TrainingSummary:
    loss = build_loss(plan.items["loss"], plan.info, plan.split, plan.job.seed)
    assert loss is not None
    return train(
        backbone,
        loss,
        plan.recipe,
        plan.split.train,
        seed=plan.job.seed,
        folder=plan.training_folder,
        machine=machine,
    )


def _outcome(plan: Plan) -> tuple[Status, str]:
    """Return the status of a run that was scored, and its reason where the network tells no images apart."""
    summary = read_summary(plan.training_folder) if plan.trains else None
    if summary is None or summary.verdict != "collapsed":
        return "ok", ""
    return "collapsed", (
        f"at its last steps all images of a batch lay in one point, as in {summary.packed_steps} of "
        f"{summary.steps} steps; the scores are such a network's; try a lower learning_rate or another margin"
    )


def _joined(parts: Sequence[Environment]) -> TrainingEnvironment:
    """Return one environment for a training in parts: the last one's, with all devices named, and the earlier ones."""
    names = "; ".join(dict.fromkeys(part.device_name for part in parts))
    last = dataclasses.asdict(parts[-1]) | {"device_name": names}
    return TrainingEnvironment(**last, earlier_parts=list(parts[:-1]))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _failed(plan: Plan, machine: Machine, started: str, error: str) -> RunRecord:
    return _record(plan, "failed", machine, started=started, peak=peak_memory_mib(machine.device), error=error)


def _scored(plan: Plan, found: Rankings, record: RunRecord) -> RunRecord:
    """Return the record with everything that follows from the ranking."""
    query, gallery = plan.split.query, plan.split.gallery
    return dataclasses.replace(
        record,
        scores=score(found.ranking, len(gallery), plan.protocol.ranks).as_dict(),
        intervals=intervals(found.ranking, query.pids),
        cameras=CameraMatrix(
            **camera_scores(found.with_junk, query.cams, gallery.cams, own_units(query, gallery)).as_dict()
        ),
    )


def _record(
    plan: Plan,
    status: Status,
    machine: Machine,
    *,
    started: str,
    peak: int,
    seconds: Mapping[str, float] | None = None,
    error: str = "",
) -> RunRecord:
    given = dataclasses.asdict(plan.job) | {"dataset": plan.protocol.dataset}
    items = {}
    for kind, item in plan.items.items():
        plugins = [entry.plugin for entry in item.plugin_items]
        items[kind] = ItemRecord(
            given=str(given[kind]),
            spec=item.text,
            short=item.short,
            origins=item.origins,
            plugin=", ".join(dict.fromkeys(plugin.name for plugin in plugins)),
            distribution=", ".join(dict.fromkeys(plugin.distribution for plugin in plugins)),
            version=", ".join(dict.fromkeys(plugin.version for plugin in plugins)),
            identity="" if item.identity == item.text else item.identity,
        )
    metric = plan.items["metric"].build()
    scored_in = environment(machine)
    summary = read_summary(plan.training_folder) if plan.trains else None
    sha, dirty = commit()
    return RunRecord(
        schema=SCHEMA,
        status=status,
        id=plan.id,
        train_id=plan.train_id,
        group=plan.group,
        code=plan.code,
        code_files=plan.code_files,
        job=plan.job,
        items=items,
        training=f"{plan.training_folder.parent.name}/{plan.training_folder.name}",
        evaluation=EvaluationRecord(
            version=plan.protocol.version,
            views=plan.protocol.views,
            pool=plan.pool,
            exclude=list(plan.protocol.exclude),
            primary=plan.protocol.primary,
            metric_is_auto=plan.metric_is_auto,
            normalize=metric.normalize,
            learned=learns(metric),
        ),
        dataset=DatasetRecord(
            digest=plan.split.digest,
            train_digest=plan.split.train.digest,
            counts=plan.split.counts,
            wrong_counts=plan.split.wrong_counts,
        ),
        recipe=plan.recipe,
        network=NetworkRecord(
            embedding_dim=plan.info.embedding_dim,
            parameters=plan.info.parameters,
            pretrained=plan.info.pretrained,
            preprocess=PreprocessRecord(**dataclasses.asdict(plan.info.preprocess)),
        ),
        standin=plan.standin,
        faithful=plan.faithful and not plan.split.wrong_counts,
        deviations=[*plan.deviations, *(f"partial data: {text}" for text in plan.split.wrong_counts)],
        scores={},
        seconds={phase: round(value, 3) for phase, value in (seconds or {}).items()},
        peak_memory_mib=peak,
        environment=_joined(summary.environments if summary else [scored_in]),
        scored_in=scored_in,
        observed=MonitorRecord(summary.verdict, summary.packed_steps) if summary else MonitorRecord(),
        commit=sha,
        dirty=dirty,
        started=started,
        finished=_now(),
        error=error,
    )
