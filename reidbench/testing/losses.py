"""``check_loss``: the contract of a loss, from the shape of its value to whether minimising it separates identities."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reidbench.errors import ReidbenchError
from reidbench.plugins.interfaces import Loss, TrainInfo
from reidbench.plugins.spec import write_value
from reidbench.testing.checked_item import (
    DIM,
    NotApplicable,
    Violation,
    expect,
    expect_equal,
    expect_finite,
    expect_groups,
    normal,
    share_in_order,
)
from reidbench.testing.loss_probe import IDENTITIES, LABELS, Batch, LossProbe
from reidbench.training.build import euclidean_pairs
from reidbench.utils.arrays import IntArray
from reidbench.utils.random_streams import stream

STEPS, LEARNING_RATE = 200, 0.05  # of the training on free embeddings
DIRECTIONS, STEP = 6, 1e-5  # of the finite differences
LARGE = 1e4


def check_loss(loss: str | Callable[..., Loss], *, seed: int = 0, **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a loss passes.

    ``loss`` is a spec of installed losses (also a sum) or a factory ``(info, *, options) -> Loss`` with ``options``;
    ``seed`` gives embeddings and batches. Raises ContractError at the first check that fails, OptionError for a name or
    an option that does not fit.
    """
    return _LossChecks("loss", loss, options, seed).run()


