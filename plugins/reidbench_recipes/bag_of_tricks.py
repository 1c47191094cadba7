"""The trainings of two strong baselines, bag of tricks and AGW, which differ in network and losses only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reidbench import BackboneInfo, Recipe, hookimpl
from reidbench_recipes.options import ErasedPixels, Precision, erased_pixels, milestones_at, padding_of


def bag_of_tricks(
    backbone: BackboneInfo,
    *,
    steps: int = 22_000,
    learning_rate: float = 3.5e-4,
    warmup: int | None = None,
    decay: bool = True,
    weight_decay: float = 5e-4,
    p: int = 16,
    k: int = 4,
    pad: int | None = None,
    flip: bool = True,
    erase: float = 0.5,
    erased: ErasedPixels = "mean",
    jitter: float = 0.0,
    brightness: float = 0.15,
    contrast: float = 0.15,
    saturation: float = 0.1,
    hue: float = 0.1,
    precision: Precision = "float32",
    channels_last: bool = False,
    compile: bool = False,  # noqa: A002, as torch calls it
    fused: bool = False,
) -> Recipe:
    """Return Adam on P x K batches with warm-up, milestones, padding and random erasing, 22,000 steps (120 epochs).

    Options:
        steps: Number of steps.
        learning_rate: Adam's learning rate after the warm-up.
        warmup: Number of first steps in which the rate grows from a hundredth of it; none for 1/12 of the steps.
        decay: Divide the rate by ten after 1/3 and again after 7/12 of the steps.
        weight_decay: Factor of the weights that is added to their gradient.
        p: Identities in a batch.
        k: Images of each identity in a batch.
        pad: Black pixels on each side before the random crop; none for 10 at a height of 256, in proportion.
        flip: Flip half of the training images.
        erase: Probability that a rectangle of an image is erased.
        erased: Its pixels: the "mean" pixel, or those that the released "code" writes.
        jitter: Probability that the colours of an image change.
        brightness: Largest change of the factor on all values.
        contrast: Largest change of the factor on the difference from the image's mean grey.
        saturation: Largest change of the factor on the difference from each pixel's grey.
        hue: Largest turn of the hue, 0.5 for half of the circle.
        precision: Precision of the network: float32, tf32 (NVIDIA GPUs only) or bf16; the loss is always float32.
        channels_last: Store images and weights with their channels last, which is faster on GPUs.
        compile: Run the network through torch.compile.
        fused: Use Adam's fused kernel.

    Raises OptionError for values out of range.
    Source: Luo, Gu, Liao, Lai, Jiang 2019, "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", and
    its code, michuanhaohao/reid-strong-baseline; jitter is not theirs, its ranges are those of JDAI-CV/fast-reid.
    """
    milestones = milestones_at(steps, 1 / 3, 7 / 12) if decay else {}
    warmup_steps = steps // 12 if warmup is None else warmup
    rates = {"learning_rate": learning_rate, "weight_decay": weight_decay, "warmup": warmup_steps, "warmup_start": 0.01}
    jitters = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue, "jitter": jitter}
    crops = {"crop": False, "pad": padding_of(backbone, pad), "flip": flip}
    erasing = {"erase": erase, "erase_fill": erased_pixels(backbone, erased)}
    arithmetic = {"precision": precision, "channels_last": channels_last, "compile": compile, "fused": fused}
    paper = "Luo et al. (2019)"
    return Recipe(
        steps, steps, p=p, k=k, **rates, **milestones, **crops, **erasing, **jitters, **arithmetic, faithful_to=paper
    )


def agw(
    backbone: BackboneInfo,
    *,
    steps: int = 22_000,
    learning_rate: float = 3.5e-4,
    warmup: int | None = None,
    decay: bool = True,
    weight_decay: float = 5e-4,
    p: int = 16,
    k: int = 4,
    pad: int | None = None,
    flip: bool = True,
    erase: float = 0.5,
    erased: ErasedPixels = "mean",
    jitter: float = 0.0,
    brightness: float = 0.15,
    contrast: float = 0.15,
    saturation: float = 0.1,
    hue: float = 0.1,
    precision: Precision = "float32",
    channels_last: bool = False,
    compile: bool = False,  # noqa: A002, as torch calls it
    fused: bool = False,
) -> Recipe:
    """Return the training of bag of tricks, which is AGW's too: 22,000 steps (120 epochs).

    Options:
        steps: Number of steps.
        learning_rate: Adam's learning rate after the warm-up.
        warmup: Number of first steps in which the rate grows from a hundredth of it; none for 1/12 of the steps.
        decay: Divide the rate by ten after 1/3 and again after 7/12 of the steps.
        weight_decay: Factor of the weights that is added to their gradient.
        p: Identities in a batch.
        k: Images of each identity in a batch.
        pad: Black pixels on each side before the random crop; none for 10 at a height of 256, in proportion.
        flip: Flip half of the training images.
        erase: Probability that a rectangle of an image is erased.
        erased: Its pixels: the "mean" pixel, or those that the released "code" writes.
        jitter: Probability that the colours of an image change.
        brightness: Largest change of the factor on all values.
        contrast: Largest change of the factor on the difference from the image's mean grey.
        saturation: Largest change of the factor on the difference from each pixel's grey.
        hue: Largest turn of the hue, 0.5 for half of the circle.
        precision: Precision of the network: float32, tf32 (NVIDIA GPUs only) or bf16; the loss is always float32.
        channels_last: Store images and weights with their channels last, which is faster on GPUs.
        compile: Run the network through torch.compile.
        fused: Use Adam's fused kernel.

    Raises OptionError for values out of range.
    Source: Ye, Shen, Lin, Xiang, Shao, Hoi 2021, "Deep Learning for Person Re-identification: A Survey and Outlook",
    and its code, mangye16/ReID-Survey. Non-local blocks, pooling and losses are no part of a recipe.
    """
    arguments = dict(locals())
    return replace(bag_of_tricks(**arguments), faithful_to="Ye et al. (2021)")


@hookimpl
def register_recipes() -> dict[str, Callable[..., Recipe]]:
    """Provide bag_of_tricks and agw."""
    return {"bag_of_tricks": bag_of_tricks, "agw": agw}
