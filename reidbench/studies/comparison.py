"""Comparison of losses over their final seeds, in closed form: which may be the best, which pairs are told apart.

A score of a loss varies with the training seed and with the query identities. Both variances enter every difference:
that over identities is paired, that over seeds is the larger of the loss's own and the one pooled over all losses,
and their common part, seed by identity, counts once. Three families of tests share the p values and are never mixed:
the best (Hsu's multiple comparison with the best), a reference named beforehand, and all pairs (Holm both).
Sources: Hsu 1984, Annals of Statistics 12(3); Holm 1979, Scandinavian Journal of Statistics 6(2); Satterthwaite 1946,
Biometrics 2(6). Error rates measured by simulation: docs/study.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidbench.errors import OptionError
from reidbench.ranking.bootstrap import mean_and_sd
from reidbench.utils.arrays import FloatArray

ALPHA = 0.05
LEAST_FREEDOM = 3  # degrees of freedom of the seed variance below which only these checkpoints are compared
_MOST_RATIO = 4  # of a loss's seed variance to the pooled one; above it the loss is flagged
_POWER = 2.9  # a planned pair whose gap is this many standard errors is told apart in 80 % of studies
_LEAST_SE = 1e-9  # differences of rounding alone are no differences
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class LossScores:
    """One loss over its final seeds.

    ``name``: the loss's name.
    ``scores``: the mean over the queries for each seed, fractions.
    ``outside``: why the loss is in no family; empty if it is in all.
    ``seeds_vary_more``: whether its seed variance exceeds four times the pooled one.
    ``p_best``: the p value of "this loss is the best"; None where nothing is claimed.
    ``may_be_best``: whether it is in the set that holds the best loss in 95 % of studies.
    ``places``: the best and the worst place from 1 that the matrix of pairs allows; None where nothing is claimed.
    """

    name: str
    scores: tuple[float, ...]
    outside: str = ""
    seeds_vary_more: bool = False
    p_best: float | None = None
    may_be_best: bool = False
    places: tuple[int, int] | None = None

    @cached_property
    def mean(self) -> float:
        """Return the mean over the seeds; nan without seeds."""
        return mean_and_sd(self.scores)[0] if self.scores else math.nan

    @cached_property
    def sd(self) -> float | None:
        """Return the standard deviation over the seeds (n - 1); None below two."""
        return mean_and_sd(self.scores)[1] if self.scores else None


@dataclass(frozen=True)
class Pair:
    """The difference between two losses, as fractions.

    ``a``, ``b``: the names; ``difference`` is a - b.
    ``v_identity``, ``v_seed``, ``v_residual``: the parts of its variance: identities, seeds, and what both share.
    ``se``, ``df``, ``p``: standard error, degrees of freedom, and the two-sided p value by itself.
    ``half``: half of the width of its 95 % interval by itself.
    ``p_holm``: the p value within its family; None where the pair is in none.
    """

    a: str
    b: str
    difference: float
    v_identity: float
    v_seed: float
    v_residual: float
    se: float
    df: float
    p: float
    half: float
    p_holm: float | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval by itself."""
        return self.difference - self.half, self.difference + self.half

    @property
    def verdict(self) -> str:
        """Return how a compares with b: "better", "worse" or "not told apart"; empty where nothing is claimed."""
        if self.p_holm is None:
            return ""
        return "not told apart" if self.p_holm > ALPHA else "better" if self.difference > 0 else "worse"


@dataclass(frozen=True)
class Comparison:
    """Losses compared over their final seeds.

    ``losses``: all losses, the highest mean first, those whose seeds all collapsed last.
    ``pairs``: all pairs of the losses in the families, a above b in ``losses``, with Holm's p over all of them.
    ``against``: by name the pair of each other loss (a) with the reference (b), with Holm's p over these.
    ``gains``: by name the planned pair of a loss's tuned (a) and default (b) options, in no family.
    ``claims``: whether losses are compared; if not, intervals are of these checkpoints only.
    ``pooled``, ``freedom``: the pooled seed variance (nan without seeds to tell) and its degrees of freedom.
    ``identities``: the number of query identities.
    """

    losses: tuple[LossScores, ...]
    pairs: tuple[Pair, ...]
    against: Mapping[str, Pair]
    gains: Mapping[str, Pair]
    claims: bool
    pooled: float
    freedom: int
    identities: int

    @property
    def compared(self) -> tuple[LossScores, ...]:
        """Return the losses in the families."""
        return tuple(loss for loss in self.losses if not loss.outside)

    @property
    def detectable_gap(self) -> float | None:
        """Return the gap that a planned pair shows in 80 % of studies; None where nothing is claimed."""
        return _POWER * float(np.median([pair.se for pair in self.pairs])) if self.claims else None


