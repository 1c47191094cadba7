"""Runs as trackers follow them: the steps of a training, scores on held-out identities, the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.embedding.extract import embed_batches, evaluation_mode
from reidbench.errors import checked, describe_error
from reidbench.plugins.catalogue import load
from reidbench.plugins.interfaces import Backbone
from reidbench.ranking.scores import headline, score
from reidbench.runs.prepare import Prepared
from reidbench.runs.record import RunRecord
from reidbench.runs.run_job import rank_split
from reidbench.training.precision import float32_products
from reidbench.utils.machine import Machine, Observer


@dataclass(frozen=True)
class TrackedRun:
    """A run, when a tracker is told of it.

    ``name``: the name of its folder, which tells it from all other runs.
    ``group``: the id of its combination without the seed, 64 hex digits.
    ``folder``: its folder among the results, for files of the tracker.
    ``step``: the number of training steps that were done earlier, and of the next that is logged.
    ``config``: its items by kind, each with all options, its seed, its number of steps and its ids.
    """

    name: str
    group: str
    folder: Path
    step: int
    config: Mapping[str, str | int]


@runtime_checkable
class Tracker(Protocol):
    """Follows one run, such as by writing files for another program.

    The factory is called for each run, and when the runs are planned. It raises OptionError where the tracker cannot
    work here, such as without a library: before anything is trained.
    What the methods raise costs one warning, and this tracker the rest of the run.
    """

    def start(self, run: TrackedRun) -> None:
        """Begin with a run that is trained or scored now; one that was interrupted is begun again."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take values of a step, numbered from 0 as in the training log; a step may come twice, with other names."""

    def finish(self, record: RunRecord) -> None:
        """End the run, also one that failed or was interrupted: its status says so, and only others have scores."""


def build_trackers(specs: Sequence[str]) -> dict[str, Tracker]:
    """Return the trackers of some specs by their items and plugins, each once; raises OptionError and PluginError."""
    resolved = [load().resolve("tracker", spec) for spec in specs]
    return {spec.owner: checked(spec.owner, spec.build(), Tracker) for spec in resolved}  # type: ignore[type-abstract]


class RunObserver(Observer):
    """Passes a run on to the machine's trackers, and scores its network every ``machine.validate_every`` steps."""

    def __init__(self, run: Prepared, machine: Machine) -> None:
        self.run, self.machine, self.validate_every = run, machine, machine.validate_every
        self.trackers = build_trackers(machine.trackers)
        self.steps = run.recipe.steps if run.trains else 0
        self.started = False

    def start(self, step: int) -> None:
        run, self.started = self.run, True
        config: dict[str, str | int] = {kind: item.text for kind, item in run.items.items()}
        config |= {"seed": run.job.seed, "steps": self.steps, "id": run.id, "train_id": run.train_id}
        tracked = TrackedRun(run.run_folder.name, run.group, run.run_folder, step, config)
        self._each(lambda tracker: tracker.start(tracked))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        named = {name: value for name, value in values.items() if name != "step"}
        self._each(lambda tracker: tracker.log(step, named))

    def finish(self, record: RunRecord) -> None:
        if not self.started:  # nothing was trained
            self.start(self.steps)
        self._each(lambda tracker: tracker.finish(record))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # a tracker must not cost a training
                del self.trackers[name]
                self.machine.log(f"{name}: {describe_error(error)}; it gets nothing more of this run, which continues")

    def validate(self, steps: int, backbone: Backbone) -> Mapping[str, float]:
        run, machine = self.run, self.machine

        def embed(samples: Samples, part: str) -> Tensor:
            return torch.cat([*embed_batches(backbone, samples, run.protocol.views, machine)])

        try:
            with evaluation_mode(backbone), float32_products():
                ranking = rank_split(run, backbone, embed)[0].ranking
        except Exception as error:  # such as embeddings that are not finite yet; the training is as without
            machine.log(f"validation at step {steps}: {describe_error(error)}; the training continues")
            return {}
        scores = score(ranking, len(run.split.gallery), run.protocol.rank_scores).values
        machine.log(f"validation at step {steps}: {headline(scores, run.protocol.primary)}")
        return {f"validation.{name}": value for name, value in scores.items()}
