"""What a training costs beside its network: time of a step outside forward, loss, backward and optimizer.

    python benchmarks/training.py [--device cpu|cuda] [--out FOLDER]

On the CPU: LuNet at 64x32, batch hard, 32 x 4 images, one thread, in CPU seconds of this process, so that other work
on the machine does not count; of each step what lies outside of the four parts, and its share of the whole step.
Required: at most 1 %. Where a GPU is at hand, in the same run, or alone with ``--device cuda``: whole steps over bare
steps on a fixed batch in memory, in turns, for LuNet at 128x64 and ResNet-50 at 256x128 (required: at most 1.05), and
for each precision a bare step and its peak memory. With ``--out`` every row is written to FOLDER/training.json as soon
as it is known, and the same command goes on behind the rows that are there.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from reidbench.errors import ReidbenchError
from reidbench.plugins.catalogue import load
from reidbench.runs.job import Job
from reidbench.runs.prepare import Planner, Prepared
from reidbench.training.build import build_backbone, build_loss
from reidbench.training.checkpoint import LOG
from reidbench.training.loop import evaluate_loss, train
from reidbench.training.optimizer import ScheduledOptimizer
from reidbench.training.precision import float32_products, forward_pass
from reidbench.utils.arrays import load_arrays
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import Machine, local_machine

REQUIRED_PERCENT, REQUIRED_RATIO = 1.0, 1.05
GPU_NETWORKS = (("lunet(height=128, width=64)", 32, 4), ("resnet50(weights=none, height=256, width=128)", 18, 4))
PRECISIONS = (
    "precision=float32",
    "precision=tf32",
    "precision=tf32, channels_last=true, fused=true",
    "precision=bf16",
    "precision=bf16, channels_last=true, fused=true",
    "precision=bf16, channels_last=true, fused=true, compile=true",
)
WARM = 10  # steps at the beginning that are not counted


class Rows:
    """What was measured, in ``folder``/training.json where there is a folder."""

    def __init__(self, folder: Path | None) -> None:
        self.file = folder and folder / "training.json"
        there = self.file is not None and self.file.exists()
        self.rows: list[dict[str, Any]] = json.loads(self.file.read_text()) if self.file and there else []

    def has(self, row: dict[str, Any]) -> bool:
        return any(row.items() <= each.items() for each in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.file:
            write_atomic(self.file, json.dumps(self.rows, indent=1) + "\n")


def plan_of(backbone: str, recipe: str, machine: Machine) -> Prepared:
    job = Job("synthetic(identities=100)", "batch_hard", backbone, f"quick({recipe})", "auto", "none", 0)
    return Planner(load(), machine).plan(job)


def trained(plan: Prepared, machine: Machine, device: torch.device) -> Path:
    """Train a plan anew and return its folder."""
    loss = build_loss(plan.items["loss"], plan.info, plan.split, 0)
    assert loss is not None
    folder = Path(tempfile.mkdtemp(dir=machine.results))
    train(build_backbone(plan.items["backbone"], 0), loss, plan.recipe, plan.split.train, seed=0, folder=folder,
          machine=dataclasses.replace(machine, device=device))  # fmt: skip
    return folder


# --- the CPU: one step, part by part ---------------------------------------------------------------------------------


class Parts:
    """CPU seconds of each part of every step, from clocks at the parts' own doors."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.now: dict[str, float] = defaultdict(float)
        self.began = self.opened = time.process_time()

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return work(*arguments, **options)
            finally:
                self.now[name] += time.process_time() - began

        return wrapped

    def optimizer_begins(self, *_: Any) -> None:
        self.opened = time.process_time()

    def optimizer_ends(self, *_: Any) -> None:
        """A step ends with its optimizer; what comes after it, up to the next one's, belongs to the next step."""
        ended = time.process_time()
        self.now["optimizer"] = ended - self.opened
        self.steps.append({**self.now, "whole": ended - self.began})
        self.now, self.began = defaultdict(float), ended


def overhead(machine: Machine, steps: int, rows: Rows) -> None:
    plan = plan_of("lunet(height=64, width=32)", f"steps={steps}, p=32, k=4", machine)
    backbone, loss = build_backbone(plan.items["backbone"], 0), build_loss(plan.items["loss"], plan.info, plan.split, 0)
    assert loss is not None
    parts = Parts()
    backbone.forward = parts.timed("forward", backbone.forward)  # type: ignore[method-assign]
    loss.forward = parts.timed("loss", loss.forward)  # type: ignore[method-assign]
    backward = torch.Tensor.backward
    torch.Tensor.backward = parts.timed("backward", backward)  # type: ignore[method-assign]
    hooks = [
        register_optimizer_step_pre_hook(parts.optimizer_begins),
        register_optimizer_step_post_hook(parts.optimizer_ends),
    ]
    try:
        folder = Path(tempfile.mkdtemp(dir=machine.results))
        train(backbone, loss, plan.recipe, plan.split.train, seed=0, folder=folder, machine=machine)  # fmt: skip
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]
        for hook in hooks:
            hook.remove()
    counted = parts.steps[1:]  # the first opens the pixels
    names = ("forward", "loss", "backward", "optimizer")
    whole = statistics.median(step["whole"] for step in counted)
    outside = statistics.median(step["whole"] - sum(step[name] for name in names) for step in counted)
    said = ", ".join(f"{name} {1000 * statistics.median(step[name] for step in counted):.1f}" for name in names)
    print(
        f"CPU, one thread, {len(counted)} steps of lunet at 64x32 with 32 x 4 images, CPU ms a step (medians): {said}"
    )
    print(f"whole {1000 * whole:.1f} ms, outside of the four {1000 * outside:.2f} ms: "
          f"{100 * outside / whole:.2f} % (required: at most {REQUIRED_PERCENT:g} %)")  # fmt: skip
    rows.add({"device": "cpu", "whole_ms": 1000 * whole, "outside_ms": 1000 * outside})


