"""The optimizers against their formulas, their state in a resumed training, and Eq. 9 at the paper's steps."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reidbench.training.checkpoint import latest_checkpoint, training_content
from reidbench.training.optimizer import ScheduledOptimizer, learning_rate
from reidbench.training.recipe import Recipe
from tests.support.tiny_training import Spread, assert_exact, fit

RECIPE = Recipe(
    steps=6, decay_start=3, learning_rate=0.5, p=2, k=2, decay_factor=0.01, optimizer="adadelta", rho=0.8, epsilon=1e-3
)


def test_adadelta_follows_its_formula_times_the_learning_rate() -> None:
    weights = [nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (1.0, -2.0)]
    schedule = ScheduledOptimizer(RECIPE, [{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.1}])
    expected, squares, steps = [1.0, -2.0], [0.0, 0.0], [0.0, 0.0]
    for step in range(6):
        rate = schedule.set_rates(step)
        assert rate == pytest.approx(0.5 if step <= 3 else 0.5 * 0.01 ** ((step - 3) / 3))
        schedule.optimizer.zero_grad()
        sum(weight**4 for weight in weights).backward()  # type: ignore[union-attr]
        schedule.optimizer.step()
        for place, own in enumerate((rate, rate * 0.2)):
            gradient = 4 * expected[place] ** 3
            squares[place] = 0.8 * squares[place] + 0.2 * gradient**2
            change = math.sqrt(steps[place] + 1e-3) / math.sqrt(squares[place] + 1e-3) * gradient
            steps[place] = 0.8 * steps[place] + 0.2 * change**2
            expected[place] -= own * change
        assert [weight.item() for weight in weights] == pytest.approx(expected, rel=1e-12)


def test_adadelta_has_no_betas() -> None:
    schedule = ScheduledOptimizer(RECIPE, [{"params": [nn.Parameter(torch.ones(2))]}])
    schedule.set_rates(5)
    assert "betas" not in schedule.optimizer.param_groups[0]


@pytest.mark.parametrize("optimizer", ["adam", "adadelta"])
def test_the_optimizers_state_is_restored(optimizer: str, tmp_path: Path) -> None:
    recipe = Recipe(**{**vars(RECIPE), "optimizer": optimizer, "steps": 7})
    assert_exact(Spread, tmp_path, recipe)


def test_a_checkpoint_holds_both_running_means_of_adadelta(tmp_path: Path) -> None:
    from reidbench.errors import Interrupted

    with pytest.raises(Interrupted):
        fit(Spread, tmp_path / "run", recipe=RECIPE, stop_at=2)
    checkpoint = latest_checkpoint(tmp_path / "run", RECIPE.steps, training_content(tmp_path / "run", None), print)
    assert checkpoint is not None
    tensors, state = checkpoint
    entries = {name.rsplit(".", 1)[1] for name in tensors if name.startswith("optimizer.")}
    assert entries == {"step", "square_avg", "acc_delta"}
    assert tensors["optimizer.0.step"].item() == 3
    assert 0 < state["sampling_seconds"] < np.inf


# --- Eq. 9 ----------------------------------------------------------------------------------------------------------

PAPER = Recipe(steps=25_000, decay_start=15_000, learning_rate=3e-4, p=18, k=4)


def test_another_decay_factor() -> None:
    recipe = replace(PAPER, decay_factor=0.1)
    assert learning_rate(recipe, 25_000) == pytest.approx(3e-5)
    assert learning_rate(recipe, 17_500) == pytest.approx(3e-4 * 10**-0.25)


def test_no_decay_that_starts_at_the_end() -> None:
    recipe = replace(PAPER, decay_start=25_000)
    assert {learning_rate(recipe, step) for step in range(0, 25_001, 5_000)} == {3e-4}
