"""The optimizers against their formulas and torch's own, resumed state, schedules as tables, and frozen steps."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from reidbench import Loss
from reidbench.errors import OptionError
from reidbench.training.optimizer import ScheduledOptimizer, learning_rate, parameter_groups
from reidbench.training.recipe import Recipe
from tests.support.loop_training import Head
from tests.support.loop_training import fit as train_loop
from tests.support.tiny_training import Net, Spread, assert_exact

RECIPE = Recipe(
    steps=6, decay_start=3, learning_rate=0.5, p=2, k=2, decay_factor=0.01, optimizer="adadelta", rho=0.8, epsilon=1e-3
)


def test_adadelta_follows_its_formula_times_the_learning_rate():
    weights = [nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (1.0, -2.0)]
    schedule = ScheduledOptimizer(RECIPE, [{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.1}])
    expected, squares, steps = [1.0, -2.0], [0.0, 0.0], [0.0, 0.0]
    for step in range(6):
        rate = schedule.set_rates(step)
        assert rate == pytest.approx(0.5 if step <= 3 else 0.5 * 0.01 ** ((step - 3) / 3))
        schedule.optimizer.zero_grad()
        sum(weight**4 for weight in weights).backward()
        schedule.optimizer.step()
        for place, own in enumerate((rate, rate * 0.2)):
            gradient = 4 * expected[place] ** 3
            squares[place] = 0.8 * squares[place] + 0.2 * gradient**2
            change = math.sqrt(steps[place] + 1e-3) / math.sqrt(squares[place] + 1e-3) * gradient
            steps[place] = 0.8 * steps[place] + 0.2 * change**2
            expected[place] -= own * change
        assert [weight.item() for weight in weights] == pytest.approx(expected, rel=1e-12)


SGD = {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "learning_rate": 0.01}


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adam"},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"optimizer": "adadelta"},
        SGD | {"frozen": 2},
    ],
)
def test_the_optimizers_state_is_restored(changes, tmp_path, monkeypatch):
    monkeypatch.setattr(Net, "pretrained", True)  # so that its layers are frozen
    assert_exact(Spread, tmp_path, Recipe(**{**vars(RECIPE), **changes, "steps": 7}))


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_follows_its_formula(nesterov):
    recipe = replace(RECIPE, optimizer="sgd", momentum=0.9, nesterov=nesterov, weight_decay=0.1)
    loss = Spread()
    optimizer = ScheduledOptimizer(recipe, parameter_groups(recipe, Net(), loss)).optimizer
    expected, velocity = 1.0, 0.0
    for _ in range(3):
        loss.scale.grad = 2 * loss.scale.detach()
        optimizer.step()
        gradient = 2.1 * expected
        velocity = 0.9 * velocity + gradient
        expected -= 0.5 * (gradient + 0.9 * velocity if nesterov else velocity)
        assert loss.scale.item() == pytest.approx(expected, rel=1e-5)


# --- groups ---------------------------------------------------------------------------------------------------------


class Pretrained(Net):
    """The double with pretrained layers and a new last one; stores its tensors at the beginning of every step."""

    pretrained = True

    def __init__(self) -> None:
        super().__init__(dropout=0.0)
        self.states: list[dict[str, torch.Tensor]] = []

    def param_groups(self) -> list[dict[str, object]]:
        old = [*self.convolution.parameters(), *self.norm.parameters()]
        return [{"params": old}, {"params": list(self.linear.parameters()), "pretrained": False}]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.states.append({name: tensor.clone() for name, tensor in self.state_dict().items()})
        return super().forward(images)


def test_groups_have_the_recipes_factors():
    factors = {"new_factor": 10.0, "bias_factor": 2.0, "weight_decay": 0.1}
    recipe = replace(RECIPE, optimizer="sgd", learning_rate=1.0, decay_vectors=False, **factors)
    net, loss = Pretrained(), Head(own_rate=0.25)
    names = {id(p): name for item in (net, loss) for name, p in item.named_parameters()}
    groups = ScheduledOptimizer(recipe, parameter_groups(recipe, net, loss)).optimizer.param_groups
    assert {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]} == {
        "convolution.weight": (1.0, 0.1),
        "convolution.bias": (2.0, 0.0),
        "norm.weight": (1.0, 0.0),
        "norm.bias": (1.0, 0.0),  # Caffe's factor is that of a layer with weights
        "linear.weight": (10.0, 0.1),
        "linear.bias": (20.0, 0.0),
        "head.weight": (10.0, 0.1),
        "head.bias": (20.0, 0.0),
        "temperature": (0.25, 0.0),  # a loss's own rate stays
    }
    decays = {group["weight_decay"] for group in parameter_groups(replace(recipe, decay_vectors=True), net, loss)}
    assert decays == {0.1}


# --- frozen steps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fixed_norms", [False, True])
def test_frozen_layers_do_not_change_until_they_learn(fixed_norms, samples, tmp_path):
    recipe = Recipe(**vars(RECIPE) | SGD | {"frozen": 3, "fixed_norms": fixed_norms, "bias_factor": 2.0})
    net = Pretrained()
    train_loop(net, Head(), samples, tmp_path, recipe=recipe)
    first, *frozen, last = net.states[0], *net.states[1:4], net.states[4]
    pretrained = [name for name in first if not name.startswith("linear")]
    for state in frozen:
        assert all(torch.equal(state[name], first[name]) for name in pretrained)
        assert not torch.equal(state["linear.weight"], first["linear.weight"])
    changed = {name for name in pretrained if not torch.equal(last[name], first[name])}
    statistics = {name for name in pretrained if "running" in name or "batches" in name}
    assert changed == set(pretrained) - (statistics if fixed_norms else set())


def test_frozen_steps_in_which_nothing_would_learn_are_refused(monkeypatch):
    monkeypatch.setattr(Net, "pretrained", True)
    with pytest.raises(OptionError, match="frozen=2: nothing would learn"):
        parameter_groups(replace(RECIPE, frozen=2), Net(), Loss())


# --- Eq. 9 ----------------------------------------------------------------------------------------------------------

PAPER = Recipe(steps=25_000, decay_start=15_000, learning_rate=3e-4, p=18, k=4)


def torchs_rates(schedule, **options):
    """Return the learning rates of 12 steps of one of torch's schedules from 0.5 on."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5)
    scheduler, rates = schedule(optimizer, **options), []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_schedules_equal_torchs_tables():
    schedulers = torch.optim.lr_scheduler
    constant = replace(RECIPE, steps=12, decay_start=12)
    tables: list[tuple[dict[str, Any], list[float]]] = [
        (
            {"decay_start": 0, "decay_factor": 0.1, "schedule": "half_cosine"},
            torchs_rates(schedulers.CosineAnnealingLR, T_max=12, eta_min=0.05),
        ),
        (
            {"schedule": "milestones", "milestones": (4, 9), "decay_factor": 0.2},
            torchs_rates(schedulers.MultiStepLR, milestones=[4, 9], gamma=0.2),
        ),
        ({"warmup": 4}, torchs_rates(schedulers.LinearLR, start_factor=0.25, total_iters=3)),
        # Luo et al. 2019: 0.01 + 0.99 * e / 4 in step e, counted from 1
        ({"warmup": 4, "warmup_start": 0.01}, torchs_rates(schedulers.LinearLR, start_factor=0.2575, total_iters=3)),
    ]
    for changes, rates in tables:
        recipe = replace(constant, **changes)
        assert [learning_rate(recipe, step) for step in range(12)] == pytest.approx(rates)


def test_no_decay_that_starts_at_the_end():
    recipe = replace(PAPER, decay_start=25_000)
    assert {learning_rate(recipe, step) for step in range(0, 25_001, 5_000)} == {3e-4}
