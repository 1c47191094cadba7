"""KISSME: the log-likelihood ratio of a difference as that of a positive and of a negative pair."""

from __future__ import annotations

from collections.abc import Callable

from reidbench import Metric, hookimpl
from reidbench_metrics.covariances import PairCovariances


class KISSME(PairCovariances):
    """Keep it simple and straightforward: after PCA, the log-likelihood ratio of a difference under two Gaussians.

    Options:
        pca: Maximum number of principal components; none uses all.
        pairs: "official" samples pairs as the script does and uses every tenth, "all" uses all pairs across cameras.
        seed: Seed of the sampled negative pairs.
        normalize: Whether rows get length 1 first, as in the official scripts.

    The distance is the squared form (x - y)' M (x - y) in the space of the components, with M = S_1^-1 - S_2^-1 of the
    covariances S_1 and S_2 of the differences of positive and of negative pairs across cameras. Where M is not positive
    definite, its eigenvalues up to 1e-10 become 1e-6. The script's pairs are all positive
    ones across cameras and as many sampled negative ones across cameras.
    Embeddings are [n, D], float32 or float64; learning and distances are in float64, in memory for a few matrices of
    D^2 and the pairs' rows beside the embeddings. Raises OptionError for options out of range and DataError where
    there are no pairs to learn from or a covariance is singular.

    Source: Koestinger, Hirzer, Wohlhart, Roth, Bischof 2012, "Large scale metric learning from equivalence
    constraints"; applypca2.m, gen_train_sample_kissme.m, KISSME.m and validateCovMatrix.m of MARS-evaluation.
    """

    name = "kissme"
    with_negatives = True


@hookimpl
def register_metrics() -> dict[str, Callable[..., Metric]]:
    return {"kissme": KISSME}
