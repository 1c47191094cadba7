"""The positives of each query, the rules that exclude gallery units from its ranking, and what follows for the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidbench.data.protocol import EXCLUSION_RULES, JUNK_RULE, SAME_CAMERA_RULE, Protocol
from reidbench.data.samples import DISTRACTOR, JUNK
from reidbench.data.split import SHARED_IMAGES, Split
from reidbench.errors import DataError, OptionError
from reidbench.utils.arrays import BoolArray, IntArray, PixelArray


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

        Raises OptionError for an unknown rule, and DataError where a query has no identity.
        """
        for rule in exclude:
            if rule not in EXCLUSION_RULES:
                raise OptionError(f"exclude: no rule {rule!r}; known are {', '.join(EXCLUSION_RULES)}")
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
# Kinds of contradictions in data; the first is an error.
TWO_PIDS = "files_of_two_identities"
OWN_IMAGES = "queries_with_their_own_image_as_positive"
# The same between images of one content in several files.
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
        same_camera: number of queries whose positives are all excluded by the rule "same_camera".
    """

    queries: int
    absent: int
    same_camera: int

    @property
    def total(self) -> int:
        """The number of queries without a positive."""
        return self.absent + self.same_camera

    def __str__(self) -> str:
        reasons = [f"{self.absent:,} whose identity is not in the gallery"] if self.absent else []
        reasons += [f"{self.same_camera:,} because of the rule {SAME_CAMERA_RULE}"] if self.same_camera else []
        return f"{self.total:,} of {self.queries:,}" + (f" ({', '.join(reasons)})" if reasons else "")


def unmatched(protocol: Protocol, split: Split) -> Unmatched:
    """Return how many queries have no positive; junk is none, as it has no identity."""
    positives = _positives(protocol, split)
    absent = np.diff(positives.starts) == 0
    empty = np.diff(positives.starts_of(~positives.same_camera)) == 0
    return Unmatched(len(split.query), int(absent.sum()), int((empty & ~absent).sum()))


def contradictions(protocol: Protocol, split: Split, contents: Sequence[PixelArray] = ()) -> dict[str, list[str]]:
    """Return what contradicts itself in data, by kind: names, numbers, or pairs of images.

    To ``Split.contradictions`` it adds files of two identities, and queries that are their own positive, at distance 0.
    Files are told apart by their paths. With
    ``contents``, the sha256 of each image of train, query and gallery, uint8 [m, 32], images of one content in several
    files are returned too, as kinds of their own; digests are compared by their first 8 bytes. Kinds that do not occur
    are absent.
    """
    query, gallery = split.query, split.gallery
    test_images = np.concatenate([query.images, gallery.images])
    positives = _positives(protocol, split)
    ranked = ~positives.same_camera
    queries, units = query.starts[positives.queries[ranked]], gallery.starts[positives.units[ranked]]

    def compare(codes: Sequence[NDArray[Any]]) -> tuple[BoolArray, BoolArray]:
        """Return which test images have the code of a training image, and which positives that of their query."""
        return np.isin(np.concatenate(codes[1:3]), codes[0]), codes[1][queries] == codes[2][units]

    shared, own = compare(split.file_numbers)
    kinds = split.contradictions | {
        TWO_PIDS: _identity_conflicts(split, split.file_numbers),
        OWN_IMAGES: query.images[queries[own]].tolist(),
    }
    if contents:
        codes = [np.ascontiguousarray(digests[:, :8]).view("<u8")[:, 0] for digests in contents]
        shared_content, own_content = compare(codes)
        kinds |= {
            TWO_IDENTITIES_BY_CONTENT: _identity_conflicts(split, codes),
            SHARED_IMAGES_BY_CONTENT: list(dict.fromkeys(test_images[shared_content & ~shared].tolist())),
            OWN_IMAGES_BY_CONTENT: query.images[queries[own_content & ~own]].tolist(),
        }
    return {kind: names for kind, names in kinds.items() if names}


def _positives(protocol: Protocol, split: Split) -> Positives:
    query, gallery = split.query, split.gallery
    return Positives.find(query.pids, query.cams, gallery.pids, gallery.cams, protocol.exclude)


def _identity_conflicts(split: Split, codes: Sequence[NDArray[Any]]) -> list[str]:
    """Return the pairs of images of one code and two identities, junk apart: "a.jpg (1) and b.jpg (2)"."""
    conflicts = []
    for parts, of_parts in (([split.train], codes[:1]), ([split.query, split.gallery], codes[1:3])):
        pids = np.concatenate([np.repeat(part.pids, np.diff(part.starts)) for part in parts])
        names, code = np.concatenate([part.images for part in parts]), np.concatenate(of_parts)
        order = np.lexsort((pids, code))
        order = order[pids[order] != JUNK]
        first, second = order[:-1], order[1:]
        pairs = np.stack([first, second], axis=1)[(code[first] == code[second]) & (pids[first] != pids[second])]
        conflicts += [f"{names[one]} ({pids[one]}) and {names[two]} ({pids[two]})" for one, two in pairs.tolist()]
    return conflicts


def contradiction_notes(contradicting: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one line for each kind of contradiction, which distorts scores without preventing a run."""
    return [
        f"contradiction in the data: {len(names):,} {kind.replace('_', ' ')}, the first is {names[0]}"
        for kind, names in contradicting.items()
    ]


def _ends(counts: NDArray[np.generic]) -> IntArray:
    """Return 0 and the running sums of counts or truth values [n + 1] int64."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
