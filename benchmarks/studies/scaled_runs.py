"""Runs by request, differences with intervals, and verdicts, for the rules of the paper's claims.

A rule takes the runs and returns the verdict, the line ``measured`` and the commands of the scaled runs. Where a note
leaves it open: a rule of several parts holds if all hold, and does not hold here if one of them does not; a part that
asks for the sign of a mean alone holds by its sign, and does not hold by its interval. Numbers are points of mAP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from reidbench_reports.claims import Verdict
from scipy.special import stdtrit

import reidbench
from reidbench import DataError, ReidbenchError, RunFiles, RunRecord, mean_and_sd
from reidbench.ranking.rankings import read_ranking
from reidbench.ranking.scores import named_score
from reidbench.reports.compare_runs import identities_of
from reidbench.studies.comparison import ALPHA, Pair, compare
from reidbench.utils.machine import local_machine

HOLDS, FAILS, OPEN, NOT_RUN = get_args(Verdict)
SEEDS = 3  # of the scaled runs

Floats = NDArray[np.float64]
Log = Mapping[str, NDArray[Any]]
Judgement = tuple[str, str, str]  # verdict, measured, scaled


CPU = "--device cpu --threads 1"
TABLE1 = f"reidbench study leaderboards/studies/table1.toml --data-root standin {CPU}"
STEPS = "reidbench study leaderboards/studies/steps_{}.toml " + CPU
SUITE = f"reidbench run claims_scaled {CPU}"


class MissingRunsError(Exception):
    """Runs that a rule needs are not in the results folder; the message names them."""


def run_script(main: Callable[[], None]) -> None:
    """Run the function of a script; what is missing or cannot be written ends it with a message."""
    try:
        main()
    except (ReidbenchError, MissingRunsError, OSError) as error:
        raise SystemExit(str(error)) from None


def join(values: Iterable[object]) -> str:
    """Return values as a list in words."""
    return ", ".join(map(str, values))


# Verdicts.


def at_least(number: int, verdicts: Iterable[str]) -> str:
    """Return whether at least ``number`` of the verdicts hold, as far as those that are not told apart let it say."""
    verdicts = list(verdicts)
    if verdicts.count(HOLDS) >= number:
        return HOLDS
    return FAILS if len(verdicts) - verdicts.count(FAILS) < number else OPEN


def every(verdicts: Iterable[str]) -> str:
    """Return whether all verdicts hold; it does not hold where one of them does not."""
    verdicts = list(verdicts)
    return at_least(len(verdicts), verdicts)


def some(verdicts: Iterable[str]) -> str:
    """Return whether one of the verdicts holds; it does not hold where none of them does."""
    return at_least(1, verdicts)


def decide(holds: bool, fails: bool) -> str:
    """Return the verdict of two conditions; where both or neither is true, it is not told apart."""
    return OPEN if holds == fails else HOLDS if holds else FAILS


def over_seeds(truths: Iterable[bool]) -> str:
    """Return the verdict of a rule that is true of every seed, of none, or of some."""
    truths = list(truths)
    return decide(all(truths), not any(truths))


# Scores and their differences, in points: hundredths.


@dataclass(frozen=True)
class Difference:
    """A difference in points with the ends of its 95 % interval."""

    gap: float
    low: float
    high: float

    @classmethod
    def of(cls, pair: Pair, sign: int = 1) -> Difference:
        """Return the difference of a pair, or of the pair in the other order with the sign -1."""
        low, high = sorted(100 * sign * end for end in pair.interval)
        return cls(100 * sign * pair.difference, low, high)

    @property
    def verdict(self) -> str:
        """Return whether it is above 0 by its interval."""
        return HOLDS if self.low > 0 else FAILS if self.high < 0 else OPEN

    @property
    def plain(self) -> str:
        """Return the same where a note asks for the sign alone: what has it holds, what does not fails by interval."""
        return HOLDS if self.gap > 0 else self.verdict

    def within(self, low: float, high: float) -> str:
        """Return whether the whole interval is between two numbers; it is not where all of it is outside."""
        return decide(low < self.low and self.high < high, self.high < low or self.low > high)

    def __str__(self) -> str:
        return f"{self.gap:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


@dataclass(frozen=True)
class Scores:
    """A score of each query under each seed.

    ``values``: [seeds, queries].
    ``pids``: the identities of the queries, [queries].
    ``trainings``: the id of each seed's training; none where several were combined.
    """

    values: Floats
    pids: NDArray[np.int64]
    trainings: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Return the mean over seeds and queries in percent."""
        return 100 * float(self.values.mean())

    def minus(self, other: Scores) -> Scores:
        """Return the scores of each seed minus its other scores."""
        trainings = self.trainings if self.trainings == other.trainings else ()
        return Scores(self.values - other.values, self.pids, trainings)

    def times(self, factor: float) -> Scores:
        """Return the scores multiplied by a factor."""
        return Scores(factor * self.values, self.pids, self.trainings)


