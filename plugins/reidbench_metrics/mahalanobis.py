"""The Mahalanobis distance under the covariance of the differences of positive pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from reidbench import Metric, hookimpl
from reidbench_metrics.covariances import PairCovariances


class Mahalanobis(PairCovariances):
    """After PCA, the squared Mahalanobis distance under the covariance of positive pairs across cameras.

    Options:
        pca: Maximum number of principal components; none uses all.
        pairs: "official" uses every tenth positive pair across cameras as the script does, "all" uses all.
        normalize: Whether rows get length 1 first, as in the official scripts.

    The distance is (x - y)' S_1^-1 (x - y) in the space of the components; nothing is sampled, no root taken.
    Shapes, dtypes, memory and errors are those of kissme.

    Source: LearnAlgoMahal.m of the KISSME toolbox in MARS-evaluation, with applypca2.m and gen_train_sample_kissme.m.
    """

    name = "mahalanobis"
    with_negatives = False

    def __init__(
        self, *, pca: int | None = 200, pairs: Literal["official", "all"] = "official", normalize: bool = True
    ) -> None:
        super().__init__(pca=pca, pairs=pairs, normalize=normalize)


@hookimpl
def register_metrics() -> dict[str, Callable[..., Metric]]:
    return {"mahalanobis": Mahalanobis}
