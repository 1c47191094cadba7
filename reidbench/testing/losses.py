"""``check_loss``: what a loss promises, from the shape of its value to whether people come apart when it falls."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reidbench.plugins.interfaces import Loss, LossValue, as_loss_value
from reidbench.testing.loss_probe import DIM, LABELS, PEOPLE, Batch, LossProbe
from reidbench.testing.subject import (
    Broken,
    NotAsked,
    Subject,
    check_pickle,
    expect,
    finite,
    largest_difference,
    normal,
    same,
    share_in_order,
)
from reidbench.utils.arrays import IntArray
from reidbench.utils.random_streams import stream

STEPS, RATE = 200, 0.05  # of the training on free embeddings
HUGE = 1e4
_SMALL = 1e-4  # a finite difference must agree with the gradient to this share


def check_loss(loss: str | Callable[..., Loss], *, seed: int = 0, **options: Any) -> tuple[str, ...]:
    """Return the promises that a loss keeps.

    ``loss`` is a spec of installed losses (sums too) or a factory ``(info, *, options) -> Loss`` with ``options``;
    ``seed`` picks embeddings and batches. Raises ContractError at the first promise that is broken, OptionError for a
    name or an option that does not fit.
    """
    checks = _Checks(Subject("loss", loss, options), seed)
    return checks.subject.keep(
        {
            "contract": checks.contract,
            "rounds": checks.rounds,
            "shapes": checks.shapes,
            "inputs untouched": checks.inputs,
            "gradient reaches the embeddings": checks.gradient,
            "gradient is that of the value": checks.finite_differences,
            "order of the batch": checks.order,
            "depends on the labels": checks.labels,
            "half precision": checks.half_precision,
            "coincident embeddings": checks.coincident,
            "huge embeddings": checks.huge,
            "determinism": checks.determinism,
            "no hidden state": checks.state,
            "spec round trip": checks.subject.check_spec,
            "pickling": checks.pickling,
            "learning brings positives closer than negatives": checks.learning,
        }
    )


class _Checks(LossProbe):
    """A method a promise; every one starts from losses that have seen nothing."""

    # --- promises ----------------------------------------------------------------------------------------------------

    def contract(self) -> None:
        loss = self.fresh()
        expect(isinstance(loss.metric, str | None), f"metric must be a text or None, got {loss.metric!r}")
        expect(loss.pool in ("mean", "max"), f'pool must be "mean" or "max", got {loss.pool!r}')
        expect(isinstance(loss.ordered, bool), f"ordered must be true or false, got {loss.ordered!r}")
        grouped = [id(p) for group in loss.param_groups() for p in group["params"]]  # type: ignore[attr-defined]
        own = {id(p) for p in loss.parameters() if p.requires_grad}
        expect(
            set(grouped) == own and len(grouped) == len(own),
            f"param_groups must name each of its {len(own)} parameters once, it names {len(grouped)}",
        )

    def rounds(self) -> None:
        loss = self.fresh()
        if type(loss).next_round is Loss.next_round:
            expect(not loss.ordered, "ordered is true, but it brings no next_round whose order it could read")
            raise NotAsked
        for number in range(2):
            first, second = self.round(loss, number), self.round(loss, number)
            alike = len(first) == len(second) and all(map(np.array_equal, first, second))
            expect(alike, f"round {number} drawn twice from one generator gave different batches; draw from "
                   "view.generator alone")  # fmt: skip

    def shapes(self) -> None:
        counts = {}
        for dim in (DIM, DIM + 3):  # no batch has 11 items
            for dtype in (torch.float64, torch.float32):
                loss = self.fresh(dtype, dim)
                batch = self.batch(loss, dim=dim)
                value = as_loss_value(loss, self.value(loss, batch.rows.to(dtype), batch.labels))
                said = [("total", value.total, 0)]
                said += [(f"per_item {name}", terms, 1) for name, terms in value.per_item.items()]
                said += [(f"scalar {name}", scalar, 0) for name, scalar in value.scalars.items()]
                for name, tensor, wanted in said:
                    expect(
                        tensor.ndim == wanted,
                        f"{name} must have {wanted} dimensions, got the shape {tuple(tensor.shape)} for "
                        f"{len(batch.rows)} embeddings",
                    )
                    finite(tensor.detach(), f"{name} of an ordinary batch")
                expect(value.total.dtype == dtype, f"for {dtype} embeddings the total must be {dtype}, "
                       f"got {value.total.dtype}")  # fmt: skip
            counts[dim] = {name: len(terms) for name, terms in value.per_item.items()}
        for name, count in counts[DIM].items():
            per_entry = count == DIM and counts[DIM + 3].get(name) == DIM + 3
            expect(
                not per_entry,
                f"{name} has {DIM} terms for embeddings of {DIM} entries and {DIM + 3} for {DIM + 3}: terms belong to "
                "items of the batch, so sum or average over the last axis, not over the first",
            )

    def inputs(self) -> None:
        loss = self.fresh()
        batch = self.batch(loss)
        rows, labels = batch.rows.clone(), batch.labels.clone()
        self.value(loss, rows, labels)
        expect(torch.equal(rows, batch.rows), "forward changed the embeddings that it was given")
        expect(torch.equal(labels, batch.labels), "forward changed the labels that it was given")

    def gradient(self) -> None:
        loss = self.fresh()
        batch = self.batch(loss)
        _, gradient = self.measure(loss, batch.rows, batch.labels)
        finite(gradient, "the gradient of an ordinary batch")
        expect(
            bool(gradient.any()),
            "the gradient is 0 for all embeddings of an ordinary batch; is a sign flipped, or a margin out of reach?",
        )

    def finite_differences(self) -> None:
        loss = self.fresh()
        batch = self.batch(loss)
        _, gradient = self.measure(copy.deepcopy(loss), batch.rows, batch.labels)
        step, wrong, tries = 1e-5, [], 6
        for number in range(tries):
            direction = functional.normalize(
                normal(tuple(batch.rows.shape), self.seed, "direction", number).flatten(), dim=0
            )
            moved = step * direction.view_as(batch.rows)
            above, below = (
                self.value(copy.deepcopy(loss), batch.rows + sign * moved, batch.labels).total.item()
                for sign in (1, -1)
            )
            numeric = (above - below) / (2 * step)
            analytic = float((gradient.flatten() * direction).sum())
            if not abs(numeric - analytic) <= 1e-7 + _SMALL * max(abs(numeric), abs(analytic)):
                wrong.append(f"{analytic:.6g} where the value changes by {numeric:.6g}")
        # A hinge may bend just there, in one direction or two; a gradient of something else is wrong in all.
        expect(
            2 * len(wrong) < tries,
            f"in {len(wrong)} of {tries} directions the gradient is not that of the value (finite differences in "
            f"float64): {'; '.join(wrong[:2])}; is a part detached, or computed in lower precision?",
        )

    def order(self) -> None:
        loss = self.fresh()
        if loss.ordered:
            raise NotAsked
        batch = self.batch(loss)
        if not self.repeats(loss, batch):
            loss.eval()  # dropout and its like draw by position
            if not self.repeats(loss, batch):
                raise NotAsked
        places = torch.from_numpy(stream(self.seed, "order").permutation(len(batch.rows)))
        total, gradient = self.measure(copy.deepcopy(loss), batch.rows, batch.labels)
        other, permuted = self.measure(copy.deepcopy(loss), batch.rows[places], batch.labels[places])
        expect(
            same(total, other, 1e-9),
            f"the same batch in another order gave {other.item():.9g} instead of {total.item():.9g}; compare labels, "
            "not positions, or set ordered=True and bring your own rounds",
        )
        expect(
            same(gradient[places], permuted, 1e-7),
            "the same batch in another order gave another gradient, by "
            f"{largest_difference(gradient[places], permuted):.3g} of its largest entry",
        )

    def repeats(self, loss: Loss, batch: Batch) -> bool:
        """Return whether the value is the same whatever torch draws."""
        first, second = (self.measure(copy.deepcopy(loss), batch.rows, batch.labels, draw)[0] for draw in (0, 1))
        return torch.equal(first, second)

    def labels(self) -> None:
        loss = self.fresh()
        if loss.ordered:  # its labels follow from the order; the training below looks at what it makes of them
            raise NotAsked
        batch = self.batch(loss)
        other = batch.labels[torch.from_numpy(stream(self.seed, "labels").permutation(len(batch.labels)))]
        total, gradient = self.measure(copy.deepcopy(loss), batch.rows, batch.labels)
        changed, moved = self.measure(copy.deepcopy(loss), batch.rows, other)
        expect(
            not (same(total, changed, 1e-9) and same(gradient, moved, 1e-9)),
            f"other labels gave the same value, {total.item():.9g}, and the same gradient; is a mask or an axis wrong?",
        )

    def half_precision(self) -> None:
        for dtype in (torch.float16, torch.bfloat16):
            loss = self.fresh(torch.float32)
            batch = self.batch(loss)
            rows = batch.rows.to(dtype)
            total, gradient = self.measure(copy.deepcopy(loss), rows, batch.labels)
            wanted, _ = self.measure(copy.deepcopy(loss), rows.float(), batch.labels)
            finite(gradient, f"the gradient of {dtype} embeddings")
            expect(
                same(total, wanted, 1e-6),
                f"{dtype} embeddings gave {total.item():.9g} ({total.dtype}), the same numbers in float32 "
                f"{wanted.item():.9g}",
            )

    def coincident(self) -> None:
        loss = self.fresh(torch.float32)
        batch = self.batch(loss)
        people = 1 + normal((PEOPLE, DIM), self.seed, "people").float() / 2
        for what, rows in {
            "all embeddings in one point": batch.rows[:1].float().expand_as(batch.rows),
            "each person in one point": people[batch.labels],
            "all embeddings 0": torch.zeros_like(batch.rows, dtype=torch.float32),
        }.items():
            self.stays_finite(rows, batch, what)

    def huge(self) -> None:
        batch = self.batch(self.fresh(torch.float32))
        self.stays_finite(HUGE * batch.rows.float(), batch, f"embeddings of about {HUGE:.0e} an entry")

    def stays_finite(self, rows: Tensor, batch: Batch, what: str) -> None:
        total, gradient = self.measure(self.fresh(torch.float32), rows, batch.labels)
        finite(total, f"the value with {what}")
        finite(gradient, f"the gradient with {what}; guard square roots, logarithms and divisions")

    def determinism(self) -> None:
        first, second = self.fresh(torch.float32), self.fresh(torch.float32)
        batch = self.batch(first)
        rows = batch.rows.float()
        one, other = (self.measure(loss, rows, batch.labels, draw=5) for loss in (first, second))
        expect(
            same(one[0], other[0]) and same(one[1], other[1]),
            f"built twice and asked once each, with one seed, it gave {one[0].item():.9g} and {other[0].item():.9g}; "
            "draw from torch's generator alone",
        )

    def state(self) -> None:
        loss = self.fresh(torch.float32)
        batches = [self.batch(loss, number) for number in range(3)]
        for batch in batches[1:]:
            self.measure(loss, batch.rows.float(), batch.labels)
        state = copy.deepcopy(loss.state_dict())
        wrong = [name for name, what in state.items() if not isinstance(what, Tensor)]
        expect(not wrong, f"a checkpoint keeps tensors; its state_dict has {', '.join(wrong)}, which are none")
        restored = self.fresh(torch.float32)
        restored.load_state_dict(state)
        rows = batches[0].rows.float()
        after, alike = (self.measure(which, rows, batches[0].labels)[0] for which in (loss, restored))
        expect(
            same(after, alike),
            f"after other batches it gave {after.item():.9g}, a fresh one with its state_dict {alike.item():.9g}; what "
            "must be kept between calls is a buffer (register_buffer), everything else is forgotten",
        )

    def pickling(self) -> None:
        loss = self.fresh(torch.float32)
        batch = self.batch(loss)
        total, _ = self.measure(copy.deepcopy(loss), batch.rows.float(), batch.labels)
        again, _ = self.measure(check_pickle(loss), batch.rows.float(), batch.labels)
        expect(same(total, again), f"its pickled copy gave {again.item():.9g} instead of {total.item():.9g}")

    # --- a training on free embeddings -------------------------------------------------------------------------------

    def learning(self) -> None:
        """Minimise it by moving embeddings and its own parameters; compare with a network that sees no difference."""
        start = 1 + normal((len(LABELS), DIM), self.seed, "free") / 2
        units = [batch for number in range(3) for batch in self.round(self.fresh(), number)[:2]]

        def mean_total(loss: Loss, table: Tensor) -> float:
            with torch.no_grad():
                totals = [
                    as_loss_value(loss, self.seeded(copy.deepcopy(loss), table, chosen)).total for chosen in units
                ]
            return float(torch.stack(totals).mean())

        free, loss, before = start.clone().requires_grad_(), self.fresh(), mean_total(self.fresh(), start)
        self.train(loss, free)
        after = mean_total(loss, free)
        labels = torch.from_numpy(LABELS)
        first, last = closeness(start, labels), closeness(free.detach(), labels)
        expect(bool(torch.isfinite(free).all()), f"embeddings were no longer finite after {STEPS} steps of Adam")
        expect(
            last >= first + 0.1,
            f"after {STEPS} steps that minimise it over free embeddings the positive is closer than the negative in "
            f"{last:.0%} of all triplets, before in {first:.0%}; is a sign flipped or a mask forgotten?",
        )
        expect(
            after < before,
            f"{STEPS} steps that minimise it over free embeddings took it from {before:.6g} to {after:.6g}",
        )
        point, blind = start[:1].expand_as(start), self.fresh()
        if blind.param_groups():
            self.train(blind, point)
        collapsed = mean_total(blind, point)
        expect(
            after < collapsed,
            f"minimised over free embeddings it is {after:.6g}, and no more than {collapsed:.6g} with all embeddings "
            "in one point: nothing keeps different people apart; is a sign flipped or a mask forgotten? "
            "(A term that only pulls is checked in its sum with another.)",
        )

    def train(self, loss: Loss, table: Tensor) -> None:
        """Train a loss's parameters for STEPS steps, and ``table`` [n, D] where it asks for a gradient."""
        groups: list[Any] = [*([{"params": [table]}] if table.requires_grad else []), *loss.param_groups()]
        optimizer = torch.optim.Adam(groups, lr=RATE)
        chosen: list[IntArray] = []
        number = 0
        for step in range(STEPS):
            if not chosen:
                chosen, number = list(self.round(loss, number, table)), number + 1
            total = as_loss_value(loss, self.seeded(loss, table, chosen.pop(0), step)).total
            if not torch.isfinite(total):
                raise Broken(f"it is {total.item()} at step {step} of a training on free embeddings")
            optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    @staticmethod
    def seeded(loss: Loss, table: Tensor, units: IntArray, draw: int = 0) -> LossValue | Tensor:
        torch.manual_seed(draw)
        return loss(table[torch.from_numpy(units)], torch.from_numpy(LABELS[units]))  # type: ignore[no-any-return]


def closeness(rows: Tensor, labels: Tensor) -> float:
    """Return in which share of the triplets the positive is closer, by the straight distance or by the angle."""
    return max(share_in_order(torch.cdist(x, x), labels) for x in (rows, functional.normalize(rows)))
