"""How long a plan will take, from a few measured passes of its own network."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from reidbench.pixels import view_crops
from reidbench.plan import Plan, build_backbone, threads_of
from reidbench.settings import Settings
from reidbench.store import latest_step
from reidbench.training import finished

MEASURED_IMAGES = 16
PATIENCE_SECONDS = 2.0


def seconds_left(plan: Plan, device: torch.device, settings: Settings) -> float | None:
    """Return about how many seconds a plan needs: its updates and its embeddings, without reading and ranking.

    Measured on a small batch of blank images and scaled by the number of images, so it is right within a factor of
    about two; the progress line of the run itself is exact. None where the network cannot be measured: an estimate
    stops nobody, the run itself will say what is wrong.
    """
    if plan.done():
        return 0.0
    try:
        return _measured(plan, device, settings)
    except Exception:  # whatever a stranger's network raises on blank images
        return None


def _measured(plan: Plan, device: torch.device, settings: Settings) -> float:
    torch.set_num_threads(threads_of(settings))
    backbone = build_backbone(plan.items["backbone"], plan.job.seed).to(device)
    count = max(2, min(MEASURED_IMAGES, plan.recipe.p * plan.recipe.k))  # one image has no batch statistics
    images = torch.zeros(count, 3, plan.info.preprocess.height, plan.info.preprocess.width, device=device)

    def update() -> None:
        backbone.train()
        out = backbone(images).square().sum()
        if out.requires_grad:
            out.backward()

    def embed() -> None:
        backbone.eval()
        with torch.inference_mode():
            backbone(images)

    _, crops = view_crops(plan.protocol.views, plan.info.preprocess)
    tested = len(plan.split.query.images) + len(plan.split.gallery.images)
    total = _least_seconds(embed, device) / count * tested * len(crops)
    if plan.trains and finished(plan.training_folder) is None:
        steps = plan.recipe.steps - latest_step(plan.training_folder)
        total += _least_seconds(update, device) / count * plan.recipe.p * plan.recipe.k * steps
    return total


def _least_seconds(work: Callable[[], None], device: torch.device) -> float:
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
        if len(taken) > 1 and sum(taken) > PATIENCE_SECONDS:
            break
    return min(taken[1:])  # the first warms up, others may have waited for other work of the machine


def in_words(seconds: float | None) -> str:
    """Return a duration as people say it: "45 s", "12 min", "3.5 h", and "?" for None."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
