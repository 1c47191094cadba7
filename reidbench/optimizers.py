"""The optimizer that a recipe asks for, with the rates of each step."""

from __future__ import annotations

from typing import Any

import torch

from reidbench.recipe import Recipe
from reidbench.schedule import beta1, learning_rate


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
