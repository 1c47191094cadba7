"""``check_loss``: the contract of a loss, from the shape of its value to whether minimising it separates identities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reidbench.errors import ReidbenchError
from reidbench.plugins.interfaces import Loss, LossValue, TrainInfo, TrainView
from reidbench.plugins.spec import write_value
from reidbench.testing.checked_item import DIM, Checks, NotApplicable, Violation, contract_check, normal, share_in_order
from reidbench.training import build
from reidbench.training.loop import evaluate_loss
from reidbench.training.recipe import Recipe
from reidbench.training.sampler import sample_round
from reidbench.utils.arrays import IntArray
from reidbench.utils.random_streams import stream

IDENTITIES, IMAGES = 8, 4
INFO = TrainInfo(DIM, IDENTITIES, build.euclidean_pairs)
LABELS: IntArray = np.repeat(np.arange(IDENTITIES, dtype=np.int64), IMAGES)
TABLE = normal((len(LABELS), DIM), "table")
RECIPE = Recipe(steps=1, decay_start=0, learning_rate=1.0, p=4, k=4)
STEPS, LEARNING_RATE = 200, 0.05  # of the training on free embeddings
DIRECTIONS, STEP = 6, 1e-5  # of the finite differences
LARGE = 1e4


class _LossChecks(Checks):
    """The checks of a loss, or of a sum of losses; each starts from freshly built losses."""

    def fresh(self, dtype: torch.dtype = torch.float64) -> Loss:
        """Return the loss as it is before the first step, its parameters in ``dtype``."""
        return build.check_loss(self.spec, self.build(INFO)).to(dtype).train()

    def round(self, loss: Loss, number: int = 0, table: Tensor = TABLE) -> list[IntArray]:
        """Return the batches of a round: the loss's own or P x K; ``table`` [n, D] are the embeddings of all units."""
        torch.default_generator.manual_seed(number)
        return sample_round(loss, RECIPE, self.view(number, table), number)

    @staticmethod
    def view(number: int = 0, table: Tensor = TABLE) -> TrainView:
        rows = table.detach().float()
        return TrainView(LABELS, RECIPE.p, RECIPE.k, stream(0, "round", number), lambda units: rows[units])

    @property
    def has_own_rounds(self) -> bool:
        """Whether the loss samples its own batches, whose order it may read."""
        return self.fresh().next_round(self.view(), 0) is not None

    def batch(self, dtype: torch.dtype = torch.float64, number: int = 0) -> tuple[Tensor, Tensor]:
        """Return embeddings [B, D], no two of them alike, and identities [B] of the first batch of a round."""
        units = self.round(self.fresh(), number)[0]
        # Around a centre that is not 0, spread so that of the hinges some are active and some are not.
        rows = 1 + normal((len(units), DIM), "rows", number) / 2
        return rows.to(dtype), torch.from_numpy(LABELS[units])

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
        self.expect(unchanged, "forward changed the embeddings or the labels in place")
        (gradient,) = torch.autograd.grad(total, given, allow_unused=True)
        self.expect(gradient is not None, "the total does not depend on the embeddings; are they detached?")
        return total.detach(), gradient

    def check_contract(self) -> None:
        self.expect_groups(self.fresh())

    def check_rounds(self) -> None:
        if not self.has_own_rounds:
            raise NotApplicable
        loss = self.fresh()
        for number in range(2):
            first, second = ([batch.tolist() for batch in self.round(loss, number)] for _ in range(2))
            self.expect(first == second, f"round {number} sampled twice gave other batches; use view.generator alone")

    def check_shapes(self) -> None:
        for dtype in (torch.float64, torch.float32):
            value = self.value(self.fresh(dtype), *self.batch(dtype))
            for name, tensor in {"total": value.total, **value.per_item, **value.scalars}.items():
                self.expect_finite(tensor.detach(), f"{name} of an ordinary batch")
            own = value.total.dtype
            self.expect(own == dtype, f"for {dtype} embeddings the total must be {dtype}, got {own}")

    def check_gradient_is_that_of_the_value(self) -> None:
        rows, labels = self.batch()
        _, gradient = self.measure(self.fresh(), rows, labels)
        self.expect_finite(gradient, "the gradient of an ordinary batch")
        if self.fresh().partial_gradient:
            raise NotApplicable
        wrong = []
        for number in range(DIRECTIONS):
            direction = normal((len(rows), DIM), "direction", number)
            direction /= direction.norm()
            above, below = (
                self.value(self.fresh(), rows + step * direction, labels).total.item() for step in (STEP, -STEP)
            )
            numeric, analytic = (above - below) / (2 * STEP), (gradient * direction).sum().item()
            if not math.isclose(numeric, analytic, rel_tol=1e-4, abs_tol=1e-7):
                wrong.append(f"{analytic:.6g} where the value changes by {numeric:.6g}")
        # A hinge may bend at this point in one direction or two; a wrong gradient is wrong in all.
        observation = f"in {len(wrong)} of {DIRECTIONS} directions the gradient is {'; '.join(wrong[:2])}"
        self.expect(2 * len(wrong) < DIRECTIONS, f"{observation}; is a part detached, or computed in lower precision?")

    def check_order_of_the_batch(self) -> None:
        rows, labels = self.batch()

        def measure(places: Tensor, step: int = 0) -> tuple[Tensor, Tensor]:
            loss = self.fresh().eval()  # in training, dropout and the like draw random numbers by position
            return self.measure(loss, rows[places], labels[places], step)

        places = torch.arange(len(rows))
        total, gradient = measure(places)
        if self.has_own_rounds or not torch.equal(total, measure(places, step=1)[0]):
            raise NotApplicable
        shuffled = torch.from_numpy(stream(0, "order").permutation(len(rows)))
        other_total, other_gradient = measure(shuffled)
        advice = "compare labels, not positions, or return batches of your own from next_round"
        self.expect_equal(total, other_total, "the values of one batch in two orders", 1e-9, advice)
        self.expect_equal(gradient[shuffled], other_gradient, "the gradients of one batch in two orders", 1e-7, advice)

    def check_extreme_batches(self) -> None:
        rows, labels = self.batch(torch.float32)
        identities = 1 + normal((IDENTITIES, DIM), "identities").float() / 2
        batches = {
            "all embeddings in one point": (rows[:1].expand_as(rows), labels),
            "each identity in one point": (identities[labels], labels),
            "all embeddings 0": (torch.zeros_like(rows), labels),
            f"entries of about {LARGE:.0e}": (LARGE * rows, labels),
        }
        if self.fresh().unlabelled:
            none = torch.full_like(labels, -1)
            batches["some labels of -1"] = rows, torch.where(labels % 2 == 0, none, labels)
            batches["all labels -1"] = rows, none
        for what, batch in batches.items():
            total, gradient = self.measure(self.fresh(torch.float32), *batch)
            self.expect_finite(total, f"the value with {what}")
            self.expect_finite(gradient, f"the gradient with {what} (guard square roots, logarithms and divisions)")

    def check_determinism(self) -> None:
        batch = self.batch(torch.float32)
        results = (self.measure(self.fresh(torch.float32), *batch, step=5) for _ in range(2))
        for what, one, other in zip(("values", "gradients"), *results, strict=True):
            advice = "use torch's global generator alone"
            self.expect_equal(one, other, f"the {what} of two losses with one seed", 0, advice)

    def check_no_hidden_state(self) -> None:
        loss, restored = self.fresh(torch.float32), self.fresh(torch.float32)
        for number in (1, 2):
            self.measure(loss, *self.batch(torch.float32, number))
        state = loss.state_dict()
        wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
        self.expect(not wrong, f"a checkpoint contains tensors only; its state_dict has {', '.join(wrong)}")
        restored.load_state_dict(state)
        one, other = (self.measure(each, *self.batch(torch.float32))[0] for each in (loss, restored))
        advice = "register what must survive a call as a buffer (register_buffer), and forget everything else"
        self.expect_equal(one, other, "the values after other batches and after loading that state_dict", 0, advice)

    def check_learning_brings_positives_closer_than_negatives(self) -> None:
        """Minimise it by moving embeddings and its own parameters; compare with all embeddings in one point."""
        start = 1 + normal((len(LABELS), DIM), "free") / 2
        free, point = start.clone().requires_grad_(), start[:1].expand_as(start)
        batches = [batch for number in range(3) for batch in self.round(self.fresh(), number)[:2]]
        before = self.mean_total(self.fresh(), start, batches)
        after = self.mean_total(self.trained(free), free, batches)
        training = f"{STEPS} steps of Adam that minimise it over free embeddings"
        advice = "is a sign flipped or a mask forgotten?"
        self.expect(bool(torch.isfinite(free).all()), f"after {training} the embeddings are not finite")
        first, last = share_closer(start), share_closer(free.detach())
        observation = f"after {training} the positive is closer in {last:.0%} of the triplets, before in {first:.0%}"
        self.expect(last >= first + 0.1, f"{observation}; {advice}")
        self.expect(after < before, f"{training} took it from {before:.6g} to {after:.6g}")
        collapsed = self.trained(point) if self.fresh().param_groups() else self.fresh()
        value = self.mean_total(collapsed, point, batches)
        observation = f"after {training} it is {after:.6g}, in one point {value:.6g}: nothing separates identities"
        self.expect(after < value, f"{observation}; {advice} (Check a term that only pulls in a sum.)")

    def check_searched_values(self) -> None:
        values = [
            (term, name, value)
            for term in self.spec.terms
            for name, option in term.item.options.items()
            if (searched := option.searched)
            for value in searched.choices or (searched.low, searched.high)
        ]
        if not values:
            raise NotApplicable
        for term, name, value in values:
            what = f"{name}={write_value(value)} (searched: {term.item.options[name].searched})"
            try:
                loss = replace(term, values={**term.values, name: value}).build(INFO).double()
                total = self.total(loss, TABLE, self.round(loss)[0])
            except ReidbenchError as error:
                raise Violation(f"it refuses {what}: {error}") from error
            self.expect_finite(total.detach(), f"the value of an ordinary batch with {what}")

    def trained(self, table: Tensor) -> Loss:
        """Return the loss, trained for STEPS steps, with ``table`` [n, D] where that requires a gradient."""
        loss = self.fresh()
        groups: list[Any] = [*([{"params": [table]}] if table.requires_grad else []), *loss.param_groups()]
        optimizer = torch.optim.Adam(groups, lr=LEARNING_RATE)
        batches = (batch for number in count() for batch in self.round(loss, number, table))
        for step, units in enumerate(islice(batches, STEPS)):
            total = self.total(loss, table, units, step)
            observation = f"it is {total.item()} at step {step} of a training on free embeddings"
            self.expect(bool(torch.isfinite(total)), observation)
            optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return loss

    def mean_total(self, loss: Loss, table: Tensor, batches: Sequence[IntArray]) -> float:
        with torch.no_grad():
            return float(torch.stack([self.total(loss, table, units) for units in batches]).mean())

    def total(self, loss: Loss, table: Tensor, units: IntArray, step: int = 0) -> Tensor:
        return self.value(loss, table[torch.from_numpy(units)], torch.from_numpy(LABELS[units]), step).total


def share_closer(rows: Tensor) -> float:
    """Return in which share of the triplets the positive is closer, by the Euclidean distance or by the angle.

    ``rows`` [n, D] are the embeddings of ``LABELS``; every second one is a query, the others are the gallery.
    """
    return max(
        share_in_order(torch.cdist(x[::2], x[1::2]), LABELS[::2], LABELS[1::2])
        for x in (rows, functional.normalize(rows))
    )


check_loss = contract_check("loss", _LossChecks)
