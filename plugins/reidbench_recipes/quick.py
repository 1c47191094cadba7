"""A short version of the paper's training: 300 steps instead of 25,000."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from reidbench import BackboneInfo, LaterOption, Recipe, hookimpl
from reidbench_recipes.options import Precision, decay_start_of


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
    frames: Annotated[int, LaterOption] = 1,
    frame_pool: Annotated[Literal["max", "mean"], LaterOption] = "max",
) -> Recipe:
    """Return Adam on P x K batches for 300 steps with a decaying learning rate: about a minute with a small network.

    Options:
        steps: Number of steps.
        learning_rate: Adam's learning rate up to decay_start.
        p: Identities in a batch.
        k: Images of each identity in a batch.
        crop: Crop training images at random out of the image resized to 9/8 of the input size.
        flip: Flip half of the training images.
        decay_start: Step after which the learning rate decays and beta1 is 0.5, not 0.9; none for 3/5 of steps.
        precision: Precision of the network: float32, tf32 (NVIDIA GPUs only) or bf16; the loss is always float32.
        channels_last: Store images and weights with their channels last, which is faster on GPUs.
        compile: Run the network through torch.compile.
        fused: Use Adam's fused kernel.
        frames: Images of each unit, such as a tracklet, in a batch.
        frame_pool: How the embeddings of these are pooled before the loss.

    The learning rate decays to a thousandth at the last step. Raises OptionError for values out of range.
    Source: Hermans, Beyer, Leibe 2017, section 3.2 and Eq. 9, whose decay starts at 15,000 of 25,000 steps; the
    number of steps is ours, so this is not a training of the paper.
    """
    schedule = {"decay_start": decay_start_of(steps, decay_start), "learning_rate": learning_rate}
    arithmetic = {"precision": precision, "channels_last": channels_last, "compile": compile, "fused": fused}
    batch = {"p": p, "k": k, "crop": crop, "flip": flip, "frames": frames, "frame_pool": frame_pool}
    return Recipe(steps, **schedule, **batch, **arithmetic)


@hookimpl
def register_recipes() -> dict[str, Callable[..., Recipe]]:
    """Provide quick."""
    return {"quick": quick}
