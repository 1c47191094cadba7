"""The training of the identification baseline: Adadelta, since difficult images made the loss jump under Adam."""

from __future__ import annotations

from collections.abc import Callable

from reidbench import BackboneInfo, Recipe, hookimpl
from reidbench_recipes.options import Precision, decay_start_of


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
    """Return Adadelta on shuffled batches of 72 images, 25,000 steps, the learning rate decays after 15,000.

    Options:
        steps: Number of steps.
        decay_start: Step after which the learning rate decays; none for 3/5 of steps.
        learning_rate: Factor on Adadelta's own steps up to decay_start.
        rho: Decay of Adadelta's running means of squares, from 0 to below 1.
        epsilon: The number that Adadelta adds to these means, above 0.
        p: With k, the images of a batch: p * k of a shuffled pass over all images.
        k: With p, the images of a batch.
        crop: Crop training images at random out of the image resized to 9/8 of the input size.
        flip: Flip half of the training images.
        precision: Precision of the network: float32, tf32 (NVIDIA GPUs only) or bf16; the loss is always float32.
        channels_last: Store images and weights with their channels last, which is faster on GPUs.
        compile: Run the network through torch.compile.

    The learning rate decays to a thousandth at the last step; there is no weight decay. Raises OptionError for values
    out of range.
    Source: Hermans, Beyer, Leibe 2017, section 3.5, says only "Adadelta"; rho and epsilon are those of Zeiler 2012 and
    everything else is ours, so this is not a training of the paper.
    """
    schedule = {"decay_start": decay_start_of(steps, decay_start), "learning_rate": learning_rate}
    adadelta = {"optimizer": "adadelta", "rho": rho, "epsilon": epsilon, "batches": "shuffled"}
    arithmetic = {"precision": precision, "channels_last": channels_last, "compile": compile}
    return Recipe(steps, **schedule, p=p, k=k, **adadelta, crop=crop, flip=flip, **arithmetic)


@hookimpl
def register_recipes() -> dict[str, Callable[..., Recipe]]:
    """Provide ide."""
    return {"ide": ide}
