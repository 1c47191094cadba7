"""The training loop: one function, read top to bottom, that goes on exactly where it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.embedding.extract import embed_stored
from reidbench.embedding.pooling import pool_units
from reidbench.errors import Interrupted, PluginError, TrainingError
from reidbench.images.augment import stored_size
from reidbench.images.pixel_file import open_pixels
from reidbench.images.pixel_store import BatchLoader
from reidbench.plugins.interfaces import Backbone, Loss, LossValue, TrainView, as_loss_value
from reidbench.training.checkpoint import (
    LOG,
    TRAINING,
    WEIGHTS,
    Checkpoint,
    drop_checkpoints,
    latest_checkpoint,
    named_tensors,
    on_cpu,
    restore,
    save_checkpoint,
)
from reidbench.training.distributed import add_gradients, gather, share_buffers, synchronise_batch_norms
from reidbench.training.monitor import Monitor
from reidbench.training.optimizer import ScheduledOptimizer
from reidbench.training.precision import (
    check_device,
    float32_products,
    lower_memory_advice,
    prepared,
)
from reidbench.training.recipe import Recipe
from reidbench.training.sampler import pk_round, shuffled_round
from reidbench.training.signals import stop_signal
from reidbench.utils.arrays import IntArray, save_arrays
from reidbench.utils.atomic import write_atomic
from reidbench.utils.device_copy import DeferredNumbers, to_device
from reidbench.utils.machine import Machine, environment
from reidbench.utils.memory import out_of_memory_advice, peak_memory_mib
from reidbench.utils.progress import progress
from reidbench.utils.random_streams import stream, torch_seed

SHOWN_SECONDS = 0.5
SAVING_SHARE = 0.02  # of a training's time at most, where a large state is saved slowly


@dataclass(frozen=True)
class Trained:
    """A finished training: its folder, the seconds it took over all its parts, and the step it was resumed at.

    ``drawing`` is how many of these seconds it took to draw its batches round by round, mining included.
    """

    folder: Path
    seconds: float
    drawing: float
    resumed_at: int
    peak_memory_mib: int


def train(
    backbone: Backbone,
    loss: Loss,
    recipe: Recipe,
    samples: Samples,
    *,
    seed: int,
    folder: Path,
    machine: Machine,
) -> Trained:
    """Train ``backbone`` and ``loss`` as ``recipe`` says and leave the weights, the log and ``training.json``.

    The network and the loss come initialised; every later draw is a function of (seed, step) or (seed, round), so a
    training that was killed and resumed ends with the weights of one that was not (on one machine with one thread
    count). Checkpoints are written every ``machine.checkpoint_seconds`` (less often where writing one takes more than
    2 % of that; after every step where it is 0) and at SIGINT, SIGTERM or SIGUSR1.
    Every process of ``machine.world`` calls this; together they train as one does, and the first alone writes.
    Raises TrainingError where the loss is not finite or memory ends, Interrupted after a signal, OptionError where the
    device has not the recipe's arithmetic.
    """
    device, world = machine.device, machine.world
    check_device(recipe, device)

    # --- what is trained on ------------------------------------------------------------------------------------------
    labels = np.unique(samples.pids, return_inverse=True)[1].astype(np.int64)
    height, width = stored_size(backbone.preprocess, recipe.crop)
    pixels = open_pixels(samples, height, width, machine)
    crops: dict[str, Any] = {"crop": recipe.crop, "flip": recipe.flip, "seed": seed, "share": world.batch_part}
    loader = BatchLoader(pixels, samples, backbone.preprocess, **crops)

    # --- network, loss and optimizer ---------------------------------------------------------------------------------
    synchronise_batch_norms(world, backbone, device)
    backbone.to(device).train()
    loss.to(device).train()
    forward = prepared(backbone, recipe, device)
    modules = torch.nn.ModuleDict({"backbone": backbone, "loss": loss})
    groups: list[dict[str, Any]] = [
        {"params": [p for p in backbone.parameters() if p.requires_grad]},
        *loss.param_groups(),
    ]
    schedule = ScheduledOptimizer(recipe, groups)
    optimizer = schedule.optimizer

    # --- fresh, or where it stopped ----------------------------------------------------------------------------------
    batches: list[IntArray] = []
    step, number, place, seconds, drawing = 0, 0, 0, 0.0, 0.0  # drawing: the seconds that rounds of batches took
    log: dict[str, list[float]] = {}
    monitor = Monitor(recipe.steps, seed, device)
    parts = [asdict(environment(machine, world.size))]  # one for each machine, device or thread count that took part
    checkpoint = world.from_first(lambda: latest_checkpoint(folder))
    if checkpoint is None and world.size > 1:
        modules.load_state_dict(world.from_first(lambda: on_cpu(modules.state_dict())))
    elif checkpoint is not None:
        restore(checkpoint, modules, optimizer, folder)
        step, number, place = checkpoint.step, int(checkpoint.state["round"]), int(checkpoint.state["place"])
        seconds, drawing = float(checkpoint.state["seconds"]), float(checkpoint.state["drawing"])
        log = dict(zip(checkpoint.state["log"], checkpoint.tensors["log"].tolist(), strict=True))
        monitor.restore(checkpoint.tensors)
        batches = np.split(checkpoint.tensors["batches"].numpy(), checkpoint.tensors["ends"].numpy()[:-1])
        machine.log(f"resumed at step {step} of {recipe.steps}")
        before, now = checkpoint.state["parts"], parts[0]
        parts = before if before[-1] == now else [*before, now]
        if changed := [name for name in now if before[-1].get(name) != now[name]]:
            machine.log(f"it goes on with another {' and '.join(changed)} than before: "
                + ", ".join(f"{name} {before[-1].get(name)}, now {now[name]}" for name in changed)
                + "; the weights will not be bit for bit those of an undisturbed run")  # fmt: skip
    resumed_at = step

    def save() -> None:
        if not world.first:
            return
        tensors = named_tensors(modules, optimizer) | monitor.tensors()
        tensors["log"] = torch.tensor(list(log.values()), dtype=torch.float64)
        tensors["batches"] = torch.from_numpy(np.concatenate(batches) if batches else np.zeros(0, dtype=np.int64))
        tensors["ends"] = torch.tensor(np.cumsum([len(batch) for batch in batches]), dtype=torch.int64)
        spent = {"seconds": seconds + time.monotonic() - started, "drawing": drawing}
        state = {"round": number, "place": place, **spent, "parts": parts, "log": list(log)}
        save_checkpoint(folder, Checkpoint(step, tensors, state))

    def embed(units: IntArray) -> Tensor:
        images, starts = samples.rows(units)
        return pool_units(embed_stored(backbone, pixels, images), starts, "mean")

    # --- the loop ----------------------------------------------------------------------------------------------------
    started = saved = ended = shown = time.monotonic()
    every = machine.checkpoint_seconds
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    memory = out_of_memory_advice(device, lower_memory_advice(backbone, recipe))
    products = float32_products(tf32=recipe.precision == "tf32")
    shown_at = progress("training", recipe.steps, step, world.first)
    with memory, products, stop_signal() as stop, closing(loader), shown_at as show:
        while step < recipe.steps:
            if place == len(batches):
                began = time.monotonic()
                view = TrainView(labels, samples.cams, recipe.p, recipe.k, stream(seed, "round", number), step, embed)
                torch.manual_seed(torch_seed(seed, "round", number))
                batches = world.from_first(partial(draw_round, loss, recipe, view, number))
                place, number = 0, number + 1
                share_buffers(world, loss)  # what the round left for the loss
                drawing += time.monotonic() - began
            units = batches[place]
            rate = schedule.set_rates(step)

            # Networks and losses that draw (dropout, third parties' noise) draw from (seed, step): nothing to save. A
            # network sees its process's part of the batch and draws for it; the loss sees all and draws alike in all.
            torch.manual_seed(torch_seed(seed, "step", step, world.rank))
            images = loader.batch(units, step, batches[place + 1 :])
            embeddings = gather(world, forward(images), len(units))
            torch.manual_seed(torch_seed(seed, "loss", step))
            value = evaluate_loss(loss, embeddings, to_device(labels[units], device))
            # They travel while the gradient is computed: a device never waits for the host to have read them.
            deferred = DeferredNumbers([value.total, *value.scalars.values()])
            optimizer.zero_grad(set_to_none=True)
            value.total.backward()  # type: ignore[no-untyped-call]
            add_gradients(world, backbone, loss)
            total, *scalars = deferred.values()
            asked, lost = world.any(stop.asked, not np.isfinite(total))
            if lost:
                raise TrainingError(
                    f"the loss ({type(loss).__name__}, {type(loss).__module__}) is {total} at step {step} (learning "
                    f"rate {rate:.3g}); the batch holds the identities {np.unique(samples.pids[units]).tolist()}; try "
                    "a lower learning_rate, or check the loss for a square root or logarithm at zero"
                )
            monitor.record(step, value, embeddings, gradient_norm(optimizer))
            optimizer.step()

            clock = time.monotonic()
            own = {
                "step": step,
                "learning_rate": rate,
                "loss": total,
                "images_per_second": len(units) / (clock - ended),
            }
            ended = clock
            reported = zip(value.scalars, scalars, strict=True)
            _append(log, own | {f"loss.{name}" if name in own else name: scalar for name, scalar in reported})
            step, place = step + 1, place + 1
            if asked or step == recipe.steps or clock - shown >= SHOWN_SECONDS:  # to look is to wait for the device
                shown = clock
                speed = (step - resumed_at) * len(units) / (clock - started)
                show(step, f"loss {total:.4f}  {monitor.glance(step - 1)}  {speed:.0f} images/s")
            if asked and step < recipe.steps:
                save()
                raise Interrupted(
                    f"stopped at step {step} of {recipe.steps} {stop.words}; the state is saved in {folder}; "
                    "the same command goes on from there"
                )
            if time.monotonic() - saved >= every and step < recipe.steps:
                began = time.monotonic()
                save()
                saved = time.monotonic()
                every = machine.checkpoint_seconds and max(machine.checkpoint_seconds, (saved - began) / SAVING_SHARE)

    # --- what is kept ------------------------------------------------------------------------------------------------
    seconds += time.monotonic() - started
    peak = peak_memory_mib(device)
    if world.first:
        save_arrays(folder / LOG, {name: np.array(column) for name, column in log.items()} | monitor.arrays())
        write_atomic(folder / WEIGHTS, safetensors.torch.save(on_cpu(backbone.state_dict())))
        summary = {"steps": step, "seconds": seconds, "drawing": drawing, "parts": parts, "resumed_at": resumed_at}
        seen = {"verdict": monitor.verdict(step), "packed_steps": monitor.packed_steps(step)}
        summary |= {"peak_memory_mib": peak, **seen}
        write_atomic(folder / TRAINING, json.dumps(summary, indent=1, sort_keys=True) + "\n")
        drop_checkpoints(folder)
    if world.any(stop.asked)[0]:
        raise Interrupted(
            f"stopped {stop.words} after the last step; it is trained in {folder}; the same command scores it"
        )
    return Trained(folder, seconds, drawing, resumed_at, peak)


def draw_round(loss: Loss, recipe: Recipe, view: TrainView, number: int) -> list[IntArray]:
    """Return the batches of one round: the loss's own, or the recipe's; each an int64 array of units.

    Raises PluginError where a loss's round is empty or names units that are not there.
    """
    own = loss.next_round(view, number)
    if own is None:
        if recipe.batches == "pk":
            return pk_round(view.labels, recipe.p, recipe.k, view.generator)
        return shuffled_round(view.labels, recipe.p * recipe.k, view.generator)
    batches = [np.asarray(batch, dtype=np.int64) for batch in own]
    if not batches or any(len(b) == 0 or b.min() < 0 or b.max() >= len(view.labels) for b in batches):
        raise PluginError(
            f"loss {type(loss).__name__} ({type(loss).__module__}): next_round must return at least one batch of units "
            f"in 0..{len(view.labels) - 1}"
        )
    return batches


def evaluate_loss(loss: Loss, embeddings: Tensor, labels: Tensor) -> LossValue:
    """Return the loss of a batch as a LossValue, computed in float32 (float64 stays) whatever the network runs in."""
    if embeddings.dtype in (torch.float16, torch.bfloat16):
        embeddings = embeddings.float()
    value = as_loss_value(loss, loss(embeddings, labels))
    if embeddings.requires_grad and not value.total.requires_grad:
        raise PluginError(
            f"loss {type(loss).__name__} ({type(loss).__module__}): its total has no gradient, so nothing could be "
            "learned; compute it from the embeddings, without detaching them"
        )
    return value


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Return the length, 0-d, of the gradient of all that is trained, loss heads included."""
    groups = (group["params"] for group in optimizer.param_groups)
    return torch.nn.utils.get_total_norm([p.grad for group in groups for p in group if p.grad is not None])


def _append(log: dict[str, list[float]], row: Mapping[str, float]) -> None:
    """Add one step to the log; a column that begins later, or misses a step, has nan there."""
    steps = len(log.get("step", []))
    for name in {**log, **row}:
        log.setdefault(name, [np.nan] * steps).append(float(row.get(name, np.nan)))
