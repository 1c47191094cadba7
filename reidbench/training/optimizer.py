"""The optimizer of a recipe, with learning rate, Adam's β₁ and what is frozen as functions of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reidbench.errors import OptionError, contract_error
from reidbench.plugins.interfaces import Backbone, Loss, owner_of
from reidbench.training.recipe import ADAMS, Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of the update after ``step`` updates.

    "exponential": constant up to ``decay_start``, then an exponential decay to ``learning_rate * decay_factor`` at
    ``steps``: Hermans et al. 2017, Eq. 9, with t the number of updates done, t0 ``decay_start`` and t1 ``steps``.
    "half_cosine" reaches the same value along half a cosine (Loshchilov and Hutter 2017, without restarts).
    """
    rate, factor = recipe.learning_rate, recipe.decay_factor
    if recipe.schedule == "milestones":
        rate *= factor ** sum(step >= milestone for milestone in recipe.milestones)
    elif step > recipe.decay_start:
        decayed = (step - recipe.decay_start) / (recipe.steps - recipe.decay_start)
        cosine = factor + (1 - factor) * (1 + math.cos(math.pi * decayed)) / 2
        rate *= cosine if recipe.schedule == "half_cosine" else float(factor**decayed)
    if step >= recipe.warmup:
        return rate
    from_zero = rate * (step + 1) / recipe.warmup
    return from_zero + recipe.warmup_start * (rate - from_zero)


def own_groups(item: Loss | Backbone) -> list[dict[str, Any]]:
    """Return the parameter groups of a loss or a network; raises PluginError where they are none."""
    groups = item.param_groups()
    if not isinstance(groups, list) or not all(isinstance(group, dict) and "params" in group for group in groups):
        raise contract_error(owner_of(item), "what param_groups returns", "a list of dictionaries with params", groups)
    return groups


def parameter_groups(recipe: Recipe, backbone: Backbone, loss: Loss) -> list[dict[str, Any]]:
    """Return the optimizer's groups of the network and of the loss, with the recipe's factors and weight decay.

    A group that has an "lr" or a "weight_decay" of its own retains it; "layers_after" is the number of a network's
    layers behind the group's. Raises OptionError where steps are frozen and nothing would learn in them.
    """
    modules = [*backbone.modules(), *loss.modules()]
    biases = {module.bias for module in modules if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)}
    network = [{"pretrained": backbone.pretrained, **group} for group in own_groups(backbone)]
    heads = [{"pretrained": False, **group} for group in own_groups(loss)]
    groups: list[dict[str, Any]] = []
    for group in (*network, *heads):
        parts: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in group["params"]:
            factor = 1.0 if group["pretrained"] else recipe.new_factor
            factor *= recipe.bias_factor if parameter in biases else 1.0
            factor *= recipe.layer_factor ** group.get("layers_after", 0)
            decay = recipe.weight_decay if recipe.decay_vectors or parameter.ndim > 1 else 0.0
            parts.setdefault((factor * recipe.learning_rate, decay), []).append(parameter)
        for (rate, decay), parameters in parts.items():
            groups.append({"lr": rate, "weight_decay": decay, **group, "params": parameters})
    if recipe.frozen and all(group["pretrained"] for group in groups):
        raise OptionError(
            f"frozen={recipe.frozen}: nothing would learn without new layers in network or loss; use frozen=0"
        )
    return groups or [{"params": [], "pretrained": False}]  # nothing learns: the verdict no_gradient


def set_frozen(recipe: Recipe, backbone: Backbone, groups: list[dict[str, Any]], step: int) -> None:
    """Freeze the pretrained layers before the update after ``step`` updates, or let them learn, as the recipe says."""
    pretrained = {parameter for group in groups if group["pretrained"] for parameter in group["params"]}
    if not pretrained or not (recipe.frozen or recipe.fixed_norms):
        return
    frozen = step < recipe.frozen
    for parameter in pretrained:
        parameter.requires_grad_(not frozen)
    for module in backbone.modules():
        if isinstance(module, _BatchNorm) and pretrained.issuperset(module.parameters()):
            module.training = not (frozen or recipe.fixed_norms)


class ScheduledOptimizer:
    """The optimizer of a recipe over parameter groups; its state is that of ``optimizer`` alone.

    A group's own "lr" keeps its ratio to the recipe's at every step, and a group's own "betas" stay unchanged.
    """

    def __init__(self, recipe: Recipe, groups: list[dict[str, Any]]) -> None:
        self.recipe = recipe
        # Determined before Adam writes its defaults into the groups.
        self._switches = [recipe.optimizer in ADAMS and "betas" not in group for group in groups]
        self.optimizer: torch.optim.Optimizer
        if recipe.optimizer in ADAMS:
            betas = (recipe.beta1, recipe.beta2)
            fused = recipe.fused or None  # False would also switch off torch's loop over many tensors at once
            kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
            self.optimizer = kind(groups, lr=recipe.learning_rate, betas=betas, fused=fused)
        elif recipe.optimizer == "sgd":
            momentum: dict[str, Any] = {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
            self.optimizer = torch.optim.SGD(groups, lr=recipe.learning_rate, **momentum)
        else:
            self.optimizer = torch.optim.Adadelta(groups, lr=recipe.learning_rate, rho=recipe.rho, eps=recipe.epsilon)
        self._ratios = [float(group["lr"]) / recipe.learning_rate for group in self.optimizer.param_groups]

    def set_rates(self, step: int) -> float:
        """Set the rates and betas of all groups for the update after ``step``; return the recipe's learning rate.

        Adam's β₁ is ``late_beta1`` from ``decay_start`` on. Source: Hermans et al. 2017, section 3.2.
        """
        recipe, rate = self.recipe, learning_rate(self.recipe, step)
        beta1 = recipe.beta1 if step < recipe.decay_start else recipe.late_beta1
        for group, ratio, switches in zip(self.optimizer.param_groups, self._ratios, self._switches, strict=True):
            group["lr"] = rate * ratio
            if switches:
                group["betas"] = (beta1, recipe.beta2)
        return rate


def gradient_norms(network: nn.Module, loss: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the norms, each 0-d, of the gradient of all parameters and of the network's."""
    own, heads = ([p.grad for p in module.parameters() if p.grad is not None] for module in (network, loss))
    norm = torch.nn.utils.get_total_norm(own)
    return (torch.nn.utils.get_total_norm([*own, *heads]) if heads else norm), norm
