"""The overhead of the training loop: time of a step outside forward pass, loss, backward pass and optimizer.

    python benchmarks/training.py [--device cpu|cuda] [--out FOLDER]

On the CPU: LuNet at 64x32, batch hard, 32 x 4 images, one thread, in CPU seconds of this process, so that other work on
the machine does not count; for each step the time outside the four parts, and its share of the whole step. Required: at
most 1 %. On a GPU, in the same run or alone with ``--device cuda``: whole steps relative to bare steps on a fixed batch
in memory, in turns, for LuNet at 128x64 and ResNet-50 at 256x128 (required: at most 1.05), and for each precision a
bare step and its peak memory. With ``--out`` every result is written to FOLDER/training.json as soon as it is measured,
and the same command measures only what is missing.
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
from reidbench.utils.arrays import read_arrays
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
WARM_UP = 10  # first steps, which are not counted


class Results:
    """Measured rows, stored in ``folder``/training.json where a folder is given."""

    def __init__(self, folder: Path | None) -> None:
        self.file = folder and folder / "training.json"
        stored = self.file.read_text() if self.file and self.file.exists() else "[]"
        self.rows: list[dict[str, Any]] = json.loads(stored)

    def has(self, row: dict[str, Any]) -> bool:
        return any(row.items() <= each.items() for each in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.file:
            write_atomic(self.file, json.dumps(self.rows, indent=1) + "\n")


def plan_of(backbone: str, recipe: str, machine: Machine) -> Prepared:
    job = Job("synthetic(identities=100)", "batch_hard", backbone, f"quick({recipe})", "auto", "none", 0)
    return Planner(load(), machine).plan(job)


def train_from_start(plan: Prepared, machine: Machine, device: torch.device) -> Path:
    """Train a run from the start and return the training's folder."""
    loss = build_loss(plan.items["loss"], plan.info, plan.split, 0)
    assert loss is not None
    folder = Path(tempfile.mkdtemp(dir=machine.results))
    train(build_backbone(plan.items["backbone"], 0), loss, plan.recipe, plan.split.train, seed=0, folder=folder,
          machine=dataclasses.replace(machine, device=device))  # fmt: skip
    return folder


# --- the CPU: the parts of a step ------------------------------------------------------------------------------------


class Parts:
    """CPU seconds of each part of every step.

    ``steps``: the finished steps, seconds by part.
    ``step``: the current step so far.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.step: dict[str, float] = defaultdict(float)
        self.began = self.optimizer_began = time.process_time()

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return work(*arguments, **options)
            finally:
                self.step[name] += time.process_time() - began

        return wrapped

    def optimizer_begins(self, *_: Any) -> None:
        self.optimizer_began = time.process_time()

    def optimizer_ends(self, *_: Any) -> None:
        """End a step: the time after its optimizer belongs to the next step."""
        ended = time.process_time()
        self.step["optimizer"] = ended - self.optimizer_began
        self.steps.append({**self.step, "whole": ended - self.began})
        self.step, self.began = defaultdict(float), ended


def overhead(machine: Machine, steps: int, results: Results) -> None:
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
    counted = parts.steps[1:]  # the first opens the pixel store
    names = ("forward", "loss", "backward", "optimizer")
    whole = statistics.median(step["whole"] for step in counted)
    outside = statistics.median(step["whole"] - sum(step[name] for name in names) for step in counted)
    parts_text = ", ".join(f"{name} {1000 * statistics.median(step[name] for step in counted):.1f}" for name in names)
    print(f"CPU, one thread, {len(counted)} steps of lunet at 64x32 with 32 x 4 images")
    print(f"CPU ms a step (medians): {parts_text}")
    print(f"whole {1000 * whole:.1f} ms, outside the four {1000 * outside:.2f} ms: "
          f"{100 * outside / whole:.2f} % (required: at most {REQUIRED_PERCENT:g} %)")  # fmt: skip
    results.add({"device": "cpu", "whole_ms": 1000 * whole, "outside_ms": 1000 * outside})


# --- a GPU: whole steps over bare steps ------------------------------------------------------------------------------


def bare_update(plan: Prepared, device: torch.device) -> Callable[[], None]:
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
        for _ in range(WARM_UP):
            update()
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(steps):
            update()
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - began) / steps


def whole_milliseconds(plan: Prepared, machine: Machine, device: torch.device) -> float:
    """Return the mean time of a step of the loop, sampling included, without the first steps."""
    speeds = read_arrays(train_from_start(plan, machine, device) / LOG)["images_per_second"][WARM_UP:]
    return float(1000 * np.mean(plan.recipe.p * plan.recipe.k / speeds))


def measure(plan: Prepared, machine: Machine, device: torch.device, steps: int, turns: int) -> dict[str, float]:
    """Return the medians of bare and of whole steps, of their ratios, and the peak memory of bare ones."""
    tf32 = plan.recipe.precision == "tf32"
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    update = bare_update(plan, device)
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


def measure_gpu(machine: Machine, steps: int, turns: int, results: Results) -> bool:
    """Measure what ``results`` lacks; return whether everything could be measured."""
    device, whole = torch.device("cuda"), True
    name = torch.cuda.get_device_name(device)
    print(f"\n{name}, torch {torch.__version__}")
    for precision in PRECISIONS:
        for backbone, p, k in GPU_NETWORKS:
            row: dict[str, Any] = {"device": name, "torch": torch.__version__, "backbone": backbone, "p": p, "k": k,
                                     "recipe": precision, "steps": steps, "turns": turns}  # fmt: skip
            if results.has(row):
                continue
            try:
                plan = plan_of(backbone, f"steps={steps + WARM_UP}, p={p}, k={k}, {precision}", machine)
                numbers = measure(plan, machine, device, steps, turns)
            except (ReidbenchError, RuntimeError) as error:  # the next run measures it again
                print(f"  {backbone}, {precision}: FAILED: {error}")
                whole = False
                continue
            results.add(row | numbers)
            print(f"  {backbone}, {p} x {k}, {precision}: bare {numbers['bare_ms']:.2f} ms "
                  f"({1000 * p * k / numbers['bare_ms']:,.0f} images/s), peak {numbers['peak_gib']:.2f} GiB; whole "
                  f"{numbers['whole_ms']:.2f} ms, ratio {numbers['ratio']:.3f} (required: at most {REQUIRED_RATIO})",
                  flush=True)  # fmt: skip
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: both, where available")
    parser.add_argument("--out", type=Path, help="folder for training.json")
    parser.add_argument("--steps", type=int, default=12, help="steps on the CPU")
    parser.add_argument("--gpu-steps", type=int, default=100, help="steps of a turn on the GPU")
    parser.add_argument("--turns", type=int, default=3, help="turns of whole and bare steps on the GPU")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: torch sees no GPU here")
    torch.set_num_threads(1)
    results = Results(arguments.out)
    with tempfile.TemporaryDirectory() as scratch:
        # Independent of the machine's folders.
        folders = [Path(scratch, name) for name in ("data", "results", "cache")]
        machine = local_machine(
            data=folders[0],
            results=folders[1],
            cache=folders[2],
            device="cpu",
            threads=1,
            checkpoint_seconds=1e9,
            log=print,
        )
        machine.results.mkdir()
        if arguments.device != "cuda":
            overhead(machine, arguments.steps, results)
        if arguments.device == "cpu":
            return
        if torch.cuda.is_available():
            sys.exit(not measure_gpu(machine, arguments.gpu_steps, arguments.turns, results))
        print("\nno GPU here: GPU steps were not measured")


if __name__ == "__main__":
    main()
