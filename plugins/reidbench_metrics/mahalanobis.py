"""The Mahalanobis distance under the covariance of one person's differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from reidbench import Metric, hookimpl
from reidbench_metrics.covariances import PairCovariances


class Mahalanobis(PairCovariances):
    """After PCA, the squared Mahalanobis distance under the covariance of one person's differences between cameras.

    Options:
        pca: How many principal components are kept at most; none keeps all.
        pairs: Every tenth pair of one person in two cameras, as the official script has it, or "all" of them.
        normalize: Whether rows get length 1 first, as in the official scripts.

    The distance is (x - y)' S_1^-1 (x - y) in the space of the components; nothing is drawn, and nothing is rooted.
    Shapes, dtypes, memory and errors are those of kissme.

    Source: LearnAlgoMahal.m of the KISSME toolbox in MARS-evaluation, with applypca2.m and gen_train_sample_kissme.m.
    """

    name = "mahalanobis"
    two_people = False

    def __init__(
        self, *, pca: int | None = 200, pairs: Literal["official", "all"] = "official", normalize: bool = True
    ) -> None:
        super().__init__(pca, pairs, seed=0, normalize=normalize)


@hookimpl
def register_metrics() -> dict[str, Callable[..., Metric]]:
    return {"mahalanobis": Mahalanobis}
