"""The registry of scores: each is a function of a Ranking that gives one value per query.

Records, intervals, leaderboard columns, report tables, comparisons, the site and JSON follow from ``SCORES``: a new
score is one entry there and one line in docs/leaderboards.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reidbench.data.protocol import RANK_SCORES, RECALL_AT_K
from reidbench.errors import DataError
from reidbench.ranking.bootstrap import interval
from reidbench.ranking.rankings import Ranking
from reidbench.utils.arrays import FloatArray, IntArray

HEADLINE = ("map_market", "r1")  # the first scores of re-identification, and those of the camera matrix
_RETRIEVAL_HEADLINE = ("recall_at_1", "map_at_r")
_RANK_SCORE = re.compile(r"(?:r|recall_at_)([1-9][0-9]{0,5})")
# What tables leave out where they show rank-k (and with it the ranks after the second), and where Recall@K.
_NOT_BESIDE_RANK_K, _NOT_BESIDE_RECALL = ("r_precision", "map_at_r"), ("map_market", "map_step", "minp")


@dataclass(frozen=True)
class Score:
    """A reported number: the mean over the queries of one value from 0 to 1 per query.

    Fields:
        per_query: returns the values [nq] float64 of a ranking.
        label: the heading of tables and pages.
        description: one clause for a page's tooltip.
        higher_is_better: whether the largest value is the best.
        with_interval: whether records hold the 95 % interval of the mean, also where it is not the primary score.
    """

    per_query: Callable[[Ranking], FloatArray]
    label: str
    description: str
    higher_is_better: bool = True
    with_interval: bool = True

    def best(self, values: Iterable[float]) -> float:
        """Return the best of some values of this score."""
        return max(values) if self.higher_is_better else min(values)


@dataclass(frozen=True)
class Scores:
    """The scores of a ranking; each is an attribute too: ``scores.map_market``, ``scores.r5``.

    Fields:
        values: the mean of each score over the queries, a fraction, by the score's name.
        queries: number of queries.
        gallery: number of gallery items, excluded ones among them.
        unmatched: number of queries without a positive; each counts as 0 in every mean.
        cameras: the matrix of camera pairs as ``CameraScores.as_dict`` returns it, or empty.
        own_rows: number of queries that are a row of the gallery's own array, which is excluded from their ranking.
        intervals: the 95 % interval [low, high] of each score that has one, by name, as ``intervals`` returns them.
        per_query: by name, "ap_market" and "ap_step" [nq] float64, and "first" [nq] int64, the rank of the first
            positive from 0, -1 if none.
    """

    values: Mapping[str, float]
    queries: int
    gallery: int
    unmatched: int
    cameras: Mapping[str, Any] = field(default_factory=dict)
    own_rows: int = 0
    intervals: Mapping[str, list[float]] = field(default_factory=dict)
    per_query: Mapping[str, NDArray[Any]] = field(default_factory=dict, compare=False, repr=False)

    def __getattr__(self, name: str) -> float:
        try:
            return self.__dict__["values"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"no score is called {name!r}") from None

    @property
    def cmc(self) -> dict[int, float]:
        """The cumulative matching characteristic: rank-k, or Recall@K, by k."""
        return {rank: self.values[name] for name, rank in _ranks(self.values).items()}

    def as_dict(self) -> dict[str, float | int]:
        """Return one flat mapping: map_market, …, r1, r5, …, map_at_r, queries, gallery, unmatched, any own_rows."""
        counts = {"queries": self.queries, "gallery": self.gallery, "unmatched": self.unmatched}
        return {**self.values, **counts, **({"own_rows": self.own_rows} if self.own_rows else {})}


def average_precision(ranking: Ranking, definition: Literal["market", "step"]) -> FloatArray:
    """Return the average precision of each query [nq] float64, 0 for a query without a positive.

    With the k-th positive (from 1) at rank h (from 0), "step" is the mean of k / (h + 1), as in most toolboxes;
    "market" is the trapezoid of the official script, the mean of (k - 1) / h, or 1 where h is 0, and k / (h + 1).
    Source: Zheng et al., compute_AP.m of the Market-1501 and MARS evaluation code.
    """
    return _mean_over_positives(ranking, lambda number, _: precision(number, ranking.ranks, definition))


def precision(number: IntArray, ranks: IntArray, definition: Literal["market", "step"]) -> FloatArray:
    """Return what each positive adds to an average precision; ``number`` [n] counts them from 1, ``ranks`` [n] from 0.

    The formulas are those of ``average_precision``.
    """
    after = number / (ranks + 1)
    if definition == "step":
        return after
    return (np.where(ranks > 0, (number - 1) / np.maximum(ranks, 1), 1.0) + after) / 2


def r_precision(ranking: Ranking) -> FloatArray:
    """Return the share of positives among the first R items of each query [nq] float64; 0 without any positive.

    R is the query's number of positives. Source: Musgrave et al. 2020.
    """
    return _mean_over_positives(ranking, lambda _, r: ranking.ranks < r)


def average_precision_at_r(ranking: Ranking) -> FloatArray:
    """Return what the first R items of each query add to its step average precision [nq] float64; 0 without a positive.

    R is the query's number of positives; the mean over queries is MAP@R. Source: Musgrave et al. 2020.
    """
    ranks = ranking.ranks
    return _mean_over_positives(ranking, lambda number, r: (ranks < r) * precision(number, ranks, "step"))


def _mean_over_positives(ranking: Ranking, value: Callable[[IntArray, IntArray], NDArray[Any]]) -> FloatArray:
    """Return the mean of a value over the positives of each query [nq] float64; 0 without any.

    ``value`` is called with the number of each positive among those of its query, from 1, and how many these are [n].
    """
    counts = np.diff(ranking.starts)
    query = np.repeat(np.arange(len(counts)), counts)
    values = value(np.arange(1, len(query) + 1) - ranking.starts[query], counts[query])
    return np.bincount(query, weights=values, minlength=len(counts)) / np.maximum(counts, 1)


def inverse_negative_penalty(ranking: Ranking) -> FloatArray:
    """Return each query's number of positives over the rank (from 1) of the last of them [nq] float64; 0 without any.

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


