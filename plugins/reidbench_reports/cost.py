"""What runs cost: time, speed and memory, and on which machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reidbench import Column, Part, RunFiles, RunRecord, Table, hookimpl
from reidbench_reports.combinations import TRAINING, names, scored, trainings

TRAINING_COLUMNS = [
    Column("training"),
    Column("device"),
    Column("params_m", "params, M", "number", ".2f"),
    Column("embedding_dim", "embedding dim", "number", ",d"),
    Column("train_seconds", "train, s", "number", ",.1f"),
    Column(
        "sampling_percent", "sampling, %", "number", ".0f", description="share of the time spent on sampling batches"
    ),
    Column("images_per_second", "images/s", "number", ",.0f"),
    Column("peak_memory_mib", "peak memory, MiB", "number", ",d"),
]
SCORING_COLUMNS = [
    Column("run"),
    Column("device"),
    Column("embed_seconds", "embedding, s", "number", ",.1f"),
    Column("images_per_second", "images/s", "number", ",.0f"),
    Column("rank_seconds", "ranking, s", "number", ",.2f"),
    Column("peak_memory_mib", "peak memory, MiB", "number", ",d"),
]


class Cost:
    """Time, speed and memory of every run, and their total.

    Times are seconds on the machine named; what several runs share (a training, embeddings) counts once in the total.
    """

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: one row for each training and for each run."""
        runs = scored(records)
        part = Part(title="Cost")
        if not runs:
            part.notes.append("No run has scores.")
            return part
        trained = _longest(runs)
        if trained:
            rows = [_training(*each) for each in zip(names(trained, TRAINING), trained, strict=True)]
            part.tables.append(Table(rows, TRAINING_COLUMNS, "Training"))
        rows = [_scoring(*each) for each in zip(names(runs), runs, strict=True)]
        part.tables.append(Table(rows, SCORING_COLUMNS, "Scoring"))
        for device in dict.fromkeys(run.environment.device_name for run in runs):
            part.notes.append(_total(device, [run for run in runs if run.environment.device_name == device]))
        return part


def _longest(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Return for each training the run that records the longest time, with the least peak memory of its runs."""
    longest = []
    for each in trainings(runs):
        sharing = [run for run in runs if run.train_id == each.train_id]
        run = max(sharing, key=lambda run: (run.seconds["train"], run.id))
        longest.append(replace(run, peak_memory_mib=min(run.peak_memory_mib for run in sharing)))
    return longest


def _training(name: str, run: RunRecord) -> dict[str, Any]:
    seconds, steps = run.seconds["train"], run.recipe.steps
    batch = run.recipe.p * run.recipe.k
    return {
        "training": name,
        "device": run.environment.device_name,
        "params_m": run.network.parameters / 1e6,
        "embedding_dim": run.network.embedding_dim,
        "train_seconds": seconds,
        "sampling_percent": 100 * run.seconds.get("rounds", 0.0) / seconds if seconds else None,
        "images_per_second": steps * batch / seconds if seconds and batch else None,
        "peak_memory_mib": run.peak_memory_mib,
    }


def _scoring(name: str, run: RunRecord) -> dict[str, Any]:
    images = run.dataset.counts.get("query", 0) + run.dataset.counts.get("gallery", 0)
    seconds = run.seconds["embed"]
    return {
        "run": name,
        "device": run.scored_in.device_name,
        "embed_seconds": seconds,
        "images_per_second": images / seconds if seconds and images else None,
        "rank_seconds": run.seconds["rank"],
        "peak_memory_mib": run.peak_memory_mib,
    }


def _total(device: str, runs: Sequence[RunRecord]) -> str:
    """Return how many runs and trainings a device did, and their hours.

    What runs share counts once, at the longest that any of them records: another gallery needs more of it.
    """
    shared: dict[tuple[str, ...], float] = {}
    for run in runs:
        for key, phase in (((run.train_id,), "train"), ((run.train_id, run.evaluation.views), "embed")):
            shared[key] = max(shared.get(key, 0.0), run.seconds[phase])
    hours = (sum(shared.values()) + sum(run.seconds["rank"] for run in runs)) / 3600
    count = sum(len(key) == 1 and seconds > 0 for key, seconds in shared.items())
    counts = f"{len(runs)} run{'s' * (len(runs) != 1)}, {count} training{'s' * (count != 1)}"
    return f"{device}: {counts}, {hours:.2f} h in total."


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Cost]]:
    return {"cost": Cost}
