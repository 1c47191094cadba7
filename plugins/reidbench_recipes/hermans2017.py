"""The training of Hermans, Beyer, Leibe 2017, for both TriNet and LuNet."""

from __future__ import annotations

from collections.abc import Callable

from reidbench import BackboneInfo, Recipe, hookimpl
from reidbench_recipes.options import Precision, decay_start_of

PRETRAINED, FROM_SCRATCH = 3e-4, 1e-3


def hermans2017(
    backbone: BackboneInfo,
    *,
    steps: int = 25_000,
    decay_start: int | None = None,
    learning_rate: float | None = None,
    p: int | None = None,
    k: int | None = None,
    crop: bool = True,
    flip: bool = True,
    precision: Precision = "float32",
    channels_last: bool = False,
    compile: bool = False,  # noqa: A002, as torch calls it
    fused: bool = False,
) -> Recipe:
    """Return the paper's training: Adam on P x K batches, 25,000 steps, the learning rate decays after 15,000.

    Options:
        steps: Number of steps.
        decay_start: Step after which the learning rate decays and beta1 is 0.5, not 0.9; none for 3/5 of steps.
        learning_rate: Adam's learning rate up to decay_start; none for 0.0003 with pretrained weights, else 0.001.
        p: Identities in a batch; none for the network's own number (18, LuNet 32).
        k: Images of each identity in a batch; none for the network's own number (4).
        crop: Crop training images at random out of the image resized to 9/8 of the input size.
        flip: Flip half of the training images.
        precision: Precision of the network: float32, tf32 (NVIDIA GPUs only) or bf16; the loss is always float32.
        channels_last: Store images and weights with their channels last, which is faster on GPUs.
        compile: Run the network through torch.compile.
        fused: Use Adam's fused kernel.

    The learning rate decays to a thousandth at the last step; there is no weight decay. Raises OptionError for values
    out of range.
    Source: Hermans, Beyer, Leibe 2017, sections 3.2 (Eq. 9), 3.3 and 3.5.
    """
    default_rate = PRETRAINED if backbone.pretrained else FROM_SCRATCH
    default_p, default_k = backbone.batch
    schedule = {
        "decay_start": decay_start_of(steps, decay_start),
        "learning_rate": default_rate if learning_rate is None else learning_rate,
    }
    batch = {"p": default_p if p is None else p, "k": default_k if k is None else k}
    arithmetic = {"precision": precision, "channels_last": channels_last, "compile": compile, "fused": fused}
    return Recipe(steps, **schedule, **batch, crop=crop, flip=flip, **arithmetic, faithful_to="Hermans et al. (2017)")


@hookimpl
def register_recipes() -> dict[str, Callable[..., Recipe]]:
    """Provide hermans2017."""
    return {"hermans2017": hermans2017}
