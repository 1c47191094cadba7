"""What kissme and mahalanobis share: PCA, and in it the covariances of one person's and two people's differences."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reidbench import DataError, IntArray, OptionError, stream
from reidbench_metrics.forms import LearnedForm, checked, inverse
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
    """The inverse covariance of one person's differences, less that of two people's where ``two_people`` says so."""

    two_people: bool

    def __init__(self, pca: int | None, pairs: Literal["official", "all"], seed: int, normalize: bool) -> None:
        if pca is not None and pca < 1:
            raise OptionError(f"metric {self.name}: expected pca of none or at least 1, got {pca=}")
        self.pca, self.pairs, self.seed, self.normalize = pca, pairs, seed, normalize

    def fit(self, embeddings: Tensor, pids: IntArray, cams: IntArray) -> None:
        """Learn from training embeddings [n, D], of unit length if ``normalize``."""
        rows = checked(self.name, embeddings, pids, cams)
        within, between = counts_across(pids, cams)
        if not within or (self.two_people and not between):
            raise DataError(
                f"metric {self.name}: {within} pairs of one person and {between} of two people in two cameras; it "
                "learns from people that two cameras have seen: give it more training data, or use a metric that "
                "learns nothing"
            )
        if self.pairs == "all":
            mean, basis = self._principal(rows)
            one, two = (basis.T @ scatter @ basis for scatter in scatters_across(rows, mean, pids, cams))
            self._learn(mean, basis, (one, within), (two, between))
            return
        first, second = positives(pids, cams)
        if self.two_people:
            others = negatives(pids, cams, len(first), stream(self.seed, self.name, "pairs"))
            first, second = np.concatenate([first, others[0]]), np.concatenate([second, others[1]])
        self.fit_pairs(rows, pids, first, second)

    def fit_pairs(self, embeddings: Tensor, pids: IntArray, first: IntArray, second: IntArray) -> None:
        """Learn from every tenth of given pairs of rows of training embeddings [n, D], as KISSME.m does."""
        rows = checked(self.name, embeddings, pids)
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
        matrix = self._precision(*one, "one person")
        if self.two_people:
            matrix = positive_definite(matrix - self._precision(*two, "two people"))
        self.learned(mean, basis, matrix)

    def _precision(self, scatter: Tensor, count: int, whose: str) -> Tensor:
        refused = (
            f"metric {self.name}: the covariance of {count} differences of {whose} in {len(scatter)} dimensions is "
            "singular; lower pca, try pairs=all (otherwise it learns from every tenth pair), or give more training data"
        )
        return inverse(scatter / max(count, 1), refused)


def positive_definite(matrix: Tensor) -> Tensor:
    """Return a symmetric matrix [K, K] as it is if positive definite, else with its lowest eigenvalues raised."""
    values, vectors = torch.linalg.eigh(matrix)
    if values[0] > 0:
        return matrix
    raised: Tensor = vectors * torch.where(values <= _ZERO, _FLOOR, values)
    return raised @ vectors.T
