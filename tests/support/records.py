"""Plausible records for the tests of everything that comes after a run."""

import hashlib
from dataclasses import asdict, is_dataclass, replace
from typing import Any

from reidbench.runs import record as parts
from reidbench.runs.job import Job, resolved_items
from reidbench.runs.record import ItemRecord, RunRecord
from reidbench.training.recipe import Recipe
from reidbench.utils.machine import Environment

SCORES = {"map_market": 0.20, "map_step": 0.25, "r1": 0.30, "r5": 0.50, "r10": 0.60, "r20": 0.70, "minp": 0.10}
SCORES |= {"queries": 900, "gallery": 4000, "unmatched": 0}
COUNTS = {"query": 900, "query_identities": 150}
MACHINE: tuple[Any, ...] = (*["0.1.0"] * 7, "Linux", "AMD EPYC", 2, "cpu", "cpu", 2, 1)


def digest(*parts) -> str:
    """Return 64 hex digits that depend on all parts."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def make_item(given: str, spec: str | None = None, short: str | None = None) -> ItemRecord:
    provider = ("", "", "") if given == "none" else ("reidbench_items", "reidbench", "0.1.0")
    return ItemRecord(given, given if spec is None else spec, given if short is None else short, {}, *provider)


def make_record(
    loss: str = "batch_hard", seed: int = 0, *, scores: dict[str, float] | None = None, **changes
) -> RunRecord:
    """Return a finished run; ``scores`` replaces single scores, ``changes`` other fields as ``replace_parts`` does.

    id and group follow from loss, backbone, protocol and seed, as they do in a real run.
    """
    items = {
        "protocol": make_item("synthetic", "synthetic(identities=500)", "synthetic"),
        "dataset": make_item("synthetic", "synthetic(identities=500)", "synthetic"),
        "loss": make_item(loss),
        "backbone": make_item("tiny", "tiny(norm=batch)", "tiny"),
        "recipe": make_item("auto", "quick(steps=300)", "quick"),
        "metric": make_item("auto", "euclidean", "euclidean"),
        "rerank": make_item("none"),
    } | changes.pop("items", {})
    kinds = ("protocol", "loss", "backbone", "recipe", "metric", "rerank")
    job = Job(**{kind: items[kind].given for kind in kinds}, seed=seed)
    combination = (*(items[kind].spec for kind in sorted(items)), changes.get("dataset"))
    record = RunRecord(
        schema=parts.SCHEMA,
        status="ok",
        id=digest("run", combination, seed),
        train_id=digest("train", combination, seed),
        group=digest("group", combination),
        code=digest("code"),
        code_files={"reidbench/ranking.py": digest("ranking")},
        job=job,
        items=items,
        training="trainings/somewhere",
        evaluation=parts.EvaluationRecord(1, "full", "mean", ["junk", "same_camera"], "map_market", True, False, False),
        dataset=parts.DatasetRecord(digest("data"), digest("train data"), COUNTS, {}),
        recipe=Recipe(steps=300, decay_start=0, learning_rate=0.001, p=18, k=4),
        network=parts.NetworkRecord(
            128, 1_234_567, False, parts.PreprocessRecord(64, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        ),
        standin=False,
        faithful=False,
        deviations=[],
        scores=SCORES | (scores or {}),
        seconds={"train": 0.0 if loss == "none" else 81.25, "embed": 3.5, "rank": 0.4},
        peak_memory_mib=700,
        environment=parts.TrainingEnvironment(*MACHINE),
        scored_in=Environment(*MACHINE),
        observed=parts.MonitorRecord(),
        commit="00e1234000000000000000000000000000000000",
        dirty=False,
        started="2026-11-22T10:00:00+00:00",
        finished="2026-11-22T10:01:30+00:00",
    )
    return replace_parts(record, **changes)


def run_of(job: Job, seed: int = 0, **changes) -> RunRecord:
    """Return a run of a job, with the items that it comes to."""
    texts, version = resolved_items(job)
    items = {kind: make_item(given, texts[kind]) for kind, given in asdict(job).items() if kind != "seed"}
    if job.metric == "auto":
        items["metric"] = make_item("auto", "euclidean(normalize=false)")
    record = make_record(job.loss, seed, items=items, **changes)
    how = {"version": version, "metric_is_auto": job.metric == "auto"}
    return replace_parts(record, evaluation=how, job=replace(job, seed=seed), id=digest(job, seed, changes))


def replace_parts(record: RunRecord, **changes) -> RunRecord:
    """Return the record with other fields; a mapping for a part of the record changes fields of that part."""
    for name, value in changes.items():
        part = getattr(record, name)
        fields = replace(part, **value) if isinstance(value, dict) and is_dataclass(part) else value
        record = replace(record, **{name: fields})
    return record


def put(folder, record, rankings=b"rankings"):
    """Write a run folder as the store does, and return it with its record."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(record.to_json(), encoding="utf-8")
    if rankings is not None:
        (folder / "rankings.npz").write_bytes(rankings)
    return folder, record


def set_field(data, path: str, value) -> None:
    """Set a field of a record's JSON; ``path`` is "items.loss.spec" or "cameras.r1.0.0"."""
    *above, last = (int(part) if part.isdecimal() else part for part in path.split("."))
    for part in above:
        data = data[part]
    data[last] = value
