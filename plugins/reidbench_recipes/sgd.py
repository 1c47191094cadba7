"""Stochastic gradient descent with the usual schedules; nobody's own training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from reidbench import BackboneInfo, Recipe, hookimpl
from reidbench_recipes.options import Precision


def sgd(
    backbone: BackboneInfo,
    *,
    steps: int = 25_000,
    learning_rate: float = 0.01,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 5e-4,
    milestones: tuple[int, ...] = (),
    decay_factor: float | None = None,
    warmup: int = 0,
    frozen: int = 0,
    new_factor: float = 1.0,
    p: int = 18,
    k: int = 4,
    batches: Literal["pk", "shuffled"] = "pk",
    crop: bool = True,
    flip: bool = True,
    precision: Precision = "float32",
    channels_last: bool = False,
    compile: bool = False,  # noqa: A002, as torch calls it
) -> Recipe:
    """Return SGD with momentum and weight decay, whose learning rate falls along half a cosine or at milestones.

    Options:
        steps: Number of steps.
        learning_rate: Largest learning rate of pretrained layers.
        momentum: SGD's momentum, from 0 to below 1.
        nesterov: Use Nesterov's momentum.
        weight_decay: Factor of the weights that is added to their gradient.
        milestones: Steps from which on the learning rate is multiplied by decay_factor; without any it falls along half
            a cosine.
        decay_factor: Factor at each milestone, or share that is left at the end; none for 0.1 or 0.001.
        warmup: Number of first steps in which the learning rate grows linearly.
        frozen: Number of first steps in which pretrained layers are fixed, batch norms in evaluation mode.
        new_factor: Factor on the learning rate of all that is not pretrained: new layers and the loss.
        p: Identities in a batch.
        k: Images of each identity in a batch.
        batches: "pk" for p identities with k images each, "shuffled" for p * k images of a shuffled pass.
        crop: Crop training images at random out of the image resized to 9/8 of the input size.
        flip: Flip half of the training images.
        precision: Precision of the network: float32, tf32 (NVIDIA GPUs only) or bf16; the loss is always float32.
        channels_last: Store images and weights with their channels last, which is faster on GPUs.
        compile: Run the network through torch.compile.

    Raises OptionError for values out of range.
    Source: ours; the schedules are those of Loshchilov and Hutter 2017 (cosine) and Goyal et al. 2017 (warm-up).
    """
    schedule, usual_factor = ("milestones", 0.1) if milestones else ("half_cosine", 0.001)
    factor = usual_factor if decay_factor is None else decay_factor
    decay = {"schedule": schedule, "milestones": milestones, "decay_factor": factor}
    rates = {"learning_rate": learning_rate, "warmup": warmup, "frozen": frozen, "new_factor": new_factor}
    descent = {"optimizer": "sgd", "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
    batch = {"p": p, "k": k, "batches": batches, "crop": crop, "flip": flip}
    arithmetic = {"precision": precision, "channels_last": channels_last, "compile": compile}
    return Recipe(steps, 0, **decay, **rates, **descent, **batch, **arithmetic)


@hookimpl
def register_recipes() -> dict[str, Callable[..., Recipe]]:
    """Provide sgd."""
    return {"sgd": sgd}
