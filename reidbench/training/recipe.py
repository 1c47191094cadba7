"""The recipe: everything up to the checkpoint but the network's own input, with the checks that it can be trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reidbench.errors import OptionError

# Options that change in which order numbers are added, as another device does, and nothing else: no deviations.
ROUNDING_ONLY = ("channels_last", "compile", "fused")


@dataclass(frozen=True)
class Recipe:
    """Everything up to the checkpoint but the network's own input; declarative.

    The learning rate is flat up to ``decay_start`` and then falls exponentially to ``learning_rate * decay_factor`` at
    ``steps`` (Hermans et al. 2017, Eq. 9). ``optimizer`` is "adam", whose beta1 switches to ``late_beta1`` at
    ``decay_start``, or "adadelta" with ``rho`` and ``epsilon``, whose rate is a factor on its own steps. ``batches`` is
    "pk" (P identities with K images) or "shuffled" (P * K images of a shuffled pass). ``precision`` is that of the
    network's products ("tf32" on GPUs alone, "bf16" by autocast; weights and loss stay float32), ``channels_last`` its
    memory layout; ``compile`` runs it through torch.compile, ``fused`` takes Adam's fused kernel. ``faithful_to`` names
    the paper whose training this is with all options at their defaults, or is empty.
    Raises OptionError for values that no training can have.
    """

    steps: int
    decay_start: int
    learning_rate: float
    p: int
    k: int
    decay_factor: float = 0.001
    optimizer: Literal["adam", "adadelta"] = "adam"
    beta1: float = 0.9
    beta2: float = 0.999
    late_beta1: float = 0.5
    rho: float = 0.95
    epsilon: float = 1e-6
    batches: Literal["pk", "shuffled"] = "pk"
    crop: bool = True
    flip: bool = True
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    fused: bool = False
    faithful_to: str = ""

    def __post_init__(self) -> None:
        sound = {
            f"steps must be 1 or more, got {self.steps}": self.steps >= 1,
            f"decay_start must be between 0 and steps={self.steps}, got {self.decay_start}": 0
            <= self.decay_start
            <= self.steps,
            f"learning_rate must be above 0, got {self.learning_rate:g}": self.learning_rate > 0,
            f"decay_factor must be above 0 and at most 1, got {self.decay_factor:g}": 0 < self.decay_factor <= 1,
            f"optimizer must be adam or adadelta, got {self.optimizer}": self.optimizer in ("adam", "adadelta"),
            f"precision must be float32, tf32 or bf16, got {self.precision}": self.precision
            in ("float32", "tf32", "bf16"),
            f"fused is of adam alone, the optimizer is {self.optimizer}": self.optimizer == "adam" or not self.fused,
            f"epsilon must be above 0, got {self.epsilon:g}": self.epsilon > 0,
            f"p and k must be 1 or more, got {self.p} and {self.k}": self.p >= 1 and self.k >= 1,
        } | {
            f"{name} must be from 0 to below 1, got {value:g}": 0 <= value < 1
            for name, value in (
                ("beta1", self.beta1),
                ("beta2", self.beta2),
                ("late_beta1", self.late_beta1),
                ("rho", self.rho),
            )
        }
        if wrong := [text for text, fine in sound.items() if not fine]:
            raise OptionError("; ".join(wrong))
