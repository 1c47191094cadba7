"""The training of the first identification baselines (IDE), after their published Caffe code."""

from __future__ import annotations

from collections.abc import Callable

from reidbench import BackboneInfo, Recipe, hookimpl
from reidbench_recipes.options import Precision, milestones_at


def ide_caffe(
    backbone: BackboneInfo,
    *,
    steps: int = 50_000,
    learning_rate: float = 1e-3,
    p: int = 4,
    k: int = 4,
    precision: Precision = "float32",
    channels_last: bool = False,
    compile: bool = False,  # noqa: A002, as torch calls it
) -> Recipe:
    """Return SGD on shuffled batches, x 0.1 after 2/5 and 4/5 of the steps; pretrained batch norms are fixed.

    Options:
        steps: Number of steps: 50,000 for ResNet-50, 10,000 for CaffeNet.
        learning_rate: Learning rate up to the first milestone; biases have twice the rate.
        p: With k, the images of a batch: 16 for ResNet-50, 64 for CaffeNet.
        k: With p, the images of a batch: p * k of a shuffled pass over all images.
        precision: Precision of the network: float32, tf32 (NVIDIA GPUs only) or bf16; the loss is always float32.
        channels_last: Store images and weights with their channels last, which is faster on GPUs.
        compile: Run the network through torch.compile.

    Raises OptionError for values out of range.
    Source: zhunzhong07/IDE-baseline-Market-1501, of which [43] of Hermans et al. 2017 is a continuation: momentum 0.9,
    weight decay 0.0005, biases at twice the rate without decay, batch norms with the statistics of ImageNet, no crop.
    No decay of the weights of batch norms is ours, and that all images train (theirs holds a tenth out), so this is not
    a training of the paper.
    """
    schedule = {"learning_rate": learning_rate, **milestones_at(steps, 2 / 5, 4 / 5), "fixed_norms": True}
    descent = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "decay_vectors": False, "bias_factor": 2.0}
    arithmetic = {"precision": precision, "channels_last": channels_last, "compile": compile}
    batches = {"p": p, "k": k, "batches": "shuffled", "crop": False}
    return Recipe(steps, steps, **schedule, **descent, **batches, **arithmetic)


@hookimpl
def register_recipes() -> dict[str, Callable[..., Recipe]]:
    """Provide ide_caffe."""
    return {"ide_caffe": ide_caffe}
