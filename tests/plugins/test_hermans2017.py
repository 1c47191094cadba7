"""hermans2017: sections 3.2 to 3.5 of the paper, and Eq. 9 at fixed steps."""

from __future__ import annotations

import itertools
import math

import pytest
from reidbench_backbones.lunet import LuNet
from reidbench_backbones.resnet import ResNet50
from reidbench_recipes.hermans2017 import hermans2017, register_recipes

from reidbench import BackboneInfo, Preprocess, Recipe
from reidbench.training.optimizer import beta1, learning_rate


def info(pretrained: bool = False, batch: tuple[int, int] = (18, 4)) -> BackboneInfo:
    return BackboneInfo(128, Preprocess(256, 128), pretrained=pretrained, parameters=1, batch=batch)


def test_the_training_of_trinet() -> None:
    assert hermans2017(info(pretrained=True, batch=ResNet50.batch)) == Recipe(
        steps=25_000,
        decay_start=15_000,
        learning_rate=3e-4,
        p=18,
        k=4,
        decay_factor=0.001,
        beta1=0.9,
        beta2=0.999,
        late_beta1=0.5,
        batches="pk",
        crop=True,
        flip=True,
        faithful_to="Hermans et al. (2017)",
    )


def test_the_training_of_lunet() -> None:
    recipe = hermans2017(info(batch=LuNet.batch))
    assert (recipe.learning_rate, recipe.p, recipe.k) == (1e-3, 32, 4)


@pytest.mark.parametrize(("pretrained", "initial"), [(False, 1e-3), (True, 3e-4)])
@pytest.mark.parametrize(
    ("step", "decayed", "momentum"),
    # Eq. 9: epsilon(t) = epsilon_0 * 0.001 ** ((t - 15,000) / (25,000 - 15,000)) from 15,000 on.
    [(0, 1, 0.9), (14_999, 1, 0.9), (15_000, 1, 0.5), (20_000, math.sqrt(0.001), 0.5), (25_000, 0.001, 0.5)],
)
def test_eq_9_at_fixed_steps(pretrained: bool, initial: float, step: int, decayed: float, momentum: float) -> None:
    recipe = hermans2017(info(pretrained))
    assert learning_rate(recipe, step) == pytest.approx(initial * decayed, rel=1e-12)
    assert (beta1(recipe, step), recipe.beta2) == (momentum, 0.999)


def test_the_learning_rate_decays_by_a_constant_factor() -> None:
    recipe = hermans2017(info())
    rates = [learning_rate(recipe, step) for step in range(15_000, 25_001, 100)]
    factors = [after / before for before, after in itertools.pairwise(rates)]
    assert factors == pytest.approx([0.001 ** (100 / 10_000)] * 100, rel=1e-9)


def test_options_reach_the_recipe() -> None:
    recipe = hermans2017(info(True), steps=30, decay_start=9, learning_rate=0.5, p=3, k=2, crop=False, flip=False)
    found = (recipe.steps, recipe.decay_start, recipe.learning_rate, recipe.p, recipe.k, recipe.crop, recipe.flip)
    assert found == (30, 9, 0.5, 3, 2, False, False)
    only_p = hermans2017(info(batch=(32, 4)), p=7)
    assert (only_p.p, only_p.k) == (7, 4)


def test_it_registers() -> None:
    assert register_recipes() == {"hermans2017": hermans2017}
