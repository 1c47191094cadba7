"""The cost of trackers: the CPU time that each takes of a training.

    python benchmarks/trackers.py [--steps N]

LuNet at 64x32, batch hard, 32 x 4 images, one thread, on the CPU: the CPU seconds of this process in all calls of
``log`` as a share of those from the first step to the last, in one training for each tracker. The process of its own
that wandb starts is not counted. Required: at most 1 %.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from reidbench.plugins.catalogue import load
from reidbench.runs.job import Job
from reidbench.runs.prepare import Planner
from reidbench.runs.tracking import RunObserver
from reidbench.training.build import build_backbone, build_loss
from reidbench.training.loop import train
from reidbench.utils.machine import local_machine

REQUIRED_PERCENT = 1.0


class Timed(RunObserver):
    """Counts the CPU seconds in ``log`` and those since its first call."""

    calls, inside, began, ended = 0, 0.0, 0.0, 0.0

    def log(self, step: int, values: Mapping[str, float]) -> None:
        before = time.process_time()
        super().log(step, values)
        self.ended = time.process_time()
        self.began = self.began or self.ended
        self.inside += (self.ended - before) * bool(self.calls)
        self.calls += 1


def share(tracker: str, steps: int) -> float:
    """Return the percentage that a tracker takes of a training."""
    recipe = f"quick(steps={steps}, p=32, k=4)"
    job = Job("synthetic(identities=100)", "batch_hard", "lunet(height=64, width=32)", recipe, "auto", "none", 0)
    with tempfile.TemporaryDirectory() as results:
        machine = local_machine(device="cpu", threads=1, results=Path(results), trackers=[tracker], log=print)
        plan = Planner(load(), machine).plan(job)
        plan.run_folder.mkdir(parents=True)
        observer = Timed(plan, machine)
        loss = build_loss(plan.items["loss"], plan.info, plan.split, 0)
        assert loss is not None
        train(build_backbone(plan.items["backbone"], 0), loss, plan.recipe, plan.split.train, seed=0,
              folder=plan.training_folder, machine=dataclasses.replace(machine, observer=observer))  # fmt: skip
        percent = 100 * observer.inside / (observer.ended - observer.began)
    milliseconds = 1000 * observer.inside / (observer.calls - 1)
    print(f"{tracker}: {observer.calls} calls, {milliseconds:.2f} ms of CPU each, {percent:.3f} % of the training "
          f"(required: at most {REQUIRED_PERCENT:g} %)")  # fmt: skip
    return percent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    steps = parser.parse_args().steps
    sys.exit(max(share(tracker, steps) for tracker in ("tensorboard", "wandb")) > REQUIRED_PERCENT)


if __name__ == "__main__":
    main()
