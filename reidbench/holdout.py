"""A held-out part of the training identities, so that nobody tunes on test identities."""

from __future__ import annotations

import numpy as np

from reidbench.errors import DataError
from reidbench.randomness import stream
from reidbench.values import Samples, Split


def hold_out(train: Samples, fraction: float, seed: int) -> Split:
    """Return a split of training units alone: a fraction of the identities is asked and searched, the rest trained on.

    round(fraction * identities) identities, at least 1, are drawn from ``seed``. One query unit is drawn for each held
    out (identity, camera); the gallery is all units of the held-out identities, the queries among them, as in MARS
    (the rule "same_camera" takes a query out of its own ranking). Raises DataError where nothing would be left.
    """
    pids = np.unique(train.pids)
    count = max(1, round(fraction * len(pids)))
    if count >= len(pids):
        raise DataError(
            f"{train.root}: holding out {fraction:g} of {len(pids)} training identities leaves none to train on"
        )
    held = np.sort(stream(seed, "holdout", "identities").permutation(pids)[:count])
    inside = np.isin(train.pids, held)
    gallery = train.take(np.flatnonzero(inside))
    order = stream(seed, "holdout", "queries").permutation(len(gallery))
    _, first = np.unique(np.stack([gallery.pids[order], gallery.cams[order]]), axis=1, return_index=True)
    return Split(train=train.take(np.flatnonzero(~inside)), query=gallery.take(np.sort(order[first])), gallery=gallery)
