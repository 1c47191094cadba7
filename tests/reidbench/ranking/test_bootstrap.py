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
