"""Contract checks of metrics: sound metrics pass, metrics with one fault are named."""

import numpy as np
import pytest
import torch
from torch import Tensor

from reidbench import IntArray, Metric
from reidbench.errors import ContractError
from reidbench.testing import check_metric


class Straight(Metric):
    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b)


class Unseeded(Straight):
    def fit(self, embeddings: Tensor, pids: IntArray, cams: IntArray) -> None:
        self.scale = 1 + np.random.default_rng().random()

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return self.scale * super().distances(a, b)


class Projected(Straight):
    def project(self, embeddings: Tensor) -> Tensor:
        return embeddings[:, :3] / 2


def failed_check(metric) -> str:
    with pytest.raises(ContractError) as caught:
        check_metric(metric)
    return caught.value.check


def undocumented(*, scale: float = 1.0) -> Metric:
    return Straight()


SOUND = [Straight, Projected, "euclidean", "euclidean(normalize=true)", "sqeuclidean", "cosine"]


@pytest.mark.parametrize("metric", SOUND)
def test_sound_metrics_pass(metric):
    assert {"distances", "smaller is closer", "options"} <= set(check_metric(metric))


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"distances": lambda self, a, b: -torch.cdist(a, b)}, "smaller is closer"),
        ({"factors": lambda self, rows: (-rows, rows)}, "factors order as distances do"),
        ({"distances": lambda self, a, b: torch.cdist(a.float(), b.float())}, "distances"),
        ({"distances": lambda self, a, b: torch.cdist(a - b.mean(dim=0), b)}, "distances"),
        ({"pair_distances": lambda self, a, b, i, j: Metric.pair_distances(self, a, b, i, j).square()}, "distances"),
        ({"project": lambda self, rows: rows - rows.mean(dim=0)}, "a projected row does not depend on the others"),
    ],
)
def test_metrics_with_one_fault_fail(changes, check):
    assert failed_check(type("Faulty", (Straight,), changes)) == check


def test_unseeded_and_undocumented_metrics_fail():
    assert [failed_check(metric) for metric in (Unseeded, undocumented)] == ["fit repeats", "options"]


def test_a_metric_that_changes_its_inputs_fails():
    in_place = {"distances": lambda self, a, b: torch.cdist(a.abs_(), b.abs_())}
    with pytest.raises(ContractError, match="in place"):
        check_metric(type("Faulty", (Straight,), in_place))
