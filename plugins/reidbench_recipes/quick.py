"""The paper's training in miniature: the same shape, 300 steps instead of 25,000."""

from __future__ import annotations

from collections.abc import Callable

from reidbench import BackboneInfo, Recipe, hookimpl
from reidbench_recipes.options import Precision


def quick(
    backbone: BackboneInfo,
    *,
    steps: int = 300,
    learning_rate: float = 1e-3,
    p: int = 18,
    k: int = 4,
    crop: bool = True,
    flip: bool = True,
    decay_start: int | None = None,
    precision: Precision = "float32",
    channels_last: bool = False,
    compile: bool = False,  # noqa: A002, as torch calls it
    fused: bool = False,
) -> Recipe:
    """Return Adam on P x K batches with a flat, then falling learning rate: about a minute with a small network.

    Options:
        steps: Number of steps.
        learning_rate: Adam's learning rate up to decay_start.
        p: Identities in a batch.
        k: Images of each identity in a batch.
        crop: Train on random crops of the image enlarged by 9/8.
        flip: Mirror half of the training images.
        decay_start: Step from which the learning rate falls and beta1 is 0.5, not 0.9; none for 3/5 of steps.
        precision: Arithmetic of the network: float32, tf32 (NVIDIA GPUs alone), or bf16; the loss is always float32.
        channels_last: Keep images and weights with their channels last, which GPUs are faster with.
        compile: Run the network through torch.compile.
        fused: Take the optimizer's fused kernel.

    The learning rate falls to a thousandth at the last step. Raises OptionError for values that make no training.
    Source: Hermans, Beyer, Leibe 2017, section 3.2 and Eq. 9, whose decay starts at 15,000 of 25,000 steps; the
    number of steps is ours, so this is no training of the paper.
    """
    if decay_start is None:
        decay_start = steps * 3 // 5
    return Recipe(
        steps=steps,
        decay_start=decay_start,
        learning_rate=learning_rate,
        p=p,
        k=k,
        crop=crop,
        flip=flip,
        precision=precision,
        channels_last=channels_last,
        compile=compile,
        fused=fused,
        faithful_to="",
    )


@hookimpl
def register_recipes() -> dict[str, Callable[..., Recipe]]:
    """Offer quick."""
    return {"quick": quick}
