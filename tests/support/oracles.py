"""Inputs and outputs of official programs; tests/oracles/README.md says which program made which file."""

import numpy as np

from tests.support.paths import ORACLES


def oracle(name):
    """Return the arrays of one oracle file by name."""
    with np.load(ORACLES / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)
