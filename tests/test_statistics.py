"""Mean and standard deviation over seeds, against exact fractions."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidbench import mean_and_sd

values = st.lists(st.floats(-1, 1), min_size=2, max_size=12)


@given(values)
def test_mean_and_sd_are_those_of_exact_arithmetic(numbers: list[float]) -> None:
    exact = [Fraction(number) for number in numbers]
    middle = sum(exact) / len(exact)
    variance = sum((number - middle) ** 2 for number in exact) / (len(exact) - 1)
    mean, sd = mean_and_sd(numbers)
    assert sd is not None
    assert mean == pytest.approx(float(middle), rel=1e-15, abs=1e-300)
    assert sd == pytest.approx(math.sqrt(variance), rel=1e-12, abs=1e-150)


@given(values, st.randoms(use_true_random=False))
def test_the_order_of_the_seeds_changes_no_bit(numbers: list[float], order: random.Random) -> None:
    shuffled = list(numbers)
    order.shuffle(shuffled)
    assert mean_and_sd(shuffled) == mean_and_sd(numbers)


@given(st.floats(-1, 1))
def test_one_seed_has_no_spread(number: float) -> None:
    assert mean_and_sd([number]) == (number, None)


def test_no_values_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mean_and_sd([])
