"""PCA and the covariances of differences between positive and between negative pairs, for kissme and mahalanobis."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reidbench import DataError, IntArray, OptionError, stream
from reidbench_metrics.forms import LearnedForm, check_training, inverse
from reidbench_metrics.pairs import (
    counts_across,
    mean_of,
    negatives,
    positives,
    scatter_of,
    scatters_across,
    second_moments,
)

STEP = 10  # KISSME.m and its siblings learn from every tenth pair
_ZERO, _FLOOR = 1e-10, 1e-6  # validateCovMatrix.m: in a matrix that is not positive definite, eigenvalues up to _ZERO


class PairCovariances(LearnedForm):
    """The inverse covariance of positive pairs, less that of negative ones if ``with_negatives``; see ``KISSME``."""

    with_negatives: bool

    def __init__(
        self,
        *,
        pca: int | None = 200,
        pairs: Literal["official", "all"] = "official",
        seed: int = 0,
        normalize: bool = True,
    ) -> None:
        if pca is not None and pca < 1:
            raise OptionError(f"metric {self.name}: expected pca of none or at least 1, got {pca=}")
        self.pca, self.pairs, self.seed, self.normalize = pca, pairs, seed, normalize

    def fit(self, embeddings: Tensor, pids: IntArray, cams: IntArray) -> None:
        """Learn from training embeddings [n, D], of unit length if ``normalize``."""
        rows = check_training(self.name, embeddings, pids, cams)
        within, between = counts_across(pids, cams)
        if not within or (self.with_negatives and not between):
            raise DataError(
                f"metric {self.name}: {within} positive and {between} negative pairs across cameras; it needs "
                "identities in at least two cameras: give it more training data, or use a metric that is not learned"
            )
        if self.pairs == "all":
            mean, basis = self._principal(rows)
            one, two = (basis.T @ scatter @ basis for scatter in scatters_across(rows, mean, pids, cams))
            self._learn(mean, basis, (one, within), (two, between))
            return
        first, second = positives(pids, cams)
        if self.with_negatives:
            negative_pairs = negatives(pids, cams, len(first), stream(self.seed, self.name, "pairs"))
            first, second = np.concatenate([first, negative_pairs[0]]), np.concatenate([second, negative_pairs[1]])
        self.fit_pairs(rows, pids, first, second)

    def fit_pairs(self, embeddings: Tensor, pids: IntArray, first: IntArray, second: IntArray) -> None:
        """Learn from every tenth of given pairs of rows of training embeddings [n, D], as KISSME.m does."""
        rows = check_training(self.name, embeddings, pids)
        mean, basis = self._principal(rows)
        first, second = first[::STEP], second[::STEP]
        same = pids[first] == pids[second]
        one, two = ((scatter_of(rows, (first[part], second[part]), basis), int(part.sum())) for part in (same, ~same))
        self._learn(mean, basis, one, two)

    def _principal(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean [D] and the first principal directions [D, at most pca]."""
        mean = mean_of(rows)
        directions = torch.linalg.eigh(second_moments(rows, mean) / len(rows))[1].flip(1)
        return mean, directions[:, : self.pca]

    def _learn(self, mean: Tensor, basis: Tensor, one: tuple[Tensor, int], two: tuple[Tensor, int]) -> None:
        matrix = self._precision(*one, "positive")
        if self.with_negatives:
            matrix = positive_definite(matrix - self._precision(*two, "negative"))
        self.set_form(mean, basis, matrix)

    def _precision(self, scatter: Tensor, count: int, kind: str) -> Tensor:
        message = (
            f"metric {self.name}: the covariance of {count} {kind} pairs in {len(scatter)} dimensions is "
            "singular; lower pca, try pairs=all (the default uses every tenth pair), or give more training data"
        )
        return inverse(scatter / max(count, 1), message)


def positive_definite(matrix: Tensor) -> Tensor:
    """Return a symmetric matrix [K, K] as it is if positive definite, else with its lowest eigenvalues raised."""
    values, vectors = torch.linalg.eigh(matrix)
    if values[0] > 0:
        return matrix
    raised: Tensor = vectors * torch.where(values <= _ZERO, _FLOOR, values)
    return raised @ vectors.T
