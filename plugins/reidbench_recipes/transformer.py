"""The training of the transformer baseline of TransReID."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from reidbench import BackboneInfo, Recipe, hookimpl
from reidbench_recipes.options import Precision, erased_pixels, padding_of


def transformer(
    backbone: BackboneInfo,
    *,
    steps: int = 22_000,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    learning_rate: float = 0.008,
    warmup: int | None = None,
    decay: bool = True,
    weight_decay: float = 1e-4,
    bias_factor: float = 2.0,
    layer_factor: float = 1.0,
    p: int = 16,
    k: int = 4,
    pad: int | None = None,
    flip: bool = True,
    erase: float = 0.5,
    precision: Precision = "float32",
    channels_last: bool = False,
    compile: bool = False,  # noqa: A002, as torch calls it
) -> Recipe:
    """Return SGD on P x K batches with warm-up, half a cosine, padding and random erasing, 22,000 steps (120 epochs).

    Options:
        steps: Number of steps.
        optimizer: "sgd" with momentum 0.9, or "adamw", which is not of this paper and needs another learning rate.
        learning_rate: Largest learning rate.
        warmup: Number of first steps in which the rate grows from a hundredth of it; none for 1/24 of the steps.
        decay: Let the rate fall along half a cosine to 0.002 of it.
        weight_decay: Factor of the weights that is added to their gradient; adamw subtracts it times the rate.
        bias_factor: Factor on the learning rate of the biases of convolutions and linear layers.
        layer_factor: Factor on the learning rate from each layer to the one before; other than 1 not of this paper.
        p: Identities in a batch.
        k: Images of each identity in a batch.
        pad: Black pixels on each side before the random crop; none for 10 at a height of 256, in proportion.
        flip: Flip half of the training images.
        erase: Probability that a rectangle of an image is erased: with the mean pixel.
        precision: Precision of the network: float32, tf32 (NVIDIA GPUs only) or bf16; the loss is always float32.
        channels_last: Store images and weights with their channels last, which is faster on GPUs.
        compile: Run the network through torch.compile.

    Raises OptionError for values out of range.
    Source: He, Luo, Wang, Wang, Li, Jiang 2021, "TransReID: Transformer-based Object Re-Identification": the baseline
    of section 3.1, and its code, damo-cv/TransReID, without side information and jigsaw patches.
    """
    schedule = {"schedule": "half_cosine", "decay_start": 0 if decay else steps, "decay_factor": 0.002}
    warmup_steps = steps // 24 if warmup is None else warmup
    rates = {"learning_rate": learning_rate, "warmup": warmup_steps, "warmup_start": 0.01}
    descent = {"optimizer": optimizer, "momentum": 0.9 if optimizer == "sgd" else 0.0, "late_beta1": 0.9}
    factors = {"weight_decay": weight_decay, "bias_factor": bias_factor, "layer_factor": layer_factor}
    crops = {"crop": False, "pad": padding_of(backbone, pad), "flip": flip}
    erasing = {"erase": erase, "erase_area": (0.02, 1 / 3), "erase_fill": erased_pixels(backbone, "mean")}
    arithmetic = {"precision": precision, "channels_last": channels_last, "compile": compile}
    images = {"p": p, "k": k, **crops, **erasing, **arithmetic}
    return Recipe(steps, **schedule, **rates, **descent, **factors, **images, faithful_to="He et al. (2021)")


@hookimpl
def register_recipes() -> dict[str, Callable[..., Recipe]]:
    """Provide transformer."""
    return {"transformer": transformer}