def average(scores: Sequence[Scores]) -> Scores:
    """Return the mean of some losses' scores, by seed and query."""
    return Scores(np.mean([each.values for each in scores], axis=0), scores[0].pids)


def pairs_of(scores: Mapping[str, Scores]) -> dict[tuple[str, str], tuple[Pair, int]]:
    """Return the pair of each two names in either order, and the sign of its difference in this order.

    The variance between seeds is pooled over all names.
    """
    pids = next(iter(scores.values())).pids
    if not all(np.array_equal(each.pids, pids) for each in scores.values()):
        raise ValueError(f"{', '.join(scores)}: were not scored on the same queries")
    pairs = compare({name: each.values for name, each in scores.items()}, pids).pairs
    return {(pair.a, pair.b): (pair, 1) for pair in pairs} | {(pair.b, pair.a): (pair, -1) for pair in pairs}


def difference(a: Scores, b: Scores) -> Difference:
    """Return a - b, with the variance between seeds of these two."""
    return Difference.of(*pairs_of({"a": a, "b": b})["a", "b"])


def same_trainings(a: Scores, b: Scores) -> Difference:
    """Return a - b for two scores of the same trainings, paired by training.

    Its variance is that over identities and that of the differences between seeds; what both share counts twice, which
    is cautious. Degrees of freedom by Satterthwaite, as in a study. Raises ValueError where the trainings differ.
    """
    if not a.trainings or a.trainings != b.trainings:
        raise ValueError("these are not two scores of the same trainings")
    (pair, sign), gains = pairs_of({"a": a, "b": b})["a", "b"], a.minus(b).values.mean(axis=1)
    gap = 100 * sign * pair.difference
    if len(gains) < 2:
        return Difference.of(pair, sign)
    identities, v_seed = len(np.unique(a.pids)), float(gains.var(ddof=1)) / len(gains)
    variance = pair.v_identity + v_seed
    df = variance**2 / (pair.v_identity**2 / (identities - 1) + v_seed**2 / (len(gains) - 1)) if variance else 1
    half = 100 * float(stdtrit(df, 1 - ALPHA / 2)) * variance**0.5
    return Difference(gap, gap - half, gap + half)


def mean_and_sd_text(values: Iterable[float]) -> str:
    """Return mean and standard deviation of fractions, in percent, in one word."""
    mean, sd = mean_and_sd(values)
    return f"{100 * mean:.2f} ± {100 * (sd or 0):.2f}".replace(" ", "\N{NO-BREAK SPACE}")


# Runs.


@dataclass(frozen=True)
class Request:
    """The items of some runs, as given or by what differs from the defaults, and the number of their seeds."""

    loss: str
    protocol: str
    recipe: str
    metric: str = "euclidean"
    rerank: str = "none"
    seeds: int = SEEDS
    backbone: str = "tiny"

    def __str__(self) -> str:
        others = {"tiny": self.backbone, "euclidean": self.metric, "none": self.rerank}  # by the default
        options = [value for default, value in others.items() if value != default]
        return join([f"{self.loss} on {self.protocol}", self.recipe, *options])

    def matches(self, record: RunRecord) -> bool:
        """Return whether a run is one of these, of any seed."""
        kinds = ("loss", "protocol", "backbone", "recipe", "metric", "rerank")
        return all(getattr(self, kind) in (record.items[kind].given, record.items[kind].short) for kind in kinds)


