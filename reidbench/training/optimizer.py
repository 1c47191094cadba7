"""The optimizer of a recipe, with learning rate and Adam's β₁ as functions of the step."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from reidbench.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of the update after ``step`` updates.

    Constant up to ``decay_start``, then an exponential decay to ``learning_rate * decay_factor`` at ``steps``.
    Source: Hermans et al. 2017, Eq. 9, with t the number of updates done, t0 ``decay_start`` and t1 ``steps``.
    """
    if step <= recipe.decay_start:
        return recipe.learning_rate
    decayed = (step - recipe.decay_start) / (recipe.steps - recipe.decay_start)
    return recipe.learning_rate * float(recipe.decay_factor**decayed)


def beta1(recipe: Recipe, step: int) -> float:
    """Return Adam's β₁ of the update after ``step`` updates: ``late_beta1`` from ``decay_start`` on.

    Source: Hermans et al. 2017, section 3.2.
    """
    return recipe.beta1 if step < recipe.decay_start else recipe.late_beta1


class ScheduledOptimizer:
    """The optimizer of a recipe over parameter groups; its state is that of ``optimizer`` alone.

    A group's own "lr" keeps its ratio to the recipe's at every step, and a group's own "betas" stay unchanged.
    """

    def __init__(self, recipe: Recipe, groups: list[dict[str, Any]]) -> None:
        self.recipe = recipe
        # Determined before Adam writes its defaults into the groups.
        self._switches = [recipe.optimizer == "adam" and "betas" not in group for group in groups]
        self.optimizer: torch.optim.Optimizer
        if recipe.optimizer == "adam":
            betas = (recipe.beta1, recipe.beta2)
            fused = recipe.fused or None  # False would also switch off torch's loop over many tensors at once
            self.optimizer = torch.optim.Adam(groups, lr=recipe.learning_rate, betas=betas, fused=fused)
        else:
            self.optimizer = torch.optim.Adadelta(groups, lr=recipe.learning_rate, rho=recipe.rho, eps=recipe.epsilon)
        self._ratios = [float(group["lr"]) / recipe.learning_rate for group in self.optimizer.param_groups]

    def set_rates(self, step: int) -> float:
        """Set the rates and betas of all groups for the update after ``step``; return the recipe's learning rate."""
        rate = learning_rate(self.recipe, step)
        for group, ratio, switches in zip(self.optimizer.param_groups, self._ratios, self._switches, strict=True):
            group["lr"] = rate * ratio
            if switches:
                group["betas"] = (beta1(self.recipe, step), self.recipe.beta2)
        return rate


def gradient_norms(optimizer: torch.optim.Optimizer) -> tuple[Tensor, Tensor]:
    """Return the norms, each 0-d, of the gradient of all parameters and of the first group's, the network's."""
    network, *heads = ([p.grad for p in group["params"] if p.grad is not None] for group in optimizer.param_groups)
    norm = torch.nn.utils.get_total_norm(network)
    return (torch.nn.utils.get_total_norm([*network, *itertools.chain(*heads)]) if heads else norm), norm
