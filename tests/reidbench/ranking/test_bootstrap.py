"""Seeds against exact fractions; the bootstrap over identities by how often it is right."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidbench.ranking.bootstrap import interval, mean_and_sd, paired_difference

values = st.lists(st.floats(-1, 1), min_size=2, max_size=12)


@given(values)
def test_mean_and_sd_are_those_of_exact_arithmetic(numbers):
    exact = [Fraction(number) for number in numbers]
    middle = sum(exact) / len(exact)
    variance = sum((number - middle) ** 2 for number in exact) / (len(exact) - 1)
    mean, sd = mean_and_sd(numbers)
    assert mean == pytest.approx(float(middle), rel=1e-15, abs=1e-300)
    assert sd == pytest.approx(math.sqrt(variance), rel=1e-12, abs=1e-150)


@given(values, st.randoms(use_true_random=False))
def test_the_order_of_the_seeds_changes_no_bit(numbers, order):
    shuffled = list(numbers)
    order.shuffle(shuffled)
    assert mean_and_sd(shuffled) == mean_and_sd(numbers)


@given(st.floats(-1, 1))
def test_one_seed_has_no_spread(number):
    assert mean_and_sd([number]) == (number, None)


def test_no_values_are_an_error():
    with pytest.raises(ValueError, match="at least one"):
        mean_and_sd([])


class Simulation:
    """Two systems' average precisions on queries; those of one identity are easy or hard together."""

    def __init__(self, seed: int, identities: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.pids = np.repeat(np.arange(identities), self.generator.integers(1, 7, identities))
        self.shared = self.generator.normal(0, 1.2, identities)[self.pids]
        self.identities = identities

    def system(self, quality: float) -> np.ndarray:
        """Return the mean of k / rank of 3 positives among 60 newly sampled others, for each query."""
        own = self.generator.normal(0, 0.4, self.identities)[self.pids]  # how well this training ranks each identity
        positives = self.generator.normal((quality + self.shared + own)[:, None], 1, (len(self.pids), 3))
        others = self.generator.normal(0, 1, (len(self.pids), 60))
        before = np.sort((others[:, None] > positives[:, :, None]).sum(2), axis=1)
        return (np.arange(1, 4) / (before + np.arange(1, 4))).mean(axis=1)


def share_significant(identities: int, gap: float, trials: int = 200) -> float:
    """Return the share of trials whose interval excludes 0."""
    calls = 0
    for trial in range(trials):
        simulation = Simulation(trial, identities)
        _, between = paired_difference(simulation.system(2 + gap), simulation.system(2), simulation.pids, draws=800)
        calls += not between[0] <= 0 <= between[1]
    return calls / trials


@pytest.mark.parametrize("identities", [12, 150])
def test_equal_rankings_are_rarely_significant(identities):
    assert share_significant(identities, 0) <= 0.08


def test_a_gap_of_three_points_is_significant():
    gap = 0.13
    far = [
        Simulation(trial, 750).system(2 + gap).mean() - Simulation(trial, 750).system(2).mean() for trial in range(9)
    ]
    assert 0.027 < np.mean(far) < 0.031
    assert share_significant(750, gap, trials=60) >= 0.8


def test_the_interval_is_that_of_plain_loops():
    """Without the expansion's small widening: many identities, and quantiles of means that loops made."""
    generator = np.random.default_rng(0)
    pids = generator.integers(0, 300, 900)
    values = generator.random(900) + 0.3 * (pids % 7 == 0)
    groups = [values[pids == pid] for pid in np.unique(pids)]
    means = []
    for _ in range(4000):
        sampled = [groups[place] for place in generator.integers(0, len(groups), len(groups))]
        means.append(np.concatenate(sampled).mean())
    low, high = np.quantile(means, [0.025, 0.975])
    between = interval(values, pids)
    assert between == pytest.approx((low, high), abs=0.06 * (high - low))
    assert between == interval(values, pids)


def test_intervals_of_one_identity_and_of_equal_values():
    assert interval(np.array([0.1, 0.9]), np.array([7, 7])) is None
    assert interval(np.full(5, 0.5), np.array([1, 1, 2, 3, 3])) == (0.5, 0.5)
    assert paired_difference(np.array([0.25, 0.75]), np.array([0.0, 0.25]), np.array([1, 2]))[0] == 0.375
