"""The learning rate and Adam's beta1 as pure functions of the step."""

from __future__ import annotations

from reidbench.recipe import Recipe


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
