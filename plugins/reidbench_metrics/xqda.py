"""XQDA: a subspace and a metric in it, from the differences of positive and negative pairs across cameras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reidbench import DataError, IntArray, Metric, OptionError, hookimpl, stream
from reidbench_metrics.forms import LearnedForm, check_training, inverse
from reidbench_metrics.pairs import counts_across, halves, mean_of, scatters_across


class XQDA(LearnedForm):
    """Cross-view quadratic discriminant analysis: a learned subspace and a distance in it, which can be negative.

    Options:
        dims: Maximum number of dimensions; none uses those whose singular value is above 1.
        lam: Added to the diagonal of the covariance of positive pairs.
        pairs: "official" samples pairs as the script does, "all" uses all pairs across cameras.
        seed: Seed of the sampled pairs.
        normalize: Whether rows get length 1 first, as in the official scripts.

    With S_I and S_E the covariances of the differences of positive and negative pairs across two views, the
    subspace W holds the left singular vectors (not the eigenvectors) of (S_I + lam)^-1 S_E with a singular value above
    1, at least one, and the distance is (x - y)' W M W' (x - y) with M = (W'(S_I + lam)W)^-1 - (W' S_E W)^-1.
    The script's two views are two halves of each identity's units (paired, and without pairs of one camera); every
    unit of the first is paired with every unit of the second. With pairs=all a view is a camera.
    Embeddings are [n, D], float32 or float64; learning and distances are in float64, in memory for a few matrices of
    min(D, n)^2 beside the embeddings. Raises OptionError for options out of range and DataError without pairs.

    Source: Liao, Hu, Zhu, Li 2015, "Person re-identification by local maximal occurrence representation and metric
    learning"; XQDA.m, MahDist.m and gen_train_sample_xqda.m of MARS-evaluation.
    """

    name = "xqda"

    def __init__(
        self,
        *,
        dims: int | None = None,
        lam: float = 0.001,
        pairs: Literal["official", "all"] = "official",
        seed: int = 0,
        normalize: bool = True,
    ) -> None:
        if (dims is not None and dims < 1) or lam < 0:
            raise OptionError(
                f"metric xqda: expected dims of none or at least 1, and lam of at least 0; got {dims=}, {lam=}"
            )
        self.dims, self.lam, self.pairs, self.seed, self.normalize = dims, lam, pairs, seed, normalize

    def fit(self, embeddings: Tensor, pids: IntArray, cams: IntArray) -> None:
        """Learn from training embeddings [n, D], of unit length if ``normalize``."""
        rows = check_training(self.name, embeddings, pids, cams)
        if self.pairs == "all":
            self._learn(rows, pids, cams)
        else:
            self.fit_pairs(rows, pids, *halves(pids, cams, stream(self.seed, "xqda", "pairs")))

    def fit_pairs(self, embeddings: Tensor, pids: IntArray, first: IntArray, second: IntArray) -> None:
        """Learn from two views: rows ``first`` and rows ``second`` of training embeddings [n, D], as XQDA.m does."""
        rows = check_training(self.name, embeddings, pids)
        both = np.concatenate([first, second])
        self._learn(rows[both], pids[both], np.repeat([0, 1], [len(first), len(second)]))

    def _learn(self, rows: Tensor, pids: IntArray, sides: IntArray) -> None:
        within, between = counts_across(pids, sides)
        if not within or not between:
            raise DataError(
                f"metric xqda: {within} positive and {between} negative pairs across two views; expected both. Needs "
                "at least two identities in two cameras each: give it more training data, try pairs=all, or use a "
                "metric that is not learned"
            )
        mean = mean_of(rows)
        span = None
        if rows.shape[1] > len(rows):
            # The result lies in the span of the rows, in which they have fewer coordinates.
            span = torch.linalg.qr((rows.double() - mean).T)[0]
            used, centre = (rows.double() - mean) @ span, torch.zeros(span.shape[1], dtype=torch.float64)
        else:
            used, centre = rows, mean
        intra, extra = scatters_across(used, centre, pids, sides)
        intra, extra = intra / within, extra / between
        intra.diagonal().add_(self.lam)
        ratio = inverse(intra, "metric xqda: the covariance of positive pairs is singular; raise lam") @ extra
        vectors, values, _ = torch.linalg.svd(ratio)
        dims = max(1, int((values > 1).sum()))
        subspace = vectors[:, : min(dims, self.dims or dims)]
        message = "metric xqda: the covariance of negative pairs is singular in the subspace; set dims to fewer"
        matrix = inverse(subspace.T @ intra @ subspace, message) - inverse(subspace.T @ extra @ subspace, message)
        self.set_form(mean, subspace if span is None else span @ subspace, matrix)


@hookimpl
def register_metrics() -> dict[str, Callable[..., Metric]]:
    return {"xqda": XQDA}
