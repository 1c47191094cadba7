"""Options that all recipes here share, and points of their schedules."""

from __future__ import annotations

from typing import Any, Literal

from reidbench import BackboneInfo

Precision = Literal["float32", "tf32", "bf16"]
ErasedPixels = Literal["mean", "code"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)


def decay_start_of(steps: int, decay_start: int | None) -> int:
    """Return ``decay_start``, or 3/5 of ``steps`` where it is None, as 15,000 of 25,000 in Hermans et al. 2017."""
    return steps * 3 // 5 if decay_start is None else decay_start


def milestones_at(steps: int, *shares: float) -> dict[str, Any]:
    """Return a schedule that divides the learning rate by 10 at rising shares of ``steps``.

    A short training lacks the milestones for which it has no step of their own.
    """
    milestones = dict.fromkeys(round(share * steps) for share in shares)
    within = tuple(milestone for milestone in milestones if 0 < milestone < steps)
    return {"schedule": "milestones", "decay_factor": 0.1, "milestones": within}


def padding_of(backbone: BackboneInfo, pad: int | None) -> int:
    """Return ``pad``, or where it is None 10 pixels at a height of 256, in proportion to the network's height."""
    return round(10 * backbone.preprocess.height / 256) if pad is None else pad


def erased_pixels(backbone: BackboneInfo, erased: ErasedPixels) -> tuple[int, int, int]:
    """Return the bytes of erased pixels.

    "mean" is the mean pixel of the network's normalisation, or ImageNet's where that has none; "code" are ImageNet's
    means written into normalised images, as in the code of Luo et al. 2019.
    """
    mean, std = backbone.preprocess.mean, backbone.preprocess.std
    pixels = mean if any(mean) else IMAGENET_MEAN
    if erased == "code":
        pixels = tuple(centre + scale * value for centre, scale, value in zip(mean, std, IMAGENET_MEAN, strict=True))
    red, green, blue = (round(255 * value) for value in pixels)
    return red, green, blue
