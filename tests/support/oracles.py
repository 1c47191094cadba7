"""Inputs and outputs of official programs; tests/oracles/README.md says which program made which file."""

from typing import Any

import numpy as np

from tests.support.paths import ORACLES


def oracle(name: str) -> dict[str, Any]:
    """Return the arrays of one oracle file by name."""
    with np.load(ORACLES / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)