# --- a GPU: whole steps over bare steps ------------------------------------------------------------------------------


def bare(plan: Prepared, device: torch.device) -> Callable[[], None]:
    """Return one update on a fixed batch in the device's memory: forward, loss, backward, optimizer."""
    recipe = plan.recipe
    backbone = build_backbone(plan.items["backbone"], 0).to(device).train()
    loss = build_loss(plan.items["loss"], plan.info, plan.split, 0)
    assert loss is not None
    loss.to(device).train()
    forward = forward_pass(backbone, recipe, device)
    optimizer = ScheduledOptimizer(recipe, [{"params": list(backbone.parameters())}, *loss.param_groups()]).optimizer
    size = (recipe.p * recipe.k, 3, plan.info.preprocess.height, plan.info.preprocess.width)
    images = torch.rand(size, device=device)
    labels = torch.arange(recipe.p, device=device).repeat_interleave(recipe.k)

    def update() -> None:
        value = evaluate_loss(loss, forward(images), labels)
        optimizer.zero_grad(set_to_none=True)
        value.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return update


def bare_milliseconds(update: Callable[[], None], steps: int, tf32: bool) -> float:
    with float32_products(tf32=tf32):
        for _ in range(WARM):
            update()
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(steps):
            update()
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - began) / steps


def whole_milliseconds(plan: Prepared, machine: Machine, device: torch.device) -> float:
    """Return the time of a step of the loop itself, rounds of batches included, its first steps not."""
    speeds = load_arrays(trained(plan, machine, device) / LOG)["images_per_second"][WARM:]
    return float(1000 * np.mean(plan.recipe.p * plan.recipe.k / speeds))


def measured(plan: Prepared, machine: Machine, device: torch.device, steps: int, turns: int) -> dict[str, float]:
    """Return the medians of bare and of whole steps, of their ratios, and the peak memory of bare ones."""
    tf32 = plan.recipe.precision == "tf32"
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    update = bare(plan, device)
    alone = [bare_milliseconds(update, steps, tf32)]
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    whole = []
    for _ in range(turns):
        whole.append(whole_milliseconds(plan, machine, device))
        alone.append(bare_milliseconds(update, steps, tf32))
    ratio = statistics.median(each / beside for each, beside in zip(whole, alone[1:], strict=True))
    return {
        "bare_ms": statistics.median(alone),
        "whole_ms": statistics.median(whole),
        "ratio": ratio,
        "peak_gib": peak,
    }


def on_gpu(machine: Machine, steps: int, turns: int, rows: Rows) -> bool:
    """Measure what is not in ``rows`` yet; return whether all of it could be."""
    device, whole = torch.device("cuda"), True
    name = torch.cuda.get_device_name(device)
    print(f"\n{name}, torch {torch.__version__}")
    for precision in PRECISIONS:
        for backbone, p, k in GPU_NETWORKS:
            asked: dict[str, Any] = {"device": name, "torch": torch.__version__, "backbone": backbone, "p": p, "k": k,
                                     "recipe": precision, "steps": steps, "turns": turns}  # fmt: skip
            if rows.has(asked):
                continue
            try:
                plan = plan_of(backbone, f"steps={steps + WARM}, p={p}, k={k}, {precision}", machine)
                found = measured(plan, machine, device, steps, turns)
            except (ReidbenchError, RuntimeError) as error:  # the others are measured all the same, and this one again
                print(f"  {backbone}, {precision}: FAILED: {error}")
                whole = False
                continue
            rows.add(asked | found)
            print(f"  {backbone}, {p} x {k}, {precision}: bare {found['bare_ms']:.2f} ms "
                  f"({1000 * p * k / found['bare_ms']:,.0f} images/s), peak {found['peak_gib']:.2f} GiB; whole "
                  f"{found['whole_ms']:.2f} ms, ratio {found['ratio']:.3f} (required: at most {REQUIRED_RATIO})",
                  flush=True)  # fmt: skip
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: both, where there are")
    parser.add_argument("--out", type=Path, help="a folder for training.json")
    parser.add_argument("--steps", type=int, default=12, help="steps of the CPU's part")
    parser.add_argument("--gpu-steps", type=int, default=100, help="steps of each turn on a GPU")
    parser.add_argument("--turns", type=int, default=3, help="pairs of whole and bare steps on a GPU")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: torch sees no GPU here")
    torch.set_num_threads(1)
    rows = Rows(asked.out)
    with tempfile.TemporaryDirectory() as scratch:
        # A folder of its own for everything, so that nothing else needs to be set or to be there.
        results, cache, data = (Path(scratch, name) for name in ("results", "cache", "data"))
        machine = local_machine(
            data=data, results=results, cache=cache, device="cpu", threads=1, checkpoint_seconds=1e9, log=print
        )
        machine.results.mkdir()
        if asked.device != "cuda":
            overhead(machine, asked.steps, rows)
        if asked.device == "cpu":
            return
        if torch.cuda.is_available():
            sys.exit(not on_gpu(machine, asked.gpu_steps, asked.turns, rows))
        print("\nno GPU here: the part for GPUs was not run")


if __name__ == "__main__":
    main()
