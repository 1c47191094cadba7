"""A held-out part of the training identities, so that nobody tunes on test identities."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

import numpy as np

from reidbench.data.samples import DISTRACTOR, JUNK, Samples
from reidbench.errors import DataError
from reidbench.utils.random_streams import stream


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


@dataclass(frozen=True, eq=False)
class Split:
    """A data set: what is trained on, what is asked, and what is searched.

    ``fit`` are the units that a learned metric is fitted on, where they are others than the units of ``train`` (left
    away, or None): the same people in units that are pooled as those of the test are. Who replaces one replaces both.
    Only ``gallery`` may hold junk and distractors. ``expected`` are the counts that the data set should have, by the
    names of ``counts``, or empty. ``ignored`` counts, by a name for people, the files that were passed over;
    ``further`` are counts of the data set's own (tracklets, folders) by name, beside those of images.
    """

    train: Samples
    query: Samples
    gallery: Samples
    expected: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)
    further: Mapping[str, int] = field(default_factory=dict)
    fit: Samples = field(default=cast("Samples", None), kw_only=True)

    def __post_init__(self) -> None:
        if cast("Samples | None", self.fit) is None:
            object.__setattr__(self, "fit", self.train)
        for name, samples in (("train", self.train), ("fit", self.fit), ("query", self.query)):
            if (samples.pids <= DISTRACTOR).any():
                raise DataError(f"{samples.root}: {name} holds junk or distractors (pids below 1); only a gallery may")

    @cached_property
    def digest(self) -> str:
        """The sha256 (hex) of all parts."""
        return hashlib.sha256(" ".join(part.digest for part in self.parts).encode()).hexdigest()

    @property
    def parts(self) -> tuple[Samples, ...]:
        """What is trained on, asked, searched and, where it is something else, fitted on."""
        return (self.train, self.query, self.gallery, *([] if self.fit is self.train else [self.fit]))

    @cached_property
    def counts(self) -> dict[str, int]:
        """Images and identities of each part, the gallery's junk and distractors (units), and what is ``further``."""
        gallery = self.gallery.pids
        return {
            "train": len(self.train.images),
            "train_identities": len(np.unique(self.train.pids)),
            "query": len(self.query.images),
            "query_identities": len(np.unique(self.query.pids)),
            "gallery": len(self.gallery.images),
            "junk": int((gallery == JUNK).sum()),
            "distractors": int((gallery == DISTRACTOR).sum()),
            "cameras": len(np.unique(np.concatenate([self.train.cams, self.query.cams, self.gallery.cams]))),
            **self.further,
        }

    @cached_property
    def wrong_counts(self) -> list[str]:
        """What differs from the counts that the data set should have, each as one clause."""
        return [
            f"{name.replace('_', ' ')}: {expected:,} expected, {self.counts[name]:,} found"
            for name, expected in self.expected.items()
            if self.counts[name] != expected
        ]
