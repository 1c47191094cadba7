"""Eq. 9 at the paper's own steps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from reidbench.training.optimizer import beta1, learning_rate
from reidbench.training.recipe import Recipe

PAPER = Recipe(steps=25_000, decay_start=15_000, learning_rate=3e-4, p=18, k=4)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 1.0),
        (14_999, 1.0),
        (15_000, 1.0),
        (15_001, math.exp(math.log(0.001) / 10_000)),
        (20_000, math.sqrt(0.001)),
        (25_000, 0.001),
    ],
)
def test_learning_rate_of_the_paper(step, factor):
    assert learning_rate(PAPER, step) == pytest.approx(3e-4 * factor, rel=1e-12)


def test_another_decay_factor():
    recipe = replace(PAPER, decay_factor=0.1)
    assert learning_rate(recipe, 25_000) == pytest.approx(3e-5)
    assert learning_rate(recipe, 17_500) == pytest.approx(3e-4 * 10**-0.25)


def test_no_decay_where_it_would_start_at_the_end():
    recipe = replace(PAPER, decay_start=25_000)
    assert {learning_rate(recipe, step) for step in range(0, 25_001, 5_000)} == {3e-4}


def test_beta1_switches_when_the_decay_is_entered():
    assert [beta1(PAPER, step) for step in (0, 14_999, 15_000, 24_999)] == [0.9, 0.9, 0.5, 0.5]