def read_scores(runs: Sequence[tuple[Path, RunRecord]], score: str = "map_market") -> Scores:
    """Return one score of some runs, one for each seed."""
    rankings = [read_ranking(folder) for folder, _ in runs]
    values = np.array([named_score(score).per_query(ranking) for ranking in rankings])
    return Scores(values, identities_of(rankings[0]), tuple(record.train_id for _, record in runs))


class Runs:
    """The scored runs of a results folder; ``seeds`` is the most of each request that are read, from 0."""

    def __init__(self, results: str | None, seeds: int) -> None:
        stored = reidbench.records(results=results)
        self.seeds = seeds
        self._stored = [pair for pair in zip(stored.folders, stored, strict=True) if pair[1].scored]
        self._files = RunFiles(self._stored, local_machine(results=results))
        self._scores: dict[tuple[Request, str], Scores] = {}

    def find(self, request: Request) -> list[tuple[Path, RunRecord]]:
        """Return the latest run of each seed; raises MissingRunsError."""
        by_seed = {run[1].job.seed: run for run in self._stored if request.matches(run[1])}
        seeds = range(min(self.seeds, request.seeds))
        if missing := [str(seed) for seed in seeds if seed not in by_seed]:
            raise MissingRunsError(f"{request}: no run of seed {', '.join(missing)}")
        runs = [by_seed[seed] for seed in seeds]
        if len({record.group for _, record in runs}) > 1:
            raise MissingRunsError(f"{request}: its seeds have different options or data")
        return runs

    def records(self, request: Request) -> list[RunRecord]:
        """Return the record of each seed."""
        return [record for _, record in self.find(request)]

    def scores(self, request: Request, score: str = "map_market") -> Scores:
        """Return one score of a request's runs."""
        if (request, score) not in self._scores:
            self._scores[request, score] = read_scores(self.find(request), score)
        return self._scores[request, score]

    def logs(self, request: Request) -> list[Log]:
        """Return the training log of each seed; raises MissingRunsError."""
        try:
            return [self._files.log(record) for record in self.records(request)]
        except DataError as error:
            raise MissingRunsError(f"{request}: {error}") from None

    def time(self, some_requests: Sequence[Request], others: Sequence[Request]) -> TimeRatio:
        """Return the ratio of the wall times of trainings."""
        sides = [[self.records(request) for request in side] for side in (some_requests, others)]
        seconds = [np.array([[each.seconds["train"] for each in runs] for runs in side]).mean(axis=0) for side in sides]
        return TimeRatio(seconds[0], seconds[1])


@dataclass(frozen=True)
class TimeRatio:
    """The mean wall seconds of the trainings of two sides, by seed."""

    a: Floats
    b: Floats

    @property
    def mean(self) -> float:
        """Return the ratio of the means over the seeds."""
        return float(self.a.mean() / self.b.mean())

    @property
    def by_seed(self) -> list[float]:
        """Return the ratio of each seed."""
        return [float(ratio) for ratio in self.a / self.b]

    def __str__(self) -> str:
        spread = f"by seed {min(self.by_seed):.2f} to {max(self.by_seed):.2f}"
        return f"{self.mean:.2f} times the wall time ({spread}; processes shared the machine)"


# Training logs.


def part(values: Floats, low: int, high: int) -> float:
    """Return the mean of a column from ``low`` to ``high`` percent of the steps."""
    return float(values[len(values) * low // 100 : len(values) * high // 100].mean())


def at_end(values: Floats) -> float:
    """Return the mean of a column over the last tenth of the steps."""
    return part(values, 90, 100)


def means_of_five(values: Floats) -> Floats:
    """Return the mean of a column over every five steps that follow one another."""
    return np.convolve(values, np.full(5, 0.2), mode="valid")


# Rules.

Rule = Callable[[Runs], Judgement]
RULES: dict[str, Rule] = {}  # by the name of the claim


def rule(function: Rule) -> Rule:
    """Add a rule under the name of its claim."""
    RULES[function.__name__] = function
    return function
