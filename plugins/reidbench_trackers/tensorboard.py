"""TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reidbench import hookimpl
from reidbench_trackers.installed import require

if TYPE_CHECKING:
    from reidbench import RunRecord, TrackedRun, Tracker


class TensorBoard:
    """Event files for TensorBoard, in a folder for each run.

    Options:
        folder: Parent of the folders, which have the names of the runs; empty for tensorboard/ in the run's own folder.
    """

    def __init__(self, *, folder: str = "") -> None:
        require("tensorboard")
        self.folder = folder

    def start(self, run: TrackedRun) -> None:
        """Open a file; steps that an interrupted training logged after its last checkpoint are dropped from earlier."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - takes a second to import

        place = Path(self.folder).expanduser() / run.name if self.folder else run.folder / "tensorboard"
        self.writer = SummaryWriter(place, purge_step=run.step)
        self.steps = int(run.config["steps"])
        lines = [f"| {name} | `{value}` |" for name, value in run.config.items()]
        self.writer.add_text("run", "\n".join(["| | |", "|---|---|", *lines]), run.step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write each value as a scalar; "validation.r1" is in the group "validation"."""
        for name, value in values.items():
            self.writer.add_scalar(name.replace(".", "/"), value, step)

    def finish(self, record: RunRecord) -> None:
        """Write the scores, at the step after the last, and how the run ended; close the file."""
        for name, value in record.scores.items():
            self.writer.add_scalar(f"scores/{name}", value, self.steps)
        self.writer.add_text("result", record.result, self.steps)
        self.writer.close()


@hookimpl
def register_trackers() -> Mapping[str, Callable[..., Tracker]]:
    """Return the tracker for TensorBoard."""
    return {"tensorboard": TensorBoard}
