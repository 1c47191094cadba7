"""The positives of each query, the rules that exclude gallery units from its ranking, and what follows for the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidbench.data.protocol import EXCLUSION_RULES, JUNK_RULE, SAME_CAMERA_RULE, SELF_RULE, Protocol
from reidbench.data.samples import DISTRACTOR, JUNK, Samples
from reidbench.data.split import Split
from reidbench.errors import DataError, OptionError
from reidbench.utils.arrays import IntArray


@dataclass(frozen=True, eq=False)
class Positives:
    """The gallery units of each query's identity, those of its own camera among them.

    Those of query q are ``columns[starts[q]:starts[q + 1]]``, in gallery order.

    Fields:
        candidates: gallery units that are not excluded as junk [n] int64.
        junk: gallery units that are excluded as junk int64.
        starts: [nq + 1] int64, rising from 0.
        columns: places in ``candidates`` [m] int64.
        excluded: whether the rule "same_camera" or "self" excludes a positive [m].
        ranked: number of gallery units that are not excluded for each query [nq] int64.
    """

    candidates: IntArray
    junk: IntArray
    starts: IntArray
    columns: IntArray
    excluded: NDArray[np.bool_]
    ranked: IntArray

    @classmethod
    def find(
        cls,
        query_pids: IntArray,
        query_cams: IntArray,
        gallery_pids: IntArray,
        gallery_cams: IntArray,
        exclude: tuple[str, ...],
        own: IntArray | None = None,
    ) -> Positives:
        """Return the positives of all queries; pids and cams are int64 [nq] and [ng], ``exclude`` names rules.

        ``own`` [nq] int64, which the rule "self" needs, is the gallery unit that is the query itself, -1 for none.
        Raises OptionError for an unknown rule, and DataError where a query has no identity.
        """
        for rule in exclude:
            if rule not in EXCLUSION_RULES:
                raise OptionError(f"exclude: no rule {rule!r}; known are {', '.join(EXCLUSION_RULES)}")
        if (query_pids <= DISTRACTOR).any():
            row = int(np.argmax(query_pids <= DISTRACTOR))
            raise DataError(f"query row {row} has pid {query_pids[row]}, expected 1 or more: junk is for galleries")
        is_junk = gallery_pids == JUNK if JUNK_RULE in exclude else np.zeros(len(gallery_pids), dtype=np.bool_)
        candidates = np.flatnonzero(~is_junk)
        by_pid = np.argsort(gallery_pids[candidates], kind="stable")
        sorted_pids = gallery_pids[candidates][by_pid]
        low = np.searchsorted(sorted_pids, query_pids, side="left")
        counts = np.searchsorted(sorted_pids, query_pids, side="right") - low
        starts = _ends(counts)
        columns = by_pid[np.arange(starts[-1]) + np.repeat(low - starts[:-1], counts)].astype(np.int64)
        units, excluded = candidates[columns], np.zeros(len(columns), dtype=np.bool_)
        if SAME_CAMERA_RULE in exclude:
            excluded |= gallery_cams[units] == np.repeat(query_cams, counts)
        if SELF_RULE in exclude:
            assert own is not None
            excluded |= units == np.repeat(own, counts)
        ranked = len(candidates) - np.diff(_ends(excluded)[starts])
        return cls(candidates, np.flatnonzero(is_junk), starts, columns, excluded, ranked)

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


@dataclass(frozen=True)
class Unmatched:
    """The queries without a positive.

    Fields:
        queries: number of all queries.
        absent: number of queries whose identity is not in the gallery.
        excluded: number of queries whose positives are all excluded by the rules "same_camera" and "self".
    """

    queries: int
    absent: int
    excluded: int

    @property
    def total(self) -> int:
        """The number of queries without a positive."""
        return self.absent + self.excluded

    def __str__(self) -> str:
        reasons = [f"{self.absent:,} whose identity is not in the gallery"] if self.absent else []
        reasons += [f"{self.excluded:,} because of the rule {SAME_CAMERA_RULE} or {SELF_RULE}"] if self.excluded else []
        return f"{self.total:,} of {self.queries:,}" + (f" ({', '.join(reasons)})" if reasons else "")


def unmatched(protocol: Protocol, split: Split) -> Unmatched:
    """Return how many queries have no positive; junk is none, as it has no identity."""
    positives = find_positives(protocol, split)
    absent = np.diff(positives.starts) == 0
    empty = np.diff(positives.starts_of(~positives.excluded)) == 0
    return Unmatched(len(split.query), int(absent.sum()), int((empty & ~absent).sum()))


def contradictions(protocol: Protocol, split: Split) -> dict[str, list[str]]:
    """Return what contradicts itself in data, by kind: names, numbers, or pairs of images.

    To ``Split.contradictions`` it adds files of two identities, and queries that are their own positive, at distance 0.
    Files are told apart by their paths. Kinds that do not occur are absent.
    """
    query, gallery, positives = split.query, split.gallery, find_positives(protocol, split)
    ranked = ~positives.excluded
    queries, units = query.starts[positives.queries[ranked]], gallery.starts[positives.units[ranked]]
    own = split.file_numbers[1][queries] == split.file_numbers[2][units]
    kinds = {TWO_PIDS: _identity_conflicts(split), OWN_IMAGES: query.images[queries[own]].tolist()}
    return split.contradictions | {kind: names for kind, names in kinds.items() if names}


def find_positives(protocol: Protocol, split: Split) -> Positives:
    """Return the positives of a split's queries under a protocol's rules; raises as ``Positives.find``."""
    query, gallery = split.query, split.gallery
    own = own_units(query, gallery) if SELF_RULE in protocol.exclude else None
    return Positives.find(query.pids, query.cams, gallery.pids, gallery.cams, protocol.exclude, own)


def own_units(query: Samples, gallery: Samples) -> IntArray:
    """Return for each query [nq] int64 the gallery unit that has the same images, -1 where there is none."""
    by_name = {name: unit for unit, name in enumerate(gallery.images[gallery.starts[:-1]].tolist())}
    units = np.array([by_name.get(name, -1) for name in query.images[query.starts[:-1]].tolist()], dtype=np.int64)
    same = np.diff(query.starts) == np.diff(gallery.starts)[units]
    return np.where((units >= 0) & same, units, -1)


def _identity_conflicts(split: Split) -> list[str]:
    """Return the pairs of images that are one file of two identities, junk apart: "a.jpg (1) and b.jpg (2)"."""
    conflicts, (train, *test) = [], split.file_numbers[:3]
    for parts, numbers in (([split.train], [train]), ([split.query, split.gallery], test)):
        pids = np.concatenate([np.repeat(part.pids, np.diff(part.starts)) for part in parts])
        names, file = np.concatenate([part.images for part in parts]), np.concatenate(numbers)
        order = np.lexsort((pids, file))
        order = order[pids[order] != JUNK]
        first, second = order[:-1], order[1:]
        pairs = np.stack([first, second], axis=1)[(file[first] == file[second]) & (pids[first] != pids[second])]
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
