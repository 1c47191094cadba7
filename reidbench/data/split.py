"""Training units, queries and gallery of a dataset, and splits that hold out training identities."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import cast

import numpy as np

from reidbench.data.samples import DISTRACTOR, JUNK, Samples
from reidbench.errors import DataError, PluginError
from reidbench.utils.arrays import IntArray
from reidbench.utils.random_streams import stream

# Kinds of contradictions between training and test parts.
SHARED_IMAGES = "test_images_in_train"
SHARED_IDENTITIES = "identities_in_train_and_test"
_TEST_COUNTS = ("query", "query_identities", "gallery", "junk", "distractors")


def hold_out(train: Samples, fraction: float, seed: int) -> Split:
    """Return a split of the training units alone, in which a fraction of the identities is query and gallery.

    round(fraction * identities) identities, at least 1, are sampled from ``seed``, and one query unit for each held-out
    (identity, camera); the gallery is all units of the held-out identities, the queries among them, as in MARS
    (the rule "same_camera" excludes a query from its own ranking). Raises DataError where none is left to train on.
    """
    pids = np.unique(train.pids[train.pids > DISTRACTOR])
    count = max(1, round(fraction * len(pids)))
    if count >= len(pids):
        raise DataError(f"{train.root}: holding out {fraction:g} of {len(pids)} identities leaves none to train on")
    held = np.sort(stream(seed, "holdout", "identities").permutation(pids)[:count])
    inside = np.isin(train.pids, held)
    gallery = train.take(np.flatnonzero(inside))
    order = stream(seed, "holdout", "queries").permutation(len(gallery))
    _, first = np.unique(np.stack([gallery.pids[order], gallery.cams[order]]), axis=1, return_index=True)
    return Split(train=train.take(np.flatnonzero(~inside)), query=gallery.take(np.sort(order[first])), gallery=gallery)


def across(target: Split, source: Split | None = None) -> Split:
    """Return the queries and the gallery of ``target`` with the training part of ``source``; ``target`` without one.

    Equal pids of the two are different identities, so those of the test part are shifted. Counts are expected where
    both parts expect them; the source's training part, and with it the digest of a training, is unchanged.
    """
    if source is None:
        return target
    shift = max(int(source.train.pids.max(initial=0)), int(source.fit.pids.max(initial=0)))
    query, gallery = (
        replace(part, pids=np.where(part.pids > DISTRACTOR, part.pids + shift, part.pids))
        for part in (target.query, target.gallery)
    )
    expected = {name: count for name, count in source.expected.items() if name in ("train", "train_identities")}
    expected |= {name: target.expected[name] for name in _TEST_COUNTS if name in target.expected}
    ignored = Counter(source.ignored) + Counter(target.ignored)
    standin = source.standin or target.standin
    return Split(source.train, query, gallery, expected, dict(ignored), fit=source.fit, standin=standin)


@dataclass(frozen=True, eq=False)
class Split:
    """A dataset: training units, queries and gallery.

    Fields:
        train: training units; one without identity has the pid 0.
        query: queries.
        gallery: gallery units; only these may be junk or distractors.
        expected: the counts that the dataset should have, by the names of ``counts``, or empty.
        ignored: number of skipped files by a readable name.
        further: counts of the dataset's own (tracklets, folders) by name.
        fit: units that a learned metric is fitted on: the identities of ``train`` in units that are pooled as those
            of the test are. ``labelled`` where it is left out or None; replace it together with ``train``.
        standin: whether the folder says that its images are a stand-in for those of the dataset.
    """

    train: Samples
    query: Samples
    gallery: Samples
    expected: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)
    further: Mapping[str, int] = field(default_factory=dict)
    fit: Samples = field(default=cast("Samples", None), kw_only=True)
    standin: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("train", "query", "gallery", "fit"):
            if name == "fit" and cast("Samples | None", self.fit) is None:
                object.__setattr__(self, "fit", self.labelled)
            if not isinstance(getattr(self, name), Samples):
                raise PluginError(f"Split: {name} must be reidbench.Samples, got {type(getattr(self, name)).__name__}")
        for name, samples, least in (("train", self.train, 0), ("fit", self.fit, 1), ("query", self.query, 1)):
            if (samples.pids < least).any():
                raise DataError(f"{samples.root}: {name} holds junk or distractors (pids below {least})")

    @cached_property
    def labelled(self) -> Samples:
        """The training units with an identity: ``train`` itself where all have one."""
        return self.train if (self.train.pids > 0).all() else self.train.take(np.flatnonzero(self.train.pids > 0))

    @cached_property
    def digest(self) -> str:
        """The sha256 (hex) of all parts."""
        return hashlib.sha256(" ".join(part.digest for part in self.parts).encode()).hexdigest()

    @property
    def parts(self) -> tuple[Samples, ...]:
        """train, query, gallery and, where it is another, fit."""
        return (self.train, self.query, self.gallery, *([] if self.fit is self.train else [self.fit]))

    @cached_property
    def counts(self) -> dict[str, int]:
        """Images and identities of each part, junk, distractors and unlabelled units, and what is ``further``.

        The training images are those with an identity; units without one are a count of their own, where there are any.
        """
        gallery = self.gallery.pids
        return {
            "train": len(self.labelled.images),
            "train_identities": len(np.unique(self.labelled.pids)),
            "query": len(self.query.images),
            "query_identities": len(np.unique(self.query.pids)),
            "gallery": len(self.gallery.images),
            "junk": int((gallery == JUNK).sum()),
            "distractors": int((gallery == DISTRACTOR).sum()),
            "cameras": len(np.unique(np.concatenate([self.labelled.cams, self.query.cams, self.gallery.cams]))),
            **({} if self.labelled is self.train else {"unlabelled": int((self.train.pids == DISTRACTOR).sum())}),
            **self.further,
        }

    @cached_property
    def file_numbers(self) -> list[IntArray]:
        """For each part a number of each image [m] int64, equal for images that are one file by their paths."""
        numbers: dict[str, int] = {}
        roots = [(str(part.root), part.images.tolist()) for part in self.parts]
        return [
            np.array([numbers.setdefault(f"{root}/{name}", len(numbers)) for name in names], dtype=np.int64)
            for root, names in roots
        ]

    @cached_property
    def contradictions(self) -> dict[str, list[str]]:
        """The images and identities that training and test parts share, by kind; kinds that do not occur are absent."""
        train, query, gallery = self.file_numbers[:3]
        images = np.concatenate([self.query.images, self.gallery.images])
        images = images[np.isin(np.concatenate([query, gallery]), train)]
        identities = np.intersect1d(self.labelled.pids, np.concatenate([self.query.pids, self.gallery.pids]))
        shared = {SHARED_IMAGES: list(dict.fromkeys(images.tolist())), SHARED_IDENTITIES: [str(p) for p in identities]}
        return {kind: names for kind, names in shared.items() if names}

    @cached_property
    def wrong_counts(self) -> list[str]:
        """The counts that differ from the expected ones, each as one clause."""
        return [
            f"{name.replace('_', ' ')}: {expected:,} expected, {self.counts[name]:,} found"
            for name, expected in self.expected.items()
            if self.counts[name] != expected
        ]
