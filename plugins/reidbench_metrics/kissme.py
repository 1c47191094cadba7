"""KISSME: how much likelier a difference is one person's than two people's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from reidbench import Metric, hookimpl
from reidbench_metrics.covariances import PairCovariances


class KISSME(PairCovariances):
    """Keep it simple and straightforward: after PCA, the log-likelihood ratio of a difference under two Gaussians.

    Options:
        pca: How many principal components are kept at most; none keeps all.
        pairs: Every tenth of pairs drawn as the official script does, or "all" pairs of two cameras, none drawn.
        seed: The seed of the drawn pairs of two people.
        normalize: Whether rows get length 1 first, as in the official scripts.

    The distance is the squared form (x - y)' M (x - y) in the space of the components, with M = S_1^-1 - S_2^-1 of the
    covariances S_1 and S_2 of one person's and two people's differences between cameras. Where M is not positive
    definite, its eigenvalues up to 1e-10 become 1e-6. The script's pairs are all of one person in two cameras and as
    many drawn ones of two people in two cameras.
    Embeddings are [n, D], float32 or float64; learning and distances are in float64, in memory for a few matrices of
    D^2 and the pairs' rows beside the embeddings. Raises OptionError for options out of range and DataError where
    nothing can be learned or a covariance is singular.

    Source: Koestinger, Hirzer, Wohlhart, Roth, Bischof 2012, "Large scale metric learning from equivalence
    constraints"; applypca2.m, gen_train_sample_kissme.m, KISSME.m and validateCovMatrix.m of MARS-evaluation.
    """

    name = "kissme"
    two_people = True

    def __init__(
        self,
        *,
        pca: int | None = 200,
        pairs: Literal["official", "all"] = "official",
        seed: int = 0,
        normalize: bool = True,
    ) -> None:
        super().__init__(pca, pairs, seed, normalize)


@hookimpl
def register_metrics() -> dict[str, Callable[..., Metric]]:
    return {"kissme": KISSME}
