"""The positives of each query, the rules that exclude gallery units from its ranking, and what follows for the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidbench.data.protocol import EXCLUSION_RULES, JUNK_RULE, SAME_CAMERA_RULE, Protocol
from reidbench.data.samples import DISTRACTOR, JUNK, Samples
from reidbench.data.split import SHARED_IMAGES, Split
from reidbench.errors import DataError, OptionError
from reidbench.utils.arrays import IntArray, PixelArray


@dataclass(frozen=True, eq=False)
class Positives:
    """The gallery units of each query's identity, those of its own camera among them.

    Those of query q are ``columns[starts[q]:starts[q + 1]]``, in gallery order.

    Fields:
        candidates: gallery units that are not excluded as junk [n] int64.
        junk: gallery units that are excluded as junk int64.
        starts: [nq + 1] int64, rising from 0.
        columns: places in ``candidates`` [m] int64.
        same_camera: whether the rule "same_camera" excludes a positive [m].
        ranked: number of gallery units that are not excluded for each query [nq] int64.
    """

    candidates: IntArray
    junk: IntArray
    starts: IntArray
    columns: IntArray
    same_camera: NDArray[np.bool_]
    ranked: IntArray

    @classmethod
    def find(
        cls,
        query_pids: IntArray,
        query_cams: IntArray,
        gallery_pids: IntArray,
        gallery_cams: IntArray,
        exclude: tuple[str, ...],
    ) -> Positives:
        """Return the positives of all queries; pids and cams are int64 [nq] and [ng], ``exclude`` names rules.

        Raises OptionError for an unknown rule, and DataError where the arrays do not fit or a query has no identity.
        """
        for rule in exclude:
            if rule not in EXCLUSION_RULES:
                raise OptionError(f"exclude: no rule {rule!r}; known are {', '.join(EXCLUSION_RULES)}")
        for name, pids, cams in (("query", query_pids, query_cams), ("gallery", gallery_pids, gallery_cams)):
            if len(pids) != len(cams):
                raise DataError(f"{name}: {len(pids)} pids but {len(cams)} cameras; expected one of each per unit")
        if (query_pids <= DISTRACTOR).any():
            row = int(np.argmax(query_pids <= DISTRACTOR))
            raise DataError(
                f"query row {row} has pid {query_pids[row]}; expected 1 or more: only a gallery may hold junk"
            )
        is_junk = gallery_pids == JUNK if JUNK_RULE in exclude else np.zeros(len(gallery_pids), dtype=np.bool_)
        candidates = np.flatnonzero(~is_junk)
        by_pid = np.argsort(gallery_pids[candidates], kind="stable")
        sorted_pids = gallery_pids[candidates][by_pid]
        low = np.searchsorted(sorted_pids, query_pids, side="left")
        counts = np.searchsorted(sorted_pids, query_pids, side="right") - low
        starts = _ends(counts)
        columns = by_pid[np.arange(starts[-1]) + np.repeat(low - starts[:-1], counts)].astype(np.int64)
        same_camera = gallery_cams[candidates[columns]] == np.repeat(query_cams, counts)
        if SAME_CAMERA_RULE not in exclude:
            same_camera = np.zeros(len(columns), dtype=np.bool_)
        ranked = len(candidates) - np.diff(_ends(same_camera)[starts])
        return cls(candidates, np.flatnonzero(is_junk), starts, columns, same_camera, ranked)

    @property
    def queries(self) -> IntArray:
        """The query of each positive [m] int64."""
        return np.repeat(np.arange(len(self.ranked)), np.diff(self.starts))

    @property
    def units(self) -> IntArray:
        """The gallery unit of each positive [m] int64."""
        return self.candidates[self.columns]

    def starts_of(self, selected: NDArray[np.bool_]) -> IntArray:
        """Return where the selected [m] positives of each query begin among all selected ones [nq + 1] int64."""
        return _ends(selected)[self.starts]


NO_POSITIVE = (
    "no query has a positive, so every score would be 0; the gallery needs images of the query identities, from other "
    "cameras where the rule same_camera applies; where cameras are unknown, give every image a camera of its own"
)
OWN_IMAGES = "queries_with_their_own_image_as_positive"  # a kind of contradiction, as in ``Split.contradictions``
# Kinds of contradictions between images of one content in several files.
TWO_IDENTITIES_BY_CONTENT = "images_of_two_identities_by_content"
SHARED_IMAGES_BY_CONTENT = f"{SHARED_IMAGES}_by_content"
OWN_IMAGES_BY_CONTENT = f"{OWN_IMAGES}_by_content"
KINDS_BY_CONTENT = frozenset((TWO_IDENTITIES_BY_CONTENT, SHARED_IMAGES_BY_CONTENT, OWN_IMAGES_BY_CONTENT))


@dataclass(frozen=True)
class Unmatched:
    """The queries without a positive.

    Fields:
        queries: number of all queries.
        absent: number of queries whose identity is not in the gallery.
        by_rule: number of queries whose last positive a rule excludes, by rule.
    """

    queries: int
    absent: int
    by_rule: dict[str, int]

    @property
    def total(self) -> int:
        """The number of queries without a positive."""
        return self.absent + sum(self.by_rule.values())

    def __str__(self) -> str:
        reasons = [f"{self.absent:,} whose identity is not in the gallery"] if self.absent else []
        reasons += [f"{count:,} because of the rule {rule}" for rule, count in self.by_rule.items() if count]
        return f"{self.total:,} of {self.queries:,}" + (f" ({', '.join(reasons)})" if reasons else "")


def unmatched(protocol: Protocol, split: Split) -> Unmatched:
    """Return how many queries have no positive, by the rule that excludes their last one."""
    empty = _without_positive(split, ())
    absent, by_rule = int(empty.sum()), {}
    for number, rule in enumerate(protocol.exclude, start=1):
        with_rule = _without_positive(split, protocol.exclude[:number])
        by_rule[rule] = int((with_rule & ~empty).sum())
        empty = with_rule
    return Unmatched(len(split.query), absent, by_rule)


def contradictions(protocol: Protocol, split: Split) -> dict[str, list[str]]:
    """Return ``Split.contradictions`` and the queries that find their own image at distance 0, the easiest positive."""
    queries, units = _ranked_positives(protocol, split)
    names = split.query.images[queries[_of_one_file(split.query, queries, split.gallery, units)]].tolist()
    return split.contradictions | ({OWN_IMAGES: names} if names else {})


def contradictions_by_content(
    protocol: Protocol, split: Split, train: PixelArray, query: PixelArray, gallery: PixelArray
) -> dict[str, list[str]]:
    """Return what ``contradictions`` and the check of identities miss: images of one content in several files.

    ``train``, ``query``, ``gallery``: sha256 of each image of these parts, uint8 [m, 32]. Kinds that do not occur are
    absent. Digests are compared by their first 8 bytes.
    """
    codes = [np.ascontiguousarray(digests[:, :8]).view("<u8")[:, 0] for digests in (train, query, gallery)]
    tests = ((split.query, codes[1]), (split.gallery, codes[2]))
    shared = list[str]()
    for part, of_part in tests:
        images = np.flatnonzero(np.isin(of_part, codes[0]))
        files = {(split.train.root, name) for name in split.train.images[np.isin(codes[0], of_part[images])].tolist()}
        shared += (name for name in part.images[images].tolist() if (part.root, name) not in files)
    queries, images = _ranked_positives(protocol, split)
    own = (codes[1][queries] == codes[2][images]) & ~_of_one_file(split.query, queries, split.gallery, images)
    kinds = {
        TWO_IDENTITIES_BY_CONTENT: _identity_conflicts([(split.train, codes[0])]) + _identity_conflicts(tests),
        SHARED_IMAGES_BY_CONTENT: list(dict.fromkeys(shared)),
        OWN_IMAGES_BY_CONTENT: split.query.images[queries[own]].tolist(),
    }
    return {kind: names for kind, names in kinds.items() if names}


def _ranked_positives(protocol: Protocol, split: Split) -> tuple[IntArray, IntArray]:
    """Return the first image of the query [m] and of the gallery unit [m] of each positive that no rule excludes."""
    query, gallery = split.query, split.gallery
    positives = Positives.find(query.pids, query.cams, gallery.pids, gallery.cams, protocol.exclude)
    ranked = ~positives.same_camera
    return query.starts[positives.queries[ranked]], gallery.starts[positives.units[ranked]]


def _of_one_file(left: Samples, left_images: IntArray, right: Samples, right_images: IntArray) -> NDArray[np.bool_]:
    """Return whether each pair of images [m] is one file."""
    return np.asarray((left.images[left_images] == right.images[right_images]) & (left.root == right.root))


def _identity_conflicts(parts: Sequence[tuple[Samples, NDArray[np.uint64]]]) -> list[str]:
    """Return the pairs of images of one code and two identities, junk apart: "a.jpg (1) and b.jpg (2)"."""
    pids = np.concatenate([np.repeat(part.pids, np.diff(part.starts)) for part, _ in parts])
    names = np.concatenate([part.images for part, _ in parts])
    codes = np.concatenate([of_part for _, of_part in parts])
    order = np.lexsort((pids, codes))
    order = order[pids[order] != JUNK]
    first, second = order[:-1], order[1:]
    conflicting = (codes[first] == codes[second]) & (pids[first] != pids[second])
    pairs = np.stack([first, second], axis=1)[conflicting].tolist()
    return [f"{names[one]} ({pids[one]}) and {names[other]} ({pids[other]})" for one, other in pairs]


def data_notes(unmatched_queries: Unmatched, contradicting: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one line for each property of the data that distorts scores without preventing a run."""
    notes = [f"queries without a positive: {unmatched_queries}, each scored as AP 0"] if unmatched_queries.total else []
    return notes + contradiction_notes(contradicting)


def contradiction_notes(contradicting: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one line for each kind of contradiction."""
    return [
        f"contradiction in the data: {len(names):,} {kind.replace('_', ' ')}, the first is {names[0]}"
        for kind, names in contradicting.items()
    ]


def _without_positive(split: Split, exclude: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return whether each query [nq] has no positive under these rules."""
    query, gallery = split.query, split.gallery
    positives = Positives.find(query.pids, query.cams, gallery.pids, gallery.cams, exclude)
    return np.asarray(np.diff(positives.starts_of(~positives.same_camera)) == 0)


def _ends(counts: NDArray[np.generic]) -> IntArray:
    """Return 0 and the running sums of counts or truth values [n + 1] int64."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
