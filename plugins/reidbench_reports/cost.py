"""What runs cost: time, speed, memory, on which machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from reidbench import Part, RunFiles, RunRecord, hookimpl
from reidbench_reports.combinations import TRAINING, names, newest, trainings

NOTHING = "–"


class Cost:
    """Time, speed and memory of every run, and what all of them took together.

    Times are seconds on the machine named; what several runs share (a training, embeddings) is counted once below.
    """

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: one row a run."""
        runs = [record for record in newest(records)[0] if record.scored]
        part = Part(title="Cost")
        if not runs:
            part.notes.append("No run came to its scores.")
            return part
        trained = _longest(runs)
        if trained:
            rows = [_training(*each) for each in zip(names(trained, TRAINING), trained, strict=True)]
            part.tables.append(pd.DataFrame(rows))
            part.tables[-1].attrs["title"] = "Training"
        part.tables.append(pd.DataFrame([_scoring(*each) for each in zip(names(runs), runs, strict=True)]))
        part.tables[-1].attrs["title"] = "Scoring"
        for device in dict.fromkeys(run.environment.device_name for run in runs):
            own = [run for run in runs if run.environment.device_name == device]
            # What runs share is counted once, at the most that any of them says: another gallery needs more of it.
            shared: dict[tuple[str, ...], float] = {}
            for run in own:
                for key, phase in (((run.train_id,), "train"), ((run.train_id, run.evaluation.views), "embed")):
                    shared[key] = max(shared.get(key, 0.0), run.seconds[phase])
            hours = (sum(shared.values()) + sum(run.seconds["rank"] for run in own)) / 3600
            count = sum(len(key) == 1 and seconds > 0 for key, seconds in shared.items())
            part.notes.append(f"{device}: {len(own)} runs, {count} trainings, {hours:.2f} hours together.")
        return part


def _longest(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Return of the runs of each training the one that says the longest, with the least memory that any needed."""
    found = []
    for each in trainings(runs):
        sharing = [run for run in runs if run.train_id == each.train_id]
        longest = max(sharing, key=lambda run: (run.seconds["train"], run.id))
        found.append(replace(longest, peak_memory_mib=min(run.peak_memory_mib for run in sharing)))
    return found


def _training(name: str, run: RunRecord) -> dict[str, str]:
    seconds, steps = run.seconds["train"], run.recipe.steps
    batch = run.recipe.p * run.recipe.k
    return {
        "training": name,
        "device": run.environment.device_name,
        "params, M": f"{run.network.parameters / 1e6:.2f}",
        "numbers": f"{run.network.embedding_dim:,}",
        "s": f"{seconds:,.1f}",
        "drawing, %": f"{100 * run.seconds.get('rounds', 0.0) / seconds:.0f}" if seconds else NOTHING,
        "images/s": f"{steps * batch / seconds:,.0f}" if seconds and batch else NOTHING,
        "peak, MiB": f"{run.peak_memory_mib:,}",
    }


def _scoring(name: str, run: RunRecord) -> dict[str, str]:
    tested = run.dataset.counts.get("query", 0) + run.dataset.counts.get("gallery", 0)
    seconds = run.seconds["embed"]
    return {
        "run": name,
        "device": run.scored_in.device_name,
        "embedding, s": f"{seconds:,.1f}",
        "images/s": f"{tested / seconds:,.0f}" if seconds and tested else NOTHING,
        "ranking, s": f"{run.seconds['rank']:,.2f}",
        "peak, MiB": f"{run.peak_memory_mib:,}",
    }


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Cost]]:
    return {"cost": Cost}
