"""``check_metric``: what a distance promises of its shapes, its order and what it learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reidbench.plugins.interfaces import Metric
from reidbench.ranking.rank import unit_rows
from reidbench.testing.subject import (
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

DIM = 8
PEOPLE, IMAGES, CAMERAS = 24, 6, 3  # enough to learn from: 144 units of 8 numbers
PIDS: IntArray = np.repeat(np.arange(1, PEOPLE + 1, dtype=np.int64), IMAGES)
CAMS: IntArray = np.tile(np.arange(1, CAMERAS + 1, dtype=np.int64), PEOPLE * IMAGES // CAMERAS)
_CLOSE = {torch.float32: 1e-4, torch.float64: 1e-9}


def check_metric(metric: str | Callable[..., Metric], *, seed: int = 0, **options: Any) -> tuple[str, ...]:
    """Return the promises that a metric keeps.

    ``metric`` is a spec of an installed metric or a factory ``(*, options) -> Metric`` with ``options``; ``seed`` picks
    embeddings. One that learns is fitted first. Raises ContractError at the first promise that is broken, OptionError
    for a name or an option that does not fit.
    """
    checks = _Checks(Subject("metric", metric, options), seed)
    return checks.subject.keep(
        {
            "contract": checks.contract,
            "distances": checks.distances,
            "a distance belongs to its pair": checks.pairs,
            "pair distances are distances": checks.pair_distances,
            "smaller is closer": checks.closer,
            "coincident embeddings": checks.coincident,
            "factors": checks.factors,
            "factors order as distances do": checks.order,
            "fit repeats": checks.fit,
            "inputs untouched": checks.inputs,
            "spec round trip": checks.subject.check_spec,
            "pickling": checks.pickling,
        }
    )


class _Checks:
    def __init__(self, subject: Subject, seed: int) -> None:
        self.subject, self.seed = subject, seed

    def fresh(self, dtype: torch.dtype = torch.float64) -> Metric:
        """Return the metric, fitted where it learns."""
        metric = self.subject.build(seed=self.seed)
        expect(isinstance(metric, Metric), f"expected a reidbench.Metric, its factory returned {type(metric).__name__}")
        if type(metric).fit is not Metric.fit:
            metric.fit(self.rows(metric, "training", dtype), PIDS.copy(), CAMS.copy())
        return metric  # type: ignore[no-any-return]

    def rows(self, metric: Metric, name: str, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return the embeddings [PEOPLE * IMAGES, DIM] of people with some spread, as this metric is shown them."""
        centres = normal((PEOPLE, DIM), self.seed, name, "people").repeat_interleave(IMAGES, dim=0)
        rows = (centres + normal((len(PIDS), DIM), self.seed, name, "images") / 2).to(dtype)
        return unit_rows(rows) if metric.normalize else rows

    def contract(self) -> None:
        metric = self.fresh()
        expect(isinstance(metric.normalize, bool), f"normalize must be true or false, got {metric.normalize!r}")

    def distances(self) -> None:
        for dtype in (torch.float32, torch.float64):
            metric = self.fresh(dtype)
            rows = self.rows(metric, "test", dtype)
            found = metric.distances(rows[:5], rows)
            wanted = (5, len(rows))
            expect(tuple(found.shape) == wanted, f"for 5 and {len(rows)} rows the shape must be {wanted}, "
                   f"got {tuple(found.shape)}")  # fmt: skip
            expect(found.dtype == dtype, f"{dtype} embeddings must give {dtype} distances, got {found.dtype}")
            finite(found, "the distances of ordinary embeddings")

    def pairs(self) -> None:
        metric = self.fresh()
        rows = self.rows(metric, "test")
        whole, part = metric.distances(rows[:5], rows)[1:3, 4:9], metric.distances(rows[1:3], rows[4:9])
        expect(
            same(whole, part, _CLOSE[torch.float64]),
            f"the same pairs among fewer rows are {largest_difference(whole, part):.3g} of the largest off",
        )

    def pair_distances(self) -> None:
        for dtype in (torch.float32, torch.float64):
            metric = self.fresh(dtype)
            rows = self.rows(metric, "test", dtype)
            first, second = torch.tensor([0, 2, 2, 1]), torch.tensor([7, 0, 40, 7])
            whole = metric.distances(rows[:3], rows)[first, second]
            some = metric.pair_distances(rows[:3], rows, first, second)
            expect(tuple(some.shape) == (4,), f"for 4 pairs the shape must be (4,), got {tuple(some.shape)}")
            expect(some.dtype == dtype, f"{dtype} embeddings must give {dtype} distances, got {some.dtype}")
            expect(
                same(whole, some, _CLOSE[dtype]),
                f"pair_distances and distances are {largest_difference(whole, some):.3g} of the largest apart",
            )

    def closer(self) -> None:
        metric = self.fresh()
        rows = self.rows(metric, "test")
        share = share_in_order(metric.distances(rows, rows), torch.from_numpy(PIDS))
        expect(
            share > 0.6,
            f"of people whose images lie close together the positive is closer in {share:.0%} of all triplets; is it a "
            "similarity, or a sign flipped?",
        )

    def coincident(self) -> None:
        metric = self.fresh()
        rows = self.rows(metric, "test")[:1].expand(4, DIM)
        finite(metric.distances(rows, rows), "the distances of equal embeddings")

    def factors(self) -> None:
        for dtype in (torch.float32, torch.float64):
            metric = self.fresh(dtype)
            rows = self.rows(metric, "test", dtype)
            found = metric.factors(rows)
            if found is None:
                raise NotAsked
            shapes = [tuple(part.shape) for part in found]
            expect(
                len(shapes) == 2 and shapes[0] == shapes[1] and shapes[0][0] == len(rows),
                f"for {len(rows)} rows two tensors of one shape [{len(rows)}, K] are expected, got {shapes}",
            )
            for part, side, alone in zip(found, ("left", "right"), metric.factors(rows[2:4]) or (), strict=True):
                expect(part.dtype == dtype, f"{dtype} embeddings must give {dtype} factors, got {part.dtype} ({side})")
                finite(part, f"the {side} factors")
                expect(
                    same(part[2:4], alone, _CLOSE[dtype]),
                    f"the {side} factors of two rows depend on the other rows, by "
                    f"{largest_difference(part[2:4], alone):.3g} of the largest entry",
                )

    def order(self) -> None:
        metric = self.fresh()
        rows = self.rows(metric, "test")
        found = metric.factors(rows)
        if found is None:
            raise NotAsked
        products, distances = found[0][:20] @ found[1].T, metric.distances(rows[:20], rows)
        places = products.argsort(dim=1, stable=True)
        # Going through a gallery in the order of the products, no distance may fall, but by rounding.
        falls = -distances.gather(1, places).diff(dim=1)
        worst = falls.max().item() / distances.abs().max().item()
        wrong = int((falls > 1e-7 * distances.abs().max()).sum())
        expect(
            wrong == 0,
            f"in {wrong} of {falls.numel()} places of 20 rankings the factors put the farther one first, at worst by "
            f"{worst:.3g} of the largest distance",
        )

    def fit(self) -> None:
        first, second = self.fresh(), self.fresh()
        if type(first).fit is Metric.fit:
            raise NotAsked
        rows = self.rows(first, "test")
        one, other = first.distances(rows, rows), second.distances(rows, rows)
        expect(
            same(one, other),
            "fitted twice on the same embeddings, its distances differ by "
            f"{largest_difference(one, other):.3g} of the largest",
        )

    def inputs(self) -> None:
        metric = self.fresh()
        rows = self.rows(metric, "test")
        before = rows.clone()
        metric.distances(rows, rows)
        metric.factors(rows)
        expect(torch.equal(rows, before), "it changed the embeddings that it was given")

    def pickling(self) -> None:
        metric = self.fresh()
        rows = self.rows(metric, "test")
        alike = same(metric.distances(rows, rows), check_pickle(metric).distances(rows, rows))
        expect(alike, "its pickled copy gave other distances")