def compare(
    aps: Mapping[str, FloatArray],
    pids: NDArray[Any],
    *,
    against: str | None = None,
    collapsed: Mapping[str, int] = _NOTHING,
    outside: Collection[str] = (),
    defaults: Mapping[str, FloatArray] = _NOTHING,
) -> Comparison:
    """Return the comparison of losses by name.

    ``aps`` [S, Q] are one value per query and final seed of each loss, of the same queries in the same order; ``pids``
    [Q] are the queries' identities. ``against`` is the reference that was named before the study. ``collapsed`` is the
    number of seeds that collapsed or failed, by loss; these losses and those of ``outside`` are listed, not compared;
    so are losses with one seed beside others with more. ``defaults`` are the values of losses at default options.
    Raises OptionError where the reference is no loss, ValueError where shapes disagree.
    """
    if against is not None and against not in aps:
        raise OptionError(f"--against {against}: is no loss of this study; it has {', '.join(aps)}")
    most = max(map(len, aps.values()), default=0)
    samples = []
    for name, values in aps.items():
        reason = "not compared" if name in outside else _reason(len(values), most, collapsed.get(name, 0))
        samples.append(_Sample.of(name, values, pids, reason))
    samples.sort(key=lambda each: (len(each.loss.scores) <= collapsed.get(each.loss.name, 0), -each.loss.mean))
    inside = [each for each in samples if not each.loss.outside]
    pooled, freedom = _pooled(inside)
    pairs = _pairs(inside, *np.triu_indices(len(inside), 1), pooled, freedom)
    reference = [pair if pair.b == against else _reversed(pair) for pair in pairs if against in (pair.a, pair.b)]
    claims = len(inside) > 1 and freedom >= LEAST_FREEDOM and len(inside[0].shares) > 1
    if claims:
        pairs, reference = with_holm(pairs), with_holm(reference)
    tuned = [each for each in inside if each.loss.name in defaults]
    untuned = [_Sample.of(each.loss.name, defaults[each.loss.name], pids) for each in tuned]
    gains = _pairs([*tuned, *untuned], np.arange(len(tuned)), np.arange(len(tuned)) + len(tuned), pooled, freedom)
    return Comparison(
        losses=tuple(_judged(each.loss, pairs, pooled) if claims else each.loss for each in samples),
        pairs=tuple(pairs),
        against={pair.a: pair for pair in reference},
        gains={pair.a: pair for pair in gains},
        claims=claims,
        pooled=pooled,
        freedom=freedom,
        identities=len(np.unique(pids)),
    )


@dataclass(frozen=True)
class _Sample:
    """What the comparison needs of one loss.

    ``shares`` [G]: what each identity adds to the difference of a score from its mean, on average over the seeds.
    ``residual``: the variance of the shares between seeds; 0 below two seeds, which makes no interval narrower.
    """

    loss: LossScores
    shares: FloatArray
    residual: float

    @classmethod
    def of(cls, name: str, values: FloatArray, pids: NDArray[Any], outside: str = "") -> _Sample:
        """Return the sample of the values [S, Q] of one loss."""
        if values.ndim != 2 or values.shape[1] != len(pids):
            raise ValueError(f"{name}: expected values [seeds, {len(pids)}], got shape {values.shape}")
        _, identity, counts = np.unique(pids, return_inverse=True, return_counts=True)
        scores = values.mean(axis=1)
        deviations = np.array([np.bincount(identity, row) for row in values - scores[:, None]])  # sums, [S, G]
        shares = deviations.reshape(len(values), len(counts)) * len(counts) / len(pids)
        average = shares.mean(axis=0) if len(values) else np.zeros(len(counts))
        residual = ((shares - average) ** 2).sum() / max((len(values) - 1) * (len(counts) - 1), 1)
        return cls(LossScores(name, tuple(scores.tolist()), outside), average, float(residual))


def _reason(seeds: int, most: int, collapsed: int) -> str:
    """Return why a loss is in no family; empty if it is in all."""
    if collapsed:
        return f"unstable: {collapsed} seed{'s' * (collapsed > 1)} collapsed or failed"
    return f"not compared: {seeds} of {most} seeds" if seeds < min(max(most, 1), 2) else ""


