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


class Similarity(Straight):
    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return -super().distances(a, b)


class OtherOrder(Straight):
    def factors(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        return -embeddings, embeddings


class SinglePrecision(Straight):
    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return super().distances(a.float(), b.float())


class Relative(Straight):
    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return super().distances(a - b.mean(dim=0), b)


class OtherPairs(Straight):
    def pair_distances(self, a: Tensor, b: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return super().pair_distances(a, b, first, second).square()


class Unseeded(Straight):
    def fit(self, embeddings: Tensor, pids: IntArray, cams: IntArray) -> None:
        self.scale = 1 + np.random.default_rng().random()

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return self.scale * super().distances(a, b)


class InPlace(Straight):
    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return super().distances(a.abs_(), b.abs_())


class Projected(Straight):
    def project(self, embeddings: Tensor) -> Tensor:
        return embeddings[:, :3] / 2


class Centred(Straight):
    def project(self, embeddings: Tensor) -> Tensor:
        return embeddings - embeddings.mean(dim=0)


def undocumented(*, scale: float = 1.0) -> Metric:
    return Straight()


@pytest.mark.parametrize(
    "metric", [Straight, Projected, "euclidean", "euclidean(normalize=true)", "sqeuclidean", "cosine"]
)
def test_sound_metrics_pass(metric):
    assert {"distances", "smaller is closer", "options"} <= set(check_metric(metric))


@pytest.mark.parametrize(
    ("metric", "check"),
    [
        (Similarity, "smaller is closer"),
        (OtherOrder, "factors order as distances do"),
        (SinglePrecision, "distances"),
        (Relative, "distances"),
        (OtherPairs, "distances"),
        (Centred, "a projected row does not depend on the others"),
        (Unseeded, "fit repeats"),
        (undocumented, "options"),
    ],
)
def test_metrics_with_one_fault_fail(metric, check):
    with pytest.raises(ContractError) as caught:
        check_metric(metric)
    assert caught.value.check == check, caught.value


def test_a_metric_that_changes_its_inputs_fails():
    with pytest.raises(ContractError, match="in place"):
        check_metric(InPlace)
