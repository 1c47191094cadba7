"""How ``check_loss`` measures: freshly built losses, batches that they can read, values and gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reidbench.plugins.interfaces import Loss, LossValue, TrainInfo, TrainView
from reidbench.testing.checked_item import DIM, Checks, expect, normal
from reidbench.training.build import check_loss, euclidean_pairs
from reidbench.training.loop import evaluate_loss
from reidbench.training.recipe import Recipe
from reidbench.training.sampler import sample_round
from reidbench.utils.arrays import IntArray
from reidbench.utils.random_streams import stream

IDENTITIES, IMAGES = 8, 4
RECIPE = Recipe(steps=1, decay_start=0, learning_rate=1.0, p=4, k=4)
LABELS: IntArray = np.repeat(np.arange(IDENTITIES, dtype=np.int64), IMAGES)


@dataclass(frozen=True)
class Batch:
    """A batch for a loss.

    ``units``: indices [B] into ``LABELS``.
    ``rows``: embeddings [B, D] float64.
    ``labels``: identities [B] int64 from 0.
    """

    units: IntArray
    rows: Tensor
    labels: Tensor


class LossProbe(Checks):
    """A loss under test; embeddings, batches and the loss's own parameters follow from ``seed``."""

    def fresh(self, dtype: torch.dtype = torch.float64, dim: int = DIM) -> Loss:
        """Return the loss as it is before the first step, its parameters in ``dtype``."""
        loss = check_loss(self.spec, self.build(TrainInfo(dim, IDENTITIES, euclidean_pairs)))
        return loss.to(dtype).train()

    def start(self, dtype: torch.dtype = torch.float64, dim: int = DIM) -> tuple[Loss, Batch]:
        """Return a fresh loss and its first batch."""
        loss = self.fresh(dtype, dim)
        return loss, self.batch(loss, dim=dim)

    def view(self, number: int, table: Tensor | None = None) -> TrainView:
        """Return what the loss sees before round ``number``, for the embeddings ``table`` [n, D] of all units."""
        rows = normal((len(LABELS), DIM), self.seed, "table").float() if table is None else table.detach().float()
        generator = stream(self.seed, "round", number)
        return TrainView(LABELS, RECIPE.p, RECIPE.k, generator, lambda units: rows[units])

    @property
    def has_own_rounds(self) -> bool:
        """Whether the loss samples its own batches, whose order it may read."""
        return self.fresh().next_round(self.view(0), 0) is not None

    def round(self, loss: Loss, number: int = 0, table: Tensor | None = None) -> list[IntArray]:
        """Return the batches of a round: the loss's own or P x K."""
        torch.default_generator.manual_seed(number)
        return sample_round(loss, RECIPE, self.view(number, table), number)

    def batch(self, loss: Loss, number: int = 0, dim: int = DIM) -> Batch:
        """Return the first batch of a round, with embeddings of its own, no two of them alike."""
        units = self.round(loss, number)[0]
        # Around a centre that is not 0, spread so that of the hinges some are active and some are not.
        rows = 1 + normal((len(units), dim), self.seed, "rows", number) / 2
        return Batch(units, rows, torch.from_numpy(LABELS[units]))

    @staticmethod
    def value(loss: Loss, rows: Tensor, labels: Tensor, step: int = 0) -> LossValue:
        """Return the loss of a batch, with torch seeded by ``step`` as the loop does before every step."""
        torch.default_generator.manual_seed(step)
        return evaluate_loss(loss, rows, labels)

    def measure(self, loss: Loss, rows: Tensor, labels: Tensor, step: int = 0) -> tuple[Tensor, Tensor]:
        """Return the total and the gradient for the embeddings [B, D]; neither they nor the labels may be changed."""
        given, own_labels = rows.detach().clone().requires_grad_(), labels.clone()
        total = self.value(loss, given, own_labels, step).total
        unchanged = torch.equal(given, rows) and torch.equal(own_labels, labels)
        expect(unchanged, "forward changed the embeddings or the labels in place")
        (gradient,) = torch.autograd.grad(total, given, allow_unused=True)
        expect(gradient is not None, "the total does not depend on the embeddings; compute it without detaching them")
        return total.detach(), gradient
