"""Options that all recipes here share, and points of their schedules."""

from __future__ import annotations

from typing import Any, Literal

Precision = Literal["float32", "tf32", "bf16"]


def decay_start_of(steps: int, decay_start: int | None) -> int:
    """Return ``decay_start``, or 3/5 of ``steps`` where it is None, as 15,000 of 25,000 in Hermans et al. 2017."""
    return steps * 3 // 5 if decay_start is None else decay_start


def milestones_at(steps: int, *shares: float) -> dict[str, Any]:
    """Return a schedule that divides the learning rate by 10 at rising shares of ``steps``.

    A short training lacks the milestones for which it has no step of their own.
    """
    milestones = dict.fromkeys(round(share * steps) for share in shares)
    within = tuple(milestone for milestone in milestones if 0 < milestone < steps)
    return {"schedule": "milestones", "decay_factor": 0.1, "milestones": within}
