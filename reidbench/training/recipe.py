"""The recipe of a training, declared and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from reidbench.errors import OptionError, field_problems
from reidbench.images.augment import Augmentation, Share

Optimizer = Literal["adam", "adamw", "adadelta", "sgd"]
ADAMS = ("adam", "adamw")
Schedule = Literal["exponential", "half_cosine", "milestones"]
Batches = Literal["pk", "shuffled"]
FramePool = Literal["max", "mean"]
Precision = Literal["float32", "tf32", "bf16"]

BelowOne = Annotated[float, Field(ge=0, lt=1)]
# Fields that only change in which order numbers are added, as another device does: no deviations from a paper.
ROUNDING_ONLY = ("channels_last", "compile", "fused")


@dataclass(frozen=True)
class Recipe(Augmentation):
    """Everything up to the checkpoint but the network's own input.

    ``steps``: number of steps.
    ``decay_start``: step after which the learning rate decays and β₁ is ``late_beta1``.
    ``learning_rate``: learning rate up to ``decay_start``; a factor on the optimizer's own steps for Adadelta.
    ``p``: identities in a batch.
    ``k``: images of each identity in a batch.
    ``schedule``: how the learning rate falls: "exponential" (Hermans et al. 2017, Eq. 9) or "half_cosine" from
    ``decay_start`` to ``steps``, or at "milestones".
    ``decay_factor``: share of the learning rate that is left at ``steps``, or after each milestone.
    ``milestones``: steps, rising, from each of which on the learning rate is multiplied by ``decay_factor``.
    ``warmup``: number of first steps in which the learning rate grows linearly to its value.
    ``warmup_start``: share of the learning rate from which it grows.
    ``frozen``: number of first steps in which pretrained layers are fixed, batch norms in evaluation mode.
    ``fixed_norms``: whether pretrained batch norms stay in evaluation mode afterwards; their weights are trained.
    ``new_factor``: factor on the learning rate of all that is not pretrained: new layers and the loss.
    ``bias_factor``: factor on the learning rate of the biases of convolutions and linear layers.
    ``layer_factor``: factor on the learning rate from each layer to the one before, where the network numbers them.
    ``optimizer``: "adam", "adamw", "adadelta" or "sgd".
    ``momentum``: SGD's momentum.
    ``nesterov``: whether SGD's momentum is Nesterov's.
    ``weight_decay``: factor of the weights that is added to their gradient; "adamw" subtracts it times the rate.
    ``decay_vectors``: whether weight decay acts on biases and batch norms too.
    ``beta1``: Adam's β₁ before ``decay_start``.
    ``beta2``: Adam's β₂.
    ``late_beta1``: Adam's β₁ from ``decay_start`` on.
    ``rho``: Adadelta's decay of its running means of squares.
    ``epsilon``: the number that Adadelta adds to these means.
    ``batches``: "pk" for P identities with K images each, "shuffled" for P * K images of a shuffled pass.
    ``crop``: whether images are cropped at random out of 9/8 of the input size.
    ``pad``: black pixels on each side of images that are then cropped at random to the input size.
    ``flip``: whether half of the images are flipped.
    ``jitter``: probability of a change of an image's colours.
    ``brightness``: largest change of the factor 1 on all values.
    ``contrast``: largest change of the factor 1 on the difference from the image's mean grey.
    ``saturation``: largest change of the factor 1 on the difference from each pixel's own grey.
    ``hue``: largest turn of the hue, 0.5 for half of the circle.
    ``erase``: probability that a rectangle of an image is erased.
    ``erase_area``: least and largest share of the image that is erased.
    ``erase_aspect``: least height / width of the rectangle; the largest is its inverse.
    ``erase_fill``: red, green and blue of the erased pixels.
    ``frames``: images of each unit in a batch; its rows are pooled before the loss.
    ``frame_pool``: how they are pooled.
    ``precision``: precision of the network's products; weights and loss stay float32.
    ``channels_last``: whether images and weights are stored with their channels last.
    ``compile``: whether the network runs through torch.compile.
    ``fused``: whether Adam's fused kernel is used.
    ``faithful_to``: the paper whose training this is with all options at their defaults, or an empty text.

    Raises OptionError, with all problems, where a value is out of range.
    """

    steps: PositiveInt
    decay_start: NonNegativeInt
    learning_rate: PositiveFloat
    p: PositiveInt
    k: PositiveInt
    schedule: Schedule = "exponential"
    decay_factor: Share = 0.001
    milestones: tuple[int, ...] = ()
    warmup: NonNegativeInt = 0
    warmup_start: BelowOne = 0.0
    frozen: NonNegativeInt = 0
    fixed_norms: bool = False
    new_factor: PositiveFloat = 1.0
    bias_factor: PositiveFloat = 1.0
    layer_factor: Share = 1.0
    optimizer: Optimizer = "adam"
    momentum: BelowOne = 0.0
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 0.0
    decay_vectors: bool = True
    beta1: BelowOne = 0.9
    beta2: BelowOne = 0.999
    late_beta1: BelowOne = 0.5
    rho: BelowOne = 0.95
    epsilon: PositiveFloat = 1e-6
    batches: Batches = "pk"
    crop: bool = True
    flip: bool = True
    frames: PositiveInt = 1
    frame_pool: FramePool = "max"
    precision: Precision = "float32"
    channels_last: bool = False
    compile: bool = False
    fused: bool = False
    faithful_to: str = ""

    def __post_init__(self) -> None:
        problems = field_problems(self)
        if not problems:
            steps = [0, *self.milestones, self.steps]
            checks = [
                ("decay_start", self.decay_start <= self.steps, f"at most steps={self.steps}"),
                ("milestones", steps == sorted(set(steps)), f"rising and between 1 and {self.steps - 1}"),
                (
                    "schedule",
                    self.schedule == "milestones" or not self.milestones,
                    "milestones where milestones are given",
                ),
                ("warmup", self.warmup <= self.steps, f"at most steps={self.steps}"),
                ("frozen", self.frozen < self.steps, f"below steps={self.steps}"),
                ("momentum", self.optimizer == "sgd" or not self.momentum, f"0 for the optimizer {self.optimizer}"),
                ("nesterov", self.momentum > 0 or not self.nesterov, "false without momentum"),
                ("pad", not (self.pad and self.crop), "0 with crop=true"),
                ("erase_area", self.erase_area[0] <= self.erase_area[1], "rising"),
                ("fused", self.optimizer in ADAMS or not self.fused, f"false for the optimizer {self.optimizer}"),
            ]
            violated = ((name, text, getattr(self, name)) for name, valid, text in checks if not valid)
            problems = [f"{name} must be {text}, got {value}" for name, text, value in violated]
        if problems:
            raise OptionError("; ".join(problems))
