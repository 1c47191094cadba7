"""What a plan will take: steps, images, disk and memory by counting, time from a few measured passes of its network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from reidbench.embedding.cache import KeptEmbeddings
from reidbench.images.augment import stored_size, view_crops
from reidbench.images.pixel_file import Planned, planned_tier
from reidbench.plugins.interfaces import Backbone, learns
from reidbench.runs.prepare import Plan, build_backbone
from reidbench.training.checkpoint import KEPT_CHECKPOINTS, finished, latest_step, load_weights
from reidbench.training.monitor import COLUMNS, KEPT_ITEMS
from reidbench.training.precision import STATES, training_bytes
from reidbench.utils.machine import Settings, free_on, in_gib, threads_of
from reidbench.utils.random_streams import seeded

MEASURED_IMAGES = 16
PATIENCE_SECONDS = 2.0


def seconds_left(
    plan: Plan, device: torch.device, settings: Settings, counted: set[object] | None = None
) -> float | None:
    """Return about how many seconds a plan needs: its updates and its embeddings, without reading and ranking.

    Each image is embedded once, whatever parts of the data hold it, and none whose embedding is kept. ``counted`` is
    what the plans before this one do, which is not done again; what this one does is added to it.
    Measured on a small batch of blank images and scaled by the number of images, so it is right within a factor of
    about two; the progress line of the run itself is exact. None where the network cannot be measured: an estimate
    stops nobody, the run itself will say what is wrong.
    """
    if plan.done():
        return 0.0
    try:
        return _measured(plan, device, settings, set() if counted is None else counted)
    except Exception:  # whatever a stranger's network raises on blank images
        return None


def _measured(plan: Plan, device: torch.device, settings: Settings, counted: set[object]) -> float:
    torch.set_num_threads(threads_of(settings))
    backbone = build_backbone(plan.items["backbone"], plan.job.seed).to(device)
    tested = _not_embedded(plan, backbone, device, threads_of(settings), counted)
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
    total = _least_seconds(embed, device) / count * tested * len(crops) if tested else 0.0
    if plan.trains and plan.train_id not in counted and finished(plan.training_folder) is None:
        counted.add(plan.train_id)
        steps = plan.recipe.steps - latest_step(plan.training_folder)
        total += _least_seconds(update, device) / count * plan.recipe.p * plan.recipe.k * steps
    return total


def _not_embedded(plan: Plan, backbone: Backbone, device: torch.device, threads: int, counted: set[object]) -> int:
    """Return how many images are still to be embedded; where embeddings are kept, ``backbone`` gets its weights."""
    split, views, folder = plan.split, plan.protocol.views, plan.training_folder
    asked = [split.query, split.gallery, *([split.fit] if learns(plan.items["metric"].build()) else [])]
    # Plans of one data set share the very parts.
    parts = [part for part in asked if (plan.train_id, views, id(part)) not in counted]
    counted.update((plan.train_id, views, id(part)) for part in parts)
    if not parts:
        return 0
    kept = KeptEmbeddings.folder_of(folder, views)
    unknown = finished(folder) is None if plan.trains else plan.info.pretrained  # a plan loads no pretrained weights
    if unknown or not kept.is_dir():
        return len({(samples.root, name) for samples in parts for name in samples.images.tolist()})
    if plan.trains:
        load_weights(backbone, folder)
    else:
        seeded(backbone.initialise, plan.job.seed, "initialise")
    return KeptEmbeddings(folder, backbone, views, device, threads, keep=False).missing(parts)


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


@dataclass(frozen=True)
class Needs:
    """What a plan's training is about to take: ``steps`` that are left, their ``images``, and bytes.

    ``pixels`` is what its decoded images newly take in the cache; ``results`` its checkpoints, weights, log and
    embeddings; ``memory`` what the device holds at most for one of its processes, ``free`` what it has for each.
    """

    steps: int
    images: int
    pixels: int
    results: int
    memory: int
    free: int

    def __str__(self) -> str:
        disk = f"{in_gib(self.pixels + self.results)} of disk"
        if self.pixels:
            disk += f" ({in_gib(self.pixels)} of it pixels)"
        said = f"{self.steps:,} steps, {self.images:,} images, about {disk}, {in_gib(self.memory)} of memory"
        return f"{said}, more than the {in_gib(self.free)} that are free" if self.memory > self.free else said


def planned_pixels(plan: Plan, device: torch.device, settings: Settings) -> Planned:
    """Return where a plan's training pixels will be held; raises as ``choose``."""
    height, width = stored_size(plan.info.preprocess, plan.recipe.crop)
    train, tier = plan.split.train, settings.pixels
    return planned_tier(train, height, width, cache=settings.cache, device=device, tier=tier)


def needs(plan: Plan, device: torch.device, settings: Settings, processes: int) -> Needs | None:
    """Return what a training takes, None where there is nothing to train or its network cannot be measured.

    Each of ``processes`` holds its part of a batch, the weights and the optimizer's states, the log, and the pixels.
    """
    if not plan.trains or plan.done() or finished(plan.training_folder) is not None:
        return None
    recipe, split = plan.recipe, plan.split
    pixels = planned_pixels(plan, device, settings)
    log = recipe.steps * (4 * len(COLUMNS) + 2 * KEPT_ITEMS)
    weights = 4 * plan.info.parameters
    tested = len(split.query.images) + len(split.gallery.images)
    results = KEPT_CHECKPOINTS * (STATES * weights + log) + weights + log + 4 * tested * plan.info.embedding_dim
    backbone = build_backbone(plan.items["backbone"], plan.job.seed)
    try:
        memory = training_bytes(backbone, -(-recipe.p * recipe.k // processes)) + pixels.memory + log
    except Exception:  # whatever a stranger's network raises on blank images
        return None
    steps = recipe.steps - latest_step(plan.training_folder)
    return Needs(steps, steps * recipe.p * recipe.k, pixels.disk, results, memory, free_on(device))
