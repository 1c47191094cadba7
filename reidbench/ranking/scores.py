"""Scores as pure functions of a Ranking: both average precisions, cumulative match, mINP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from reidbench.errors import DataError
from reidbench.ranking.bootstrap import interval
from reidbench.ranking.rankings import Ranking
from reidbench.utils.arrays import FloatArray, IntArray

WITH_INTERVALS = ("map_market", "map_step", "r1", "minp")


@dataclass(frozen=True)
class Scores:
    """Means over the queries, as fractions: both average precisions, the cumulative match at each rank, mINP.

    A query without a match counts as 0 in every mean and is counted in ``unmatched``. ``cameras``, where it was asked
    for, is the matrix of camera pairs, as ``CameraScores.as_dict`` gives it.
    """

    map_market: float
    map_step: float
    cmc: Mapping[int, float]
    minp: float
    queries: int
    gallery: int
    unmatched: int
    cameras: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, float | int]:
        """Return one flat mapping: map_market, map_step, r1, r5, …, minp, queries, gallery, unmatched; no cameras."""
        return {
            "map_market": self.map_market,
            "map_step": self.map_step,
            **{f"r{rank}": value for rank, value in self.cmc.items()},
            "minp": self.minp,
            "queries": self.queries,
            "gallery": self.gallery,
            "unmatched": self.unmatched,
        }


def average_precision(ranking: Ranking, definition: Literal["market", "step"]) -> FloatArray:
    """Return the average precision of each query [nq] float64, 0 for a query without a positive.

    With the k-th positive (from 1) at rank h (from 0), "step" is the mean of k / (h + 1), as in most toolboxes;
    "market" is the trapezoid of the official script, the mean of (k - 1) / h, or 1 where h is 0, and k / (h + 1).
    Source: Zheng et al., compute_AP.m of the Market-1501 and MARS evaluation code.
    """
    counts = np.diff(ranking.starts)
    number = np.arange(1, len(ranking.ranks) + 1) - np.repeat(ranking.starts[:-1], counts)
    query = np.repeat(np.arange(len(counts)), counts)
    weights = precision(number, ranking.ranks, definition)
    return np.bincount(query, weights=weights, minlength=len(counts)) / np.maximum(counts, 1)


def precision(number: IntArray, ranks: IntArray, definition: Literal["market", "step"]) -> FloatArray:
    """Return what each positive adds to an average precision; ``number`` [n] counts them from 1, ``ranks`` [n] from 0.

    The formulas are those of ``average_precision``.
    """
    after = number / (ranks + 1)
    if definition == "step":
        return after
    return (np.where(ranks > 0, (number - 1) / np.maximum(ranks, 1), 1.0) + after) / 2


def inverse_negative_penalty(ranking: Ranking) -> FloatArray:
    """Return, for each query [nq] float64, its positives over the places down to the last of them; 0 without any.

    Source: Ye et al. 2021 (AGW), mINP.
    """
    counts = np.diff(ranking.starts)
    penalty = np.zeros(len(counts))
    matched = counts > 0
    penalty[matched] = counts[matched] / (ranking.ranks[ranking.starts[1:][matched] - 1] + 1)
    return penalty


def first_match(ranking: Ranking) -> IntArray:
    """Return the rank of each query's first positive [nq] int64, from 0; -1 for a query without any."""
    first = np.full(len(ranking), -1, dtype=np.int64)
    matched = np.diff(ranking.starts) > 0
    first[matched] = ranking.ranks[ranking.starts[:-1][matched]]
    return first


def score(ranking: Ranking, gallery_size: int, ranks: tuple[int, ...]) -> Scores:
    """Return the means over all queries; a query without a match counts as 0 and stays in the denominator.

    ``ranks`` are the places of the cumulative match (1 is the first). Sums are exact, so the order of queries does not
    matter. Raises DataError where there is no query.
    """
    if len(ranking) == 0:
        raise DataError("there is nothing to score: expected at least one query, got none")
    first = first_match(ranking)
    matched = first >= 0
    return Scores(
        map_market=_mean(average_precision(ranking, "market")),
        map_step=_mean(average_precision(ranking, "step")),
        cmc={rank: float((matched & (first < rank)).mean()) for rank in ranks},
        minp=_mean(inverse_negative_penalty(ranking)),
        queries=len(ranking),
        gallery=gallery_size,
        unmatched=int((~matched).sum()),
    )


def intervals(ranking: Ranking, pids: IntArray) -> dict[str, list[float]]:
    """Return the 95 % interval [low, high] of each mean by its name, drawn over the queries' identities ``pids`` [nq].

    Empty where all queries show one identity. The draws are the same for every ranking of these queries.
    """
    values = (
        average_precision(ranking, "market"),
        average_precision(ranking, "step"),
        (first_match(ranking) == 0).astype(np.float64),
        inverse_negative_penalty(ranking),
    )
    found = {name: interval(each, pids) for name, each in zip(WITH_INTERVALS, values, strict=True)}
    return {name: list(between) for name, between in found.items() if between is not None}


def _mean(values: FloatArray) -> float:
    return math.fsum(values) / len(values)
