"""How ``check_loss`` measures: losses that have seen nothing, batches that they can read, values and gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reidbench.plugins.interfaces import Loss, LossValue, TrainInfo, TrainView
from reidbench.testing.subject import Subject, expect, normal
from reidbench.training.loop import evaluate_loss
from reidbench.training.recipe import Recipe
from reidbench.training.sampler import sample_round
from reidbench.utils.arrays import IntArray
from reidbench.utils.random_streams import stream

DIM = 8
PEOPLE, IMAGES = 8, 4
RECIPE = Recipe(steps=1, decay_start=0, learning_rate=1.0, p=4, k=4)
LABELS: IntArray = np.repeat(np.arange(PEOPLE, dtype=np.int64), IMAGES)


@dataclass(frozen=True)
class Batch:
    units: IntArray
    rows: Tensor
    labels: Tensor


class LossProbe:
    """A loss under test, with everything that is drawn for it from ``seed``."""

    def __init__(self, subject: Subject, seed: int) -> None:
        self.subject, self.seed = subject, seed

    def fresh(self, dtype: torch.dtype = torch.float64, dim: int = DIM) -> Loss:
        """Return the loss as it is before the first step, its parameters in ``dtype``."""
        loss = self.subject.build(TrainInfo(embedding_dim=dim, num_pids=PEOPLE), seed=self.seed)
        expect(isinstance(loss, Loss), f"expected a reidbench.Loss, its factory returned {type(loss).__name__}")
        return loss.to(dtype).train()  # type: ignore[no-any-return]

    def round(self, loss: Loss, number: int = 0, table: Tensor | None = None) -> list[IntArray]:
        """Return the batches of a round, of its own or P x K, for the embeddings ``table`` of all units."""
        known = normal((len(LABELS), DIM), self.seed, "table").float() if table is None else table.detach().float()
        generator = stream(self.seed, "round", number)
        view = TrainView(LABELS, np.zeros_like(LABELS), RECIPE.p, RECIPE.k, generator, 0, lambda units: known[units])
        torch.manual_seed(number)
        return sample_round(loss, RECIPE, view, number)

    def batch(self, loss: Loss, number: int = 0, dim: int = DIM) -> Batch:
        """Return the first batch of a round with embeddings of its own, float64, no two of them alike."""
        units = self.round(loss, number)[0]
        # Around a centre that is not 0, spread so that hinges are neither all active nor all at rest.
        rows = 1 + normal((len(units), dim), self.seed, "rows", number) / 2
        return Batch(units, rows, torch.from_numpy(LABELS[units]))

    @staticmethod
    def value(loss: Loss, rows: Tensor, labels: Tensor, draw: int = 0) -> LossValue:
        torch.manual_seed(draw)  # as the loop does before every step
        return evaluate_loss(loss, rows, labels)

    def measure(self, loss: Loss, rows: Tensor, labels: Tensor, draw: int = 0) -> tuple[Tensor, Tensor]:
        """Return the total and the gradient for the embeddings [B, D]."""
        rows = rows.detach().clone().requires_grad_()
        total = self.value(loss, rows, labels.clone(), draw).total
        (gradient,) = torch.autograd.grad(total, rows, allow_unused=True)
        expect(gradient is not None, "the total does not depend on the embeddings; compute it without detaching them")
        return total.detach(), gradient
