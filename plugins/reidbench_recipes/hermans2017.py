"""The training of Hermans, Beyer, Leibe 2017, for TriNet and LuNet alike."""

from __future__ import annotations

from collections.abc import Callable

from reidbench import BackboneInfo, Recipe, hookimpl
from reidbench_recipes.options import Precision

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
    """Return the paper's training: Adam on P x K batches, 25,000 steps, the rate flat for 15,000 and then falling.

    Options:
        steps: Number of steps.
        decay_start: Step from which the learning rate falls and beta1 is 0.5, not 0.9; none for 3/5 of steps.
        learning_rate: Adam's learning rate up to decay_start; none for 0.0003 with pretrained weights, else 0.001.
        p: Identities in a batch; none for the network's own number (18, LuNet 32).
        k: Images of each identity in a batch; none for the network's own number (4).
        crop: Train on random crops of the image enlarged by 9/8.
        flip: Mirror half of the training images.
        precision: Arithmetic of the network: float32, tf32 (NVIDIA GPUs alone), or bf16; the loss is always float32.
        channels_last: Keep images and weights with their channels last, which GPUs are faster with.
        compile: Run the network through torch.compile.
        fused: Take the optimizer's fused kernel.

    The learning rate falls to a thousandth at the last step; there is no weight decay. Raises OptionError for values
    that make no training.
    Source: Hermans, Beyer, Leibe 2017, sections 3.2 (Eq. 9), 3.3 and 3.5.
    """
    if decay_start is None:
        decay_start = steps * 3 // 5
    if learning_rate is None:
        learning_rate = PRETRAINED if backbone.pretrained else FROM_SCRATCH
    return Recipe(
        steps=steps,
        decay_start=decay_start,
        learning_rate=learning_rate,
        p=backbone.batch[0] if p is None else p,
        k=backbone.batch[1] if k is None else k,
        crop=crop,
        flip=flip,
        precision=precision,
        channels_last=channels_last,
        compile=compile,
        fused=fused,
        faithful_to="Hermans et al. (2017)",
    )


@hookimpl
def register_recipes() -> dict[str, Callable[..., Recipe]]:
    """Offer hermans2017."""
    return {"hermans2017": hermans2017}
