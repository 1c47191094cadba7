"""The training loop: one function, read from top to bottom; a training resumes exactly at any step."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reidbench.data.samples import DISTRACTOR, Samples
from reidbench.embedding.extract import embed_stored
from reidbench.embedding.pooling import pool_units
from reidbench.errors import Interrupted, PluginError, TrainingError
from reidbench.images.augment import stored_size
from reidbench.images.contents import content_digest
from reidbench.images.pixel_file import open_pixels
from reidbench.images.pixel_store import BatchLoader
from reidbench.plugins.interfaces import Backbone, Loss, LossValue, TrainView, as_loss_value, owner_of
from reidbench.training.checkpoint import TrainingState, TrainingSummary, latest_checkpoint, on_cpu
from reidbench.training.distributed import add_gradients, gather, share_buffers, synchronise_batch_norms
from reidbench.training.monitor import COLUMNS, Monitor
from reidbench.training.optimizer import ScheduledOptimizer, gradient_norms, parameter_groups, set_frozen
from reidbench.training.precision import check_device, float32_products, forward_pass, lower_memory_advice
from reidbench.training.recipe import Recipe
from reidbench.training.sampler import sample_round
from reidbench.utils.arrays import IntArray
from reidbench.utils.device import DeferredNumbers, out_of_memory_advice, peak_memory_mib, to_device
from reidbench.utils.machine import Machine, environment
from reidbench.utils.processes import stop_signal
from reidbench.utils.progress import progress
from reidbench.utils.random_streams import stream, torch_seed

STAGE = "training step"  # in progress lines
DISPLAY_SECONDS = 0.5  # between two updates of the live line
SAVING_SHARE = 0.02  # most of the time that checkpoints may take


def train(
    backbone: Backbone, loss: Loss, recipe: Recipe, samples: Samples, *, seed: int, folder: Path, machine: Machine
) -> TrainingSummary:
    """Train ``backbone`` with ``loss`` and ``recipe``; write weights, log and summary into ``folder``.

    The network and the loss are initialised already. All later random numbers are functions of (seed, step) or
    (seed, round), so a training that was killed and resumed ends with the weights of an uninterrupted one, bit for bit
    on one machine with one thread count. A checkpoint is written every ``machine.checkpoint_seconds`` (less often where
    writing takes more than 2 % of the time; after every step where it is 0) and at SIGINT, SIGTERM or SIGUSR1.
    Every process of ``machine.world`` calls this; together they train as one process does, and the first alone writes.
    Raises TrainingError where the loss is not finite or memory runs out, Interrupted after a signal, and OptionError
    where the device does not support the recipe's precision. What ``machine.observer`` returns as scores is in the log
    as ``validation.map_market`` and so on, nan at steps without.
    """
    device, world, observer = machine.device, machine.world, machine.observer
    check_device(recipe, device)

    # --- data --------------------------------------------------------------------------------------------------------
    labels = np.unique(samples.pids, return_inverse=True)[1].astype(np.int64) - int((samples.pids == DISTRACTOR).any())
    height, width = stored_size(backbone.preprocess, recipe.crop)
    pixels = open_pixels(samples, height, width, machine)
    content = content_digest(samples, machine)
    parts, preprocess, flip, frames = world.batch_part, backbone.preprocess, recipe.flip, recipe.frames
    loader = BatchLoader(pixels, samples, preprocess, parts, recipe, flip=flip, frames=frames, seed=seed)

    # --- network, loss and optimizer ---------------------------------------------------------------------------------
    synchronise_batch_norms(world, backbone, device)
    backbone.to(device).train()
    loss.to(device).train()
    forward = forward_pass(backbone, recipe, device, loss.reads)
    groups = parameter_groups(recipe, backbone, loss)
    schedule = ScheduledOptimizer(recipe, groups)
    optimizer = schedule.optimizer

    # --- resume ------------------------------------------------------------------------------------------------------
    modules = torch.nn.ModuleDict({"backbone": backbone, "loss": loss})
    monitor = Monitor(recipe.steps, seed, device)
    state = TrainingState(modules, optimizer, monitor, [environment(machine, world.size)], content)
    checkpoint = world.from_first(lambda: latest_checkpoint(folder, recipe.steps - 1, content, machine.log))
    if checkpoint is not None:
        state.restore(*checkpoint, folder, machine.log)
    elif world.size > 1:
        modules.load_state_dict(world.from_first(lambda: on_cpu(modules.state_dict())))
    resumed_at = state.step
    observer.start(resumed_at)

    def embed(units: IntArray) -> Tensor:
        images, starts = samples.rows(units)
        return pool_units(embed_stored(backbone, pixels, images), starts, "mean")

    # --- loop --------------------------------------------------------------------------------------------------------
    started = saved = stepped = displayed = state.started = time.monotonic()
    interval = machine.checkpoint_seconds
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    memory = out_of_memory_advice(device, lower_memory_advice(backbone, recipe))
    products = float32_products(tf32=recipe.precision == "tf32")
    live_line = progress(STAGE, recipe.steps, state.step, world.first, machine.overall)
    with memory, products, stop_signal() as stop, closing(loader), live_line as show:
        while state.step < recipe.steps:
            step = state.step
            if state.place == len(state.batches):
                began = time.monotonic()
                view = TrainView(labels, recipe.p, recipe.k, stream(seed, "round", state.rounds), embed)
                torch.manual_seed(torch_seed(seed, "round", state.rounds))
                state.batches = world.from_first(partial(sample_round, loss, recipe, view, state.rounds))
                state.place, state.rounds = 0, state.rounds + 1
                share_buffers(world, loss)  # sampling may have changed them in the first process
                state.sampling_seconds += time.monotonic() - began
            units = state.batches[state.place]
            learning_rate = schedule.set_rates(step)
            set_frozen(recipe, backbone, groups, step)

            # Random numbers of network and loss (dropout, for example) follow from (seed, step), so no generator is
            # saved. The network of each process has its own, for its part of the batch; the loss has the same in all.
            torch.manual_seed(torch_seed(seed, "step", step, world.rank))
            images = loader.batch(units, step, state.batches[state.place + 1 :])
            starts = np.arange(0, len(images) + 1, recipe.frames)
            embeddings = gather(world, pool_units(forward(images), starts, recipe.frame_pool), len(units))
            torch.manual_seed(torch_seed(seed, "loss", step))
            value = evaluate_loss(loss, embeddings, to_device(labels[units], device))
            # Copied to the host while the device computes the gradient, which never waits for the host.
            numbers = DeferredNumbers([value.total, *value.scalars.values()])
            optimizer.zero_grad(set_to_none=True)
            if value.total.requires_grad:  # else network and loss are frozen, which is the verdict no_gradient
                value.total.backward()  # type: ignore[no-untyped-call]
            add_gradients(world, backbone, loss)
            total, *scalars = numbers.values()
            stopping, diverged = world.any(stop.requested, not np.isfinite(total))
            if diverged:
                raise TrainingError(
                    f"{owner_of(loss)} is {total} at step {step} (learning rate {learning_rate:.3g}) for a batch of "
                    f"the identities {np.unique(samples.pids[units]).tolist()}; lower learning_rate, or check the loss "
                    "for a square root or a logarithm at zero"
                )
            monitor.record(step, value, embeddings[:, : backbone.embedding_dim], gradient_norms(backbone, loss))
            optimizer.step()

            now = time.monotonic()
            speed = len(units) * recipe.frames / (now - stepped)
            row = {"step": step, "learning_rate": learning_rate, "loss": total, "images_per_second": speed}
            state.step, state.place = step + 1, state.place + 1
            if observer.validate_every and state.step % observer.validate_every == 0:
                show(state.step, "validation")
                row |= observer.validate(state.step, backbone)
                pause, now = time.monotonic() - now, time.monotonic()
                started, state.started = started + pause, state.started + pause  # it is no time of the training
            named = zip(value.scalars, scalars, strict=True)
            row |= {f"loss.{name}" if name in row else name: scalar for name, scalar in named}
            state.append(row)
            observer.log(step, row)
            stepped = now
            if stopping or state.step == recipe.steps or now - displayed >= DISPLAY_SECONDS:  # waits for the device
                displayed = now
                observer.log(step, dict(zip(COLUMNS, monitor.rows[step].tolist(), strict=True)))
                mean_speed = (state.step - resumed_at) * len(units) * recipe.frames / (now - started)
                words = monitor.describe(step, step < recipe.frozen)
                show(state.step, f"loss {total:.4f}, lr {learning_rate:.2g}, {words}, {mean_speed:.0f} images/s")
            if state.step < recipe.steps and (stopping or time.monotonic() - saved >= interval):
                began = time.monotonic()
                if world.first:
                    state.save(folder)
                saved = time.monotonic()
                interval = max(machine.checkpoint_seconds, (saved - began) / SAVING_SHARE) if interval else 0.0
                if stopping:
                    raise Interrupted(
                        f"stopped at step {state.step} of {recipe.steps} {stop.reason}; the state is saved in "
                        f"{folder}; run the same command to resume"
                    )

    # --- outputs -----------------------------------------------------------------------------------------------------
    summary = TrainingSummary(
        steps=state.step,
        seconds=state.seconds,
        sampling_seconds=state.sampling_seconds,
        resumed_at=resumed_at,
        environments=state.environments,
        peak_memory_mib=peak_memory_mib(device),
        verdict=monitor.verdict(state.step),
        packed_steps=monitor.packed_steps(state.step),
        content=content,
    )
    if world.first:
        state.finish(folder, summary)
    if world.any(stop.requested)[0]:
        raise Interrupted(
            f"stopped after the last step {stop.reason}; the trained network is in {folder}; run the same command to "
            "score it"
        )
    return summary


def evaluate_loss(loss: Loss, embeddings: Tensor, labels: Tensor) -> LossValue:
    """Return the loss of a batch in float32 (or float64), whatever precision the network has; raises PluginError."""
    if embeddings.dtype in (torch.float16, torch.bfloat16):
        embeddings = embeddings.float()
    value = as_loss_value(loss, loss(embeddings, labels))
    if embeddings.requires_grad and not value.total.requires_grad:
        raise PluginError(
            f"{owner_of(loss)}: its total has no gradient, so the network would learn nothing; compute it from the "
            "embeddings, without detaching them"
        )
    return value
