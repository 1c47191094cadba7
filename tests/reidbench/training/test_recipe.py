"""The recipe's checks: values out of range are refused, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from reidbench.errors import OptionError
from reidbench.training.recipe import Recipe

SOUND: dict[str, Any] = {"steps": 10, "decay_start": 6, "learning_rate": 1e-3, "p": 4, "k": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0, "decay_start": 0}, "steps must be 1 or more, got 0"),
        ({"decay_start": 11}, "decay_start must be between 0 and steps=10, got 11"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0"),
        ({"decay_factor": 1.5}, "decay_factor must be above 0 and at most 1, got 1.5"),
        ({"precision": "fp16"}, "precision must be float32 or tf32 or bf16, got fp16"),
        ({"batches": "random"}, "batches must be pk or shuffled, got random"),
        ({"optimizer": "adadelta", "fused": True}, "fused must be false for the optimizer adadelta, got True"),
        ({"optimizer": "sgd"}, "optimizer must be adam or adadelta, got sgd"),
        ({"epsilon": 0.0}, "epsilon must be above 0, got 0"),
        ({"rho": 1.0}, "rho must be from 0 to below 1, got 1"),
        ({"late_beta1": -0.1}, "late_beta1 must be from 0 to below 1, got -0.1"),
        ({"p": 0, "k": -1}, "p must be 1 or more, got 0; k must be 1 or more, got -1"),
        (
            {"rho": 2.0, "beta1": 1.0},
            "beta1 must be from 0 to below 1, got 1.0; rho must be from 0 to below 1, got 2.0",
        ),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Recipe(**SOUND | changes)
