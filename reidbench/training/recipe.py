"""The recipe of a training, declared and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from reidbench.errors import OptionError

Optimizer = Literal["adam", "adadelta"]
Batches = Literal["pk", "shuffled"]
FramePool = Literal["max", "mean"]
Precision = Literal["float32", "tf32", "bf16"]

_LITERALS = {"optimizer": Optimizer, "batches": Batches, "frame_pool": FramePool, "precision": Precision}
CHOICES = {name: get_args(literal) for name, literal in _LITERALS.items()}
BELOW_ONE = ("beta1", "beta2", "late_beta1", "rho")
# Fields that only change in which order numbers are added, as another device does: no deviations from a paper.
ROUNDING_ONLY = ("channels_last", "compile", "fused")


@dataclass(frozen=True)
class Recipe:
    """Everything up to the checkpoint but the network's own input.

    ``steps``: number of steps.
    ``decay_start``: step after which the learning rate decays and β₁ is ``late_beta1``.
    ``learning_rate``: learning rate up to ``decay_start``; a factor on the optimizer's own steps for Adadelta.
    ``p``: identities in a batch.
    ``k``: images of each identity in a batch.
    ``decay_factor``: share of the learning rate that is left at ``steps`` (Hermans et al. 2017, Eq. 9).
    ``optimizer``: "adam" or "adadelta".
    ``beta1``: Adam's β₁ before ``decay_start``.
    ``beta2``: Adam's β₂.
    ``late_beta1``: Adam's β₁ from ``decay_start`` on.
    ``rho``: Adadelta's decay of its running means of squares.
    ``epsilon``: the number that Adadelta adds to these means.
    ``batches``: "pk" for P identities with K images each, "shuffled" for P * K images of a shuffled pass.
    ``crop``: whether images are cropped at random out of 9/8 of the input size.
    ``flip``: whether half of the images are flipped.
    ``frames``: images of each unit in a batch; its rows are pooled before the loss.
    ``frame_pool``: how they are pooled.
    ``precision``: precision of the network's products; weights and loss stay float32.
    ``channels_last``: whether images and weights are stored with their channels last.
    ``compile``: whether the network runs through torch.compile.
    ``fused``: whether Adam's fused kernel is used.
    ``faithful_to``: the paper whose training this is with all options at their defaults, or an empty text.

    Raises OptionError, with all problems, where a value is out of range.
    """

    steps: int
    decay_start: int
    learning_rate: float
    p: int
    k: int
    decay_factor: float = 0.001
    optimizer: Optimizer = "adam"
    beta1: float = 0.9
    beta2: float = 0.999
    late_beta1: float = 0.5
    rho: float = 0.95
    epsilon: float = 1e-6
    batches: Batches = "pk"
    crop: bool = True
    flip: bool = True
    frames: int = 1
    frame_pool: FramePool = "max"
    precision: Precision = "float32"
    channels_last: bool = False
    compile: bool = False
    fused: bool = False
    faithful_to: str = ""

    def __post_init__(self) -> None:
        checks = [
            ("steps", self.steps >= 1, "1 or more"),
            ("decay_start", 0 <= self.decay_start <= self.steps, f"between 0 and steps={self.steps}"),
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("p", self.p >= 1, "1 or more"),
            ("k", self.k >= 1, "1 or more"),
            ("frames", self.frames >= 1, "1 or more"),
            ("decay_factor", 0 < self.decay_factor <= 1, "above 0 and at most 1"),
            ("epsilon", self.epsilon > 0, "above 0"),
            ("fused", self.optimizer == "adam" or not self.fused, f"false for the optimizer {self.optimizer}"),
        ]
        checks += [(name, 0 <= getattr(self, name) < 1, "from 0 to below 1") for name in BELOW_ONE]
        checks += [(name, getattr(self, name) in values, " or ".join(values)) for name, values in CHOICES.items()]
        if problems := [
            f"{name} must be {text}, got {getattr(self, name)}" for name, valid, text in checks if not valid
        ]:
            raise OptionError("; ".join(problems))
