"""Runs of Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from reidbench import hookimpl
from reidbench_trackers.installed import require

if TYPE_CHECKING:
    from reidbench import RunRecord, TrackedRun, Tracker


class WeightsAndBiases:
    """Runs of Weights & Biases, grouped over seeds; files for ``wandb sync`` by default, without network.

    Options:
        project: Project of the runs.
        mode: offline writes files to wandb/ in the run's own folder; online also sends them during the run.
    """

    def __init__(self, *, project: str = "reidbench", mode: Literal["offline", "online"] = "offline") -> None:
        require("wandb")
        self.project, self.mode = project, mode

    def start(self, run: TrackedRun) -> None:
        """Begin a run with the id of its folder's name, so that a resumed run has the same."""
        if self.mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # which would use the network
        import wandb  # noqa: PLC0415 - takes a second to import

        self.wandb = wandb.init(
            project=self.project,
            id=run.name,
            name=run.name,
            group=run.group,
            config=dict(run.config),
            dir=run.folder,
            mode=self.mode,
            resume="allow",
            settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log each value by its name."""
        self.wandb.log(dict(values), step=step)

    def finish(self, record: RunRecord) -> None:
        """Store the scores and how the run ended in its summary; end it."""
        self.wandb.summary.update({**record.scores, "status": record.status, "error": record.error})
        self.wandb.finish(exit_code=int(record.status != "ok"))


@hookimpl
def register_trackers() -> Mapping[str, Callable[..., Tracker]]:
    """Return the tracker for Weights & Biases."""
    return {"wandb": WeightsAndBiases}
