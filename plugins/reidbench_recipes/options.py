"""Options that all recipes here share."""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "tf32", "bf16"]


def decay_start_of(steps: int, decay_start: int | None) -> int:
    """Return ``decay_start``, or 3/5 of ``steps`` where it is None, as 15,000 of 25,000 in Hermans et al. 2017."""
    return steps * 3 // 5 if decay_start is None else decay_start
