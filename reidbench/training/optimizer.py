"""The learning rate and Adam's beta1 as pure functions of the step."""

from __future__ import annotations

from typing import Any

import torch

from reidbench.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the rate of the update that leads from ``step`` updates done to ``step + 1``.

    Flat up to ``decay_start``, then falling exponentially to ``learning_rate * decay_factor`` at ``steps``.
    Source: Hermans et al. 2017, Eq. 9, with t the number of updates done, t0 ``decay_start`` and t1 ``steps``.
    """
    if step <= recipe.decay_start:
        return recipe.learning_rate
    decayed = (step - recipe.decay_start) / (recipe.steps - recipe.decay_start)
    return recipe.learning_rate * float(recipe.decay_factor**decayed)


def beta1(recipe: Recipe, step: int) -> float:
    """Return Adam's beta1 for the update that leads from ``step`` to ``step + 1``.

    ``late_beta1`` from ``decay_start`` on. Source: Hermans et al. 2017, section 3.2.
    """
    return recipe.beta1 if step < recipe.decay_start else recipe.late_beta1


class ScheduledOptimizer:
    """The optimizer of a recipe over groups of parameters; its state is that of ``optimizer`` alone.

    A group's own "lr" keeps its ratio to the recipe's at every step, and its own "betas" stay as they are.
    """

    def __init__(self, recipe: Recipe, groups: list[dict[str, Any]]) -> None:
        self.recipe = recipe
        # Asked before Adam writes its defaults into the groups.
        self._switches = [recipe.optimizer == "adam" and "betas" not in group for group in groups]
        self.optimizer: torch.optim.Optimizer
        if recipe.optimizer == "adam":
            betas = (recipe.beta1, recipe.beta2)
            fused = recipe.fused or None  # False would switch torch's loop over many tensors at once off as well
            self.optimizer = torch.optim.Adam(groups, lr=recipe.learning_rate, betas=betas, fused=fused)
        else:
            self.optimizer = torch.optim.Adadelta(groups, lr=recipe.learning_rate, rho=recipe.rho, eps=recipe.epsilon)
        self._ratios = [float(group["lr"]) / recipe.learning_rate for group in self.optimizer.param_groups]

    def set_rates(self, step: int) -> float:
        """Give every group the rates of the update that leads from ``step`` on; return the recipe's learning rate."""
        rate = learning_rate(self.recipe, step)
        for group, ratio, switches in zip(self.optimizer.param_groups, self._ratios, self._switches, strict=True):
            group["lr"] = rate * ratio
            if switches:
                group["betas"] = (beta1(self.recipe, step), self.recipe.beta2)
        return rate
