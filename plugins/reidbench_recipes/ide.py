"""The training of the identification baseline: Adadelta, since difficult images made Adam's loss jump."""

from __future__ import annotations

from collections.abc import Callable

from reidbench import BackboneInfo, Recipe, hookimpl
from reidbench_recipes.options import Precision


def ide(
    backbone: BackboneInfo,
    *,
    steps: int = 25_000,
    decay_start: int | None = None,
    learning_rate: float = 1.0,
    rho: float = 0.95,
    epsilon: float = 1e-6,
    p: int = 18,
    k: int = 4,
    crop: bool = True,
    flip: bool = True,
    precision: Precision = "float32",
    channels_last: bool = False,
    compile: bool = False,  # noqa: A002, as torch calls it
) -> Recipe:
    """Return Adadelta on shuffled batches of 72 images, 25,000 steps, the rate flat for 15,000 and then falling.

    Options:
        steps: Number of steps.
        decay_start: Step from which the learning rate falls; none for 3/5 of steps.
        learning_rate: Factor on Adadelta's own steps up to decay_start.
        rho: Decay of Adadelta's running means of squares, from 0 to below 1.
        epsilon: What Adadelta adds to these means, above 0.
        p: With k, the images of a batch: p * k of a shuffled pass over all images.
        k: With p, the images of a batch.
        crop: Train on random crops of the image enlarged by 9/8.
        flip: Mirror half of the training images.
        precision: Arithmetic of the network: float32, tf32 (NVIDIA GPUs alone), or bf16; the loss is always float32.
        channels_last: Keep images and weights with their channels last, which GPUs are faster with.
        compile: Run the network through torch.compile.

    The learning rate falls to a thousandth at the last step; there is no weight decay. Raises OptionError for values
    that make no training.
    Source: Hermans, Beyer, Leibe 2017, section 3.5, says "Adadelta" and no more; rho and epsilon are those of Zeiler
    2012 and everything else is ours, so this is no training of the paper.
    """
    return Recipe(
        steps=steps,
        decay_start=steps * 3 // 5 if decay_start is None else decay_start,
        learning_rate=learning_rate,
        p=p,
        k=k,
        optimizer="adadelta",
        rho=rho,
        epsilon=epsilon,
        batches="shuffled",
        crop=crop,
        flip=flip,
        precision=precision,
        channels_last=channels_last,
        compile=compile,
    )


@hookimpl
def register_recipes() -> dict[str, Callable[..., Recipe]]:
    """Offer ide."""
    return {"ide": ide}
