"""The cost of augmentation: CPU time of a training step with colour jitter and erasing, relative to one without.

    python benchmarks/augmentation.py

Batch hard on 18 x 4 images, one thread: `tiny` at 64x32 (required: at most 1.05) and `lunet` at 128x64. Trainings of
some steps with padding, all jitter terms and erasing at probability 1, and the same trainings with the crop and flip of
`quick`, in turns; each pair gives the ratio of its medians of CPU seconds a step. Prints the median ratio of the pairs.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from reidbench.plugins.catalogue import load
from reidbench.runs.job import Job
from reidbench.runs.prepare import Planner, Prepared
from reidbench.training.build import build_backbone, build_loss
from reidbench.training.loop import train
from reidbench.training.recipe import Recipe
from reidbench.utils.machine import Machine, local_machine

REQUIRED_RATIO = 1.05
# Network, steps of a training (the first two are not counted), pairs.
NETWORKS = (("tiny(height=64, width=32)", 10, 9), ("lunet(height=128, width=64)", 4, 3))
JITTER = {"jitter": 1.0, "brightness": 0.15, "contrast": 0.15, "saturation": 0.1, "hue": 0.1}
AUGMENTED = {**JITTER, "crop": False, "pad": 3, "erase": 1.0}


def step_seconds(plan: Prepared, recipe: Recipe, machine: Machine) -> float:
    """Return the median CPU seconds of a step of a training from the start."""
    loss = build_loss(plan.items["loss"], plan.info, plan.split, 0)
    assert loss is not None
    backbone = build_backbone(plan.items["backbone"], 0)
    ends: list[float] = []
    hook = register_optimizer_step_post_hook(lambda *_: ends.append(time.process_time()))
    try:
        folder = Path(tempfile.mkdtemp(dir=machine.results))
        train(backbone, loss, recipe, plan.split.train, seed=0, folder=folder, machine=machine)
    finally:
        hook.remove()
    return statistics.median(np.diff(ends[1:]).tolist())


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        machine = local_machine(results=folder, cache=folder, device="cpu", threads=1)
        for network, steps, count in NETWORKS:
            job = Job("synthetic(identities=40)", "batch_hard", network, f"quick(steps={steps})", "auto", "none", 0)
            plan = Planner(load(), machine).plan(job)
            plain, augmented = plan.recipe, dataclasses.replace(plan.recipe, **AUGMENTED)
            step_seconds(plan, augmented, machine)  # renders, decodes and compiles
            step_seconds(plan, plain, machine)
            pairs = []
            for number in range(count):
                order = (plain, augmented) if number % 2 else (augmented, plain)
                seconds = {recipe: step_seconds(plan, recipe, machine) for recipe in order}
                pairs.append((seconds[plain], seconds[augmented]))
            ratios = sorted(with_changes / without for without, with_changes in pairs)
            milliseconds = [1000 * statistics.median(column) for column in zip(*pairs, strict=True)]
            print(f"{network}: {milliseconds[0]:.1f} ms a step, {milliseconds[1]:.1f} ms augmented; ratio "
                  f"{statistics.median(ratios):.4f}, {count} pairs from {ratios[0]:.4f} to {ratios[-1]:.4f} "
                  f"(required of tiny: at most {REQUIRED_RATIO})", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
