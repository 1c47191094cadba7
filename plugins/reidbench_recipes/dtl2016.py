"""A two-step fine-tuning after Geng et al. 2016, whose numbers are ours."""

from __future__ import annotations

from collections.abc import Callable

from reidbench import BackboneInfo, Recipe, hookimpl
from reidbench_recipes.options import Precision, milestones_at


def dtl2016(
    backbone: BackboneInfo,
    *,
    steps: int = 25_000,
    frozen: int | None = None,
    learning_rate: float = 1e-3,
    p: int = 18,
    k: int = 4,
    precision: Precision = "float32",
    channels_last: bool = False,
    compile: bool = False,  # noqa: A002, as torch calls it
) -> Recipe:
    """Return a fine-tuning in two steps: new layers alone learn in the first 2,000 of 25,000 steps, then all.

    Options:
        steps: Number of steps.
        frozen: Number of first steps in which pretrained layers are fixed; none for 2/25 of steps.
        learning_rate: Learning rate of pretrained layers, ten times it for new ones; a tenth after 2/3 of the steps.
        p: With k, the images of a batch: p * k, which are half as many pairs.
        k: With p, the images of a batch.
        precision: Precision of the network: float32, tf32 (NVIDIA GPUs only) or bf16; the loss is always float32.
        channels_last: Store images and weights with their channels last, which is faster on GPUs.
        compile: Run the network through torch.compile.

    Raises OptionError for values out of range.
    Source: Geng, Wang, Xiang, Tian 2016, "Deep Transfer Learning for Person Re-identification": fine-tuning in two
    steps. They published no rates, steps or batches, so that every number here is ours.
    """
    schedule = {
        "learning_rate": learning_rate,
        **milestones_at(steps, 2 / 3),
        "frozen": steps * 2 // 25 if frozen is None else frozen,
    }
    descent = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "new_factor": 10.0}
    arithmetic = {"precision": precision, "channels_last": channels_last, "compile": compile}
    batches = {"p": p, "k": k, "batches": "shuffled"}
    return Recipe(steps, steps, **schedule, **descent, **batches, **arithmetic)


@hookimpl
def register_recipes() -> dict[str, Callable[..., Recipe]]:
    """Provide dtl2016."""
    return {"dtl2016": dtl2016}
