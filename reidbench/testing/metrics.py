"""``check_metric``: the contract of a metric, its shapes, its order and what it learned."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reidbench.plugins.interfaces import Backbone, Metric, PairMetric, learns
from reidbench.ranking.checked_metric import CheckedMetric
from reidbench.ranking.pipeline import reranked_blocks
from reidbench.ranking.rank import unit_rows
from reidbench.testing.checked_item import Checks, NotApplicable, clusters, contract_check
from reidbench.training.build import euclidean_pairs
from reidbench.utils.arrays import IntArray

IDENTITIES, IMAGES, CAMERAS = 24, 6, 3  # enough to learn from: 144 embeddings of 8 entries
STARTS = (0, 1, 3, 4, 6)  # of queries with one image and with two, for metrics that compare pairs of images
CAMS: IntArray = np.repeat(np.arange(IMAGES, dtype=np.int64) % CAMERAS + 1, IDENTITIES)


class _EuclideanNetwork(Backbone):
    """A network whose pairs have the Euclidean distances of their rows."""

    def pair(self, a: Tensor, b: Tensor) -> Tensor:
        return euclidean_pairs(a, b)


class _MetricChecks(Checks):
    """Each check starts from a freshly built and fitted metric, whose results CheckedMetric checks."""

    expected = Metric

    def fresh(self, dtype: torch.dtype = torch.float64) -> tuple[CheckedMetric, Tensor]:
        """Return the metric, fitted where it learns, and test embeddings as it compares them, projected [n, K]."""
        metric = CheckedMetric(self.build())
        if isinstance(metric.metric, PairMetric):
            metric.metric.network, metric.metric.starts = _EuclideanNetwork(), np.array(STARTS)
        if learns(metric.metric):
            rows, pids = self.embeddings(metric, "training", dtype)
            metric.metric.fit(rows, pids, CAMS.copy())
        return metric, metric.project(self.embeddings(metric, "test", dtype)[0])

    @staticmethod
    def embeddings(metric: Metric, name: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, IntArray]:
        rows, pids = clusters(IDENTITIES, IMAGES, name)
        return (unit_rows(rows.to(dtype)) if metric.normalize else rows.to(dtype)), pids

    def check_distances(self) -> None:
        first, second = torch.tensor([0, 2, 4, 1]), torch.tensor([7, 0, 40, 7])
        for dtype, close in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
            metric, rows = self.fresh(dtype)
            before, same = rows.clone(), rows[:1].expand(4, -1).clone()
            whole, part = metric.distances(rows[:5], rows), metric.distances(rows[1:3], rows[4:9])
            self.expect_finite(whole, "the distances of ordinary embeddings")
            self.expect_equal(whole[1:3, 4:9], part, f"the distances of pairs among other rows ({dtype})", close)
            some = metric.pair_distances(rows[:5], rows, first, second)
            self.expect_equal(whole[first, second], some, f"distances and pair_distances ({dtype})", close)
            self.expect_finite(metric.distances(same, same), "the distances of equal embeddings")
            self.expect(torch.equal(rows, before), "it changed the embeddings in place")

    def check_smaller_is_closer(self) -> None:
        metric, rows = self.fresh()
        _, pids = self.embeddings(metric, "test")
        distances = metric.distances(rows[:IDENTITIES], rows[IDENTITIES:])
        self.expect_ordered(distances, pids[:IDENTITIES], pids[IDENTITIES:])

    def check_a_projected_row_does_not_depend_on_the_others(self) -> None:
        metric, projected = self.fresh()
        rows, _ = self.embeddings(metric, "test")
        before, part = rows.clone(), metric.project(rows[2:4])
        self.expect(torch.equal(rows, before), "it changed the embeddings in place")
        self.expect_equal(projected[2:4], part, "two rows projected alone and among others", 1e-9)

    def check_factors_order_as_distances_do(self) -> None:
        metric, rows = self.fresh()
        factors = metric.factors(rows)
        if factors is None:
            raise NotApplicable
        for name, side, alone in zip(("left", "right"), factors, metric.factors(rows[2:4]) or (), strict=True):
            self.expect_finite(side, f"the {name} factors")
            self.expect_equal(side[2:4], alone, f"the {name} factors of two rows alone and among others", 1e-9)
        products, distances = factors[0][:20] @ factors[1].T, metric.distances(rows[:20], rows)
        # In the order of the products no distance may fall, but by rounding.
        falls = -distances.gather(1, products.argsort(dim=1, stable=True)).diff(dim=1) / distances.abs().max()
        wrong, worst = int((falls > 1e-7).sum()), f"{falls.max().item():.3g} of the largest distance"
        places = f"in {wrong} of {falls.numel()} places of 20 rankings"
        self.expect(wrong == 0, f"{places} the factors put the farther one first, at worst by {worst}")

    def check_blocks_of_any_size(self) -> None:
        metric, rows = self.fresh()
        if not isinstance(metric.metric, PairMetric):
            raise NotApplicable
        query, units = rows[: STARTS[-1]], len(STARTS) - 1
        whole, part = (
            torch.cat([*reranked_blocks(metric.metric, query, rows, metric, units, size)])
            for size in (units, units - 1)
        )
        self.expect_equal(whole, part, f"the distances of queries in blocks of {units} and {units - 1}")

    def check_fit_repeats(self) -> None:
        (first, rows), (second, _) = self.fresh(), self.fresh()
        if not learns(first.metric):
            raise NotApplicable
        what = "the distances of two metrics fitted on the same embeddings"
        self.expect_equal(first.distances(rows, rows), second.distances(rows, rows), what)


check_metric = contract_check("metric", _MetricChecks)
