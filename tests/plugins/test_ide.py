"""ide: its declaration, Adadelta's learning rates, and options."""

from __future__ import annotations

import math

import pytest
from reidbench_recipes.ide import ide, register_recipes

from reidbench import BackboneInfo, Preprocess, Recipe
from reidbench.training.optimizer import learning_rate

INFO = BackboneInfo(2048, Preprocess(256, 128), pretrained=True, parameters=1, batch=(32, 4))


def test_the_training_of_the_baseline() -> None:
    assert ide(INFO) == Recipe(
        steps=25_000,
        decay_start=15_000,
        learning_rate=1.0,
        p=18,
        k=4,
        decay_factor=0.001,
        optimizer="adadelta",
        rho=0.95,
        epsilon=1e-6,
        batches="shuffled",
        crop=True,
        flip=True,
        faithful_to="",
    )


@pytest.mark.parametrize(("step", "rate"), [(0, 1), (15_000, 1), (20_000, math.sqrt(0.001)), (25_000, 0.001)])
def test_eq_9_is_a_factor_on_the_rate(step: int, rate: float) -> None:
    assert learning_rate(ide(INFO), step) == pytest.approx(rate, rel=1e-12)


def test_options_reach_the_recipe() -> None:
    recipe = ide(INFO, steps=30, learning_rate=0.5, rho=0.9, epsilon=1e-5, p=3, k=2, crop=False, flip=False)
    found = (recipe.steps, recipe.decay_start, recipe.learning_rate, recipe.rho, recipe.epsilon, recipe.p, recipe.k)
    assert found == (30, 18, 0.5, 0.9, 1e-5, 3, 2)
    assert (recipe.crop, recipe.flip) == (False, False)
    assert ide(INFO, steps=30, decay_start=0).decay_start == 0


def test_it_registers() -> None:
    assert register_recipes() == {"ide": ide}