def _pooled(samples: Sequence[_Sample]) -> tuple[float, int]:
    """Return the variance between seeds of all losses together, nan if unknown, and its degrees of freedom."""
    freedom = sum(len(each.loss.scores) - 1 for each in samples)
    squares = [(len(each.loss.scores) - 1) * (each.loss.sd or 0) ** 2 for each in samples]
    return (math.fsum(squares) / freedom if freedom else math.nan), freedom


def _pairs(
    samples: Sequence[_Sample], first: NDArray[np.intp], second: NDArray[np.intp], pooled: float, freedom: int
) -> list[Pair]:
    """Return the pairs of ``samples[first]`` and ``samples[second]``; both [pairs] are indices.

    Where the seeds are too few to tell their variance, only that over identities counts.
    """
    from scipy.special import stdtr, stdtrit  # noqa: PLC0415, not needed to start

    if not len(first):
        return []
    losses = [each.loss for each in samples]
    seeds = np.array([len(loss.scores) for loss in losses])
    means = np.array([loss.mean for loss in losses])
    shares = np.stack([each.shares for each in samples])
    groups = shares.shape[1]
    # One identity shows no variance: its intervals are nan.
    covariance = shares @ shares.T / (groups - 1 if groups > 1 else math.nan)
    own = np.diag(covariance)
    v_identity = np.maximum(own[first] + own[second] - 2 * covariance[first, second], 0) / groups
    v_seed = v_residual = np.zeros(len(first))
    if freedom >= LEAST_FREEDOM:
        # A seed variance below the others' is luck; one above them counts as it is.
        of_mean = np.maximum([(loss.sd or 0) ** 2 for loss in losses], pooled) / seeds
        residual = np.array([each.residual for each in samples]) / seeds / groups
        v_seed, v_residual = of_mean[first] + of_mean[second], residual[first] + residual[second]
    variance = v_identity + np.maximum(v_seed - v_residual, 0)
    squares = v_identity**2 / max(groups - 1, 1) + v_seed**2 / max(freedom, 1)
    least = np.maximum(np.minimum(seeds[first], seeds[second]) - 1, 1)
    df = np.clip(variance**2 / np.maximum(squares, _LEAST_SE**4), least, groups - 1)
    difference, se = means[first] - means[second], np.sqrt(variance)
    p = 2 * stdtr(df, -np.abs(difference) / np.maximum(se, _LEAST_SE))
    columns = (difference, v_identity, v_seed, v_residual, se, df, p, stdtrit(df, 1 - ALPHA / 2) * se)
    numbers = np.stack(columns, axis=1).tolist()
    return [Pair(losses[a].name, losses[b].name, *row) for a, b, row in zip(first, second, numbers, strict=True)]


def _reversed(pair: Pair) -> Pair:
    return replace(pair, a=pair.b, b=pair.a, difference=0.0 - pair.difference)  # never -0.0


def with_holm(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs with their p values within the family of these pairs."""
    order = sorted(range(len(pairs)), key=lambda place: pairs[place].p)
    scaled = (min((len(pairs) - number) * pairs[place].p, 1.0) for number, place in enumerate(order))
    adjusted = dict(zip(order, accumulate(scaled, max), strict=True))
    return [replace(pair, p_holm=adjusted[place]) for place, pair in enumerate(pairs)]


def _judged(loss: LossScores, pairs: Sequence[Pair], pooled: float) -> LossScores:
    """Return a loss of the families with what the tests say of it; one outside as it is."""
    if loss.outside:
        return loss
    own = [pair for pair in pairs if loss.name in (pair.a, pair.b)]
    # In every pair a has the higher mean, so only a can be better.
    better_than = sum(pair.verdict == "better" for pair in own if pair.a == loss.name)
    beaten_by = sum(pair.verdict == "better" for pair in own if pair.b == loss.name)
    # One-sided: how likely another looks this much better if it is not.
    p = min(1 - pair.p / 2 if pair.a == loss.name else pair.p / 2 for pair in own)
    p_best = min(len(own) * p, 1.0)
    return replace(
        loss,
        seeds_vary_more=loss.sd is not None and loss.sd**2 > _MOST_RATIO * pooled,
        p_best=p_best,
        may_be_best=p_best > ALPHA and not beaten_by,
        places=(1 + beaten_by, len(own) + 1 - better_than),
    )