def matched_within(ranking: Ranking, rank: int) -> FloatArray:
    """Return 1 for each query [nq] float64 with a positive among its first ``rank`` (from 1) items, else 0."""
    first = first_match(ranking)
    return ((first >= 0) & (first < rank)).astype(np.float64)


SCORES: dict[str, Score] = {
    "map_market": Score(
        partial(average_precision, definition="market"),
        "mAP (market)",
        "mean average precision, trapezoid rule of the Market-1501 script",
    ),
    "map_step": Score(
        partial(average_precision, definition="step"),
        "mAP (step)",
        "mean average precision, step rule of most toolboxes",
    ),
    "minp": Score(inverse_negative_penalty, "mINP", "mean inverse negative penalty"),
    "r_precision": Score(r_precision, "R-precision", "share of positives among the first R items, for R positives"),
    "map_at_r": Score(average_precision_at_r, "MAP@R", "mean average precision of the first R items, for R positives"),
}


def _ranks(names: Iterable[str]) -> dict[str, int]:
    """Return the ranks of those of the names that are of a score at a rank, by name in the order of the ranks."""
    ranks = {name: int(match[1]) for name in names if (match := _RANK_SCORE.fullmatch(name))}
    return dict(sorted(ranks.items(), key=lambda item: item[1]))


def scores_at(names: Iterable[str] = RANK_SCORES) -> dict[str, Score]:
    """Return all scores in the order of columns: mean average precisions, rank-k, all others.

    The rank-k (or Recall@K) are those among ``names``.
    """
    precisions = {name: SCORES[name] for name in ("map_market", "map_step")}
    rank_k = {
        name: Score(
            partial(matched_within, rank=rank),
            f"{'Recall@' if name.startswith(RECALL_AT_K) else 'rank-'}{rank}",
            f"queries with a positive among the first {rank}" if rank > 1 else "queries whose first item is a positive",
            with_interval=rank == 1,
        )
        for name, rank in _ranks(names).items()
    }
    return {**precisions, **rank_k, **SCORES}


def shown_scores(names: Collection[str] = (), primary: str = "") -> dict[str, Score]:
    """Return those of the scores called ``names`` that tables and comparisons show, the ``primary`` one among them.

    Without names they are those of re-identification.
    """
    scores = {name: each for name, each in scores_at(names or RANK_SCORES).items() if not names or name in names}
    retrieval = RECALL_AT_K + "1" in scores
    hidden = _NOT_BESIDE_RECALL if retrieval else (*_NOT_BESIDE_RANK_K, *list(_ranks(scores))[2:])
    return {name: each for name, each in scores.items() if name not in hidden or name == primary}


def headline_scores(names: Collection[str], primary: str) -> list[str]:
    """Return those of ``names`` that come first, with a standard deviation in leaderboards; the primary score first."""
    first = _RETRIEVAL_HEADLINE if RECALL_AT_K + "1" in names else HEADLINE
    return [name for name in dict.fromkeys((primary, *first)) if name in names]


def named_score(name: str) -> Score:
    """Return the score of this name, rank-k for any k; raises DataError where there is none."""
    found = scores_at([name]).get(name)
    if found is None:
        raise DataError(f"there is no score {name!r}; there are {', '.join(scores_at())}")
    return found


def headline(scores: Mapping[str, float], primary: str) -> str:
    """Return the first scores in words, the primary one first, such as "mAP 54.36 %, rank-1 61.11 %"."""
    names = headline_scores(scores, primary)
    return ", ".join(f"{named_score(name).label} {100 * scores[name]:.2f} %" for name in names)


def score(ranking: Ranking, gallery_size: int, names: Iterable[str] = RANK_SCORES) -> Scores:
    """Return the means over all queries; a query without a positive counts as 0 and stays in the denominator.

    The rank-k (or Recall@K) are those among ``names``. Sums are exact, so the order of queries does not matter.
    """
    return Scores(
        values={name: math.fsum(each.per_query(ranking)) / len(ranking) for name, each in scores_at(names).items()},
        queries=len(ranking),
        gallery=gallery_size,
        unmatched=int((first_match(ranking) < 0).sum()),
    )


def intervals(
    ranking: Ranking, pids: IntArray, names: Iterable[str] = RANK_SCORES, primary: str = ""
) -> dict[str, list[float]]:
    """Return the 95 % interval [low, high] of each mean that has one, by name; ``pids`` [nq] are the queries'.

    The scores are those of ``score``. Identities are resampled, the same ones for every ranking of these queries. Empty
    where there is one identity.
    """
    chosen = {name: each for name, each in scores_at(names).items() if each.with_interval or name == primary}
    bounds = {name: interval(each.per_query(ranking), pids) for name, each in chosen.items()}
    return {name: list(between) for name, between in bounds.items() if between is not None}