class _LossChecks(LossProbe):
    """Each check starts from freshly built losses."""

    def check_contract(self) -> None:
        loss = self.fresh()
        expect_groups(loss)

    def check_rounds(self) -> None:
        if not self.has_own_rounds:
            raise NotApplicable
        loss = self.fresh()
        for number in range(2):
            first, second = self.round(loss, number), self.round(loss, number)
            same = len(first) == len(second) and all(map(np.array_equal, first, second))
            expect(same, f"round {number} sampled twice gave different batches; use view.generator alone")

    def check_shapes(self) -> None:
        counts = {}
        for dim in (DIM, DIM + 3):  # no batch has 11 items
            for dtype in (torch.float64, torch.float32):
                loss, batch = self.start(dtype, dim)
                value = self.value(loss, batch.rows.to(dtype), batch.labels)
                for name, tensor in {"total": value.total, **value.per_item, **value.scalars}.items():
                    expect_finite(tensor.detach(), f"{name} of an ordinary batch")
                right = value.total.dtype == dtype
                expect(right, f"for {dtype} embeddings the total must be {dtype}, got {value.total.dtype}")
            counts[dim] = {name: len(terms) for name, terms in value.per_item.items()}
        for name, count in counts[DIM].items():
            per_entry = count == DIM and counts[DIM + 3].get(name) == DIM + 3
            found = f"{name} has {DIM} terms for embeddings of {DIM} entries and {DIM + 3} for {DIM + 3}"
            expect(not per_entry, f"{found}; terms belong to items: reduce the last axis, not the first")

    def check_gradient_is_that_of_the_value(self) -> None:
        loss, batch = self.start()
        _, gradient = self.measure(copy.deepcopy(loss), batch.rows, batch.labels)
        expect_finite(gradient, "the gradient of an ordinary batch")
        wrong = []
        for number in range(DIRECTIONS):
            direction = normal(tuple(batch.rows.shape), self.seed, "direction", number)
            direction /= direction.norm()
            above, below = (
                self.value(copy.deepcopy(loss), batch.rows + step * direction, batch.labels).total.item()
                for step in (STEP, -STEP)
            )
            numeric = (above - below) / (2 * STEP)
            analytic = float((gradient * direction).sum())
            if not abs(numeric - analytic) <= 1e-7 + 1e-4 * max(abs(numeric), abs(analytic)):
                wrong.append(f"{analytic:.6g} where the value changes by {numeric:.6g}")
        # A hinge may bend at this point in one direction or two; a wrong gradient is wrong in all.
        found = f"in {len(wrong)} of {DIRECTIONS} directions the gradient is {'; '.join(wrong[:2])}"
        expect(2 * len(wrong) < DIRECTIONS, f"{found}; is a part detached, or computed in lower precision?")

    def check_order_of_the_batch(self) -> None:
        if self.has_own_rounds:
            raise NotApplicable
        loss, batch = self.start()
        if not self.repeats(loss, batch):
            loss.eval()  # dropout and the like draw random numbers by position
            if not self.repeats(loss, batch):
                raise NotApplicable
        places = torch.from_numpy(stream(self.seed, "order").permutation(len(batch.rows)))
        total, gradient = self.measure(copy.deepcopy(loss), batch.rows, batch.labels)
        permuted = self.measure(copy.deepcopy(loss), batch.rows[places], batch.labels[places])
        advice = "compare labels, not positions, or return batches of your own from next_round"
        expect_equal(total, permuted[0], "the values of one batch in two orders", 1e-9, advice)
        expect_equal(gradient[places], permuted[1], "the gradients of one batch in two orders", 1e-7, advice)

    def repeats(self, loss: Loss, batch: Batch) -> bool:
        """Return whether the value is the same whatever random numbers torch draws."""
        first, second = (self.measure(copy.deepcopy(loss), batch.rows, batch.labels, step)[0] for step in (0, 1))
        return torch.equal(first, second)

    def check_extreme_embeddings(self) -> None:
        batch = self.batch(self.fresh(torch.float32))
        identities = 1 + normal((IDENTITIES, DIM), self.seed, "identities") / 2
        extremes = {
            "all embeddings in one point": batch.rows[:1].expand_as(batch.rows),
            "each identity in one point": identities[batch.labels],
            "all embeddings 0": torch.zeros_like(batch.rows),
            f"entries of about {LARGE:.0e}": LARGE * batch.rows,
        }
        for what, rows in extremes.items():
            total, gradient = self.measure(self.fresh(torch.float32), rows.float(), batch.labels)
            expect_finite(total, f"the value with {what}")
            expect_finite(gradient, f"the gradient with {what} (guard square roots, logarithms and divisions)")

    def check_units_without_identity(self) -> None:
        loss, batch = self.start()
        if not loss.unlabelled:
            raise NotApplicable
        none = torch.full_like(batch.labels, -1)
        for labels in (torch.where(batch.labels % 2 == 0, none, batch.labels), none):
            total, gradient = self.measure(copy.deepcopy(loss), batch.rows, labels)
            expect_finite(total, "the value of a batch with labels of -1")
            expect_finite(gradient, "the gradient of a batch with labels of -1")

    def check_determinism(self) -> None:
        (first, batch), second = self.start(torch.float32), self.fresh(torch.float32)
        results = (self.measure(loss, batch.rows.float(), batch.labels, step=5) for loss in (first, second))
        for what, one, other in zip(("values", "gradients"), *results, strict=True):
            expect_equal(one, other, f"the {what} of two losses with one seed", 0, "use torch's global generator alone")

    def check_no_hidden_state(self) -> None:
        loss = self.fresh(torch.float32)
        batches = [self.batch(loss, number) for number in range(3)]
        for batch in batches[1:]:
            self.measure(loss, batch.rows.float(), batch.labels)
        state = copy.deepcopy(loss.state_dict())
        wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
        expect(not wrong, f"a checkpoint contains tensors only; its state_dict has {', '.join(wrong)}")
        restored = self.fresh(torch.float32)
        restored.load_state_dict(state)
        rows = batches[0].rows.float()
        one, other = (self.measure(which, rows, batches[0].labels)[0] for which in (loss, restored))
        advice = "register what must survive a call as a buffer (register_buffer), and forget everything else"
        expect_equal(one, other, "the values after other batches and after loading that state_dict", 0, advice)

    def check_learning_brings_positives_closer_than_negatives(self) -> None:
        """Minimise it by moving embeddings and its own parameters; compare with all embeddings in one point."""
        start = 1 + normal((len(LABELS), DIM), self.seed, "free") / 2
        batches = [batch for number in range(3) for batch in self.round(self.fresh(), number)[:2]]

        def mean_total(loss: Loss, table: Tensor) -> float:
            with torch.no_grad():
                totals = [self.total(copy.deepcopy(loss), table, units) for units in batches]
            return float(torch.stack(totals).mean())

        free, loss, before = start.clone().requires_grad_(), self.fresh(), mean_total(self.fresh(), start)
        self.train(loss, free)
        after = mean_total(loss, free)
        first, last = share_closer(start), share_closer(free.detach())
        training = f"{STEPS} steps of Adam that minimise it over free embeddings"
        advice = "is a sign flipped or a mask forgotten?"
        expect(bool(torch.isfinite(free).all()), f"after {training} the embeddings are not finite")
        found = f"after {training} the positive is closer in {last:.0%} of the triplets, before in {first:.0%}"
        expect(last >= first + 0.1, f"{found}; {advice}")
        expect(after < before, f"{training} took it from {before:.6g} to {after:.6g}")
        point, collapsed = start[:1].expand_as(start), self.fresh()
        if collapsed.param_groups():
            self.train(collapsed, point)
        value = mean_total(collapsed, point)
        found = f"after {training} it is {after:.6g}, in one point {value:.6g}: nothing separates identities"
        expect(after < value, f"{found}; {advice} (Check a term that only pulls in a sum.)")

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
                changed = replace(term, values={**term.values, name: value})
                loss = changed.build(TrainInfo(DIM, IDENTITIES, euclidean_pairs)).double()
                batch = self.batch(loss)
                total = self.value(loss, batch.rows, batch.labels).total
            except ReidbenchError as error:
                raise Violation(f"it refuses {what}: {error}") from error
            expect_finite(total.detach(), f"the value of an ordinary batch with {what}")

    def train(self, loss: Loss, table: Tensor) -> None:
        """Train a loss's parameters for STEPS steps, and ``table`` [n, D] where it requires a gradient."""
        groups: list[Any] = [*([{"params": [table]}] if table.requires_grad else []), *loss.param_groups()]
        optimizer = torch.optim.Adam(groups, lr=LEARNING_RATE)
        batches: list[IntArray] = []
        number = 0
        for step in range(STEPS):
            if not batches:
                batches, number = list(self.round(loss, number, table)), number + 1
            total = self.total(loss, table, batches.pop(0), step)
            expect(bool(torch.isfinite(total)), f"it is {total.item()} at step {step} of a training on free embeddings")
            optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

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
