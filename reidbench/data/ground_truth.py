"""Which gallery units are a query's own identity, and which rules take units out of its ranking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidbench.data.samples import DISTRACTOR, JUNK
from reidbench.errors import DataError, OptionError
from reidbench.utils.arrays import IntArray

EXCLUSION_RULES = ("junk", "same_camera")


@dataclass(frozen=True, eq=False)
class Matches:
    """The gallery units of each query's identity: those of query q are ``columns[starts[q]:starts[q + 1]]``.

    Fields:
        kept: units of the gallery that are not junk, or all where the rule "junk" is off [n] int64.
        junk: the other units of the gallery int64.
        starts: where each query's matches begin [nq + 1] int64, rising from 0.
        columns: places in ``kept`` of all matches [m] int64, in gallery order within a query.
        hidden: whether the rule "same_camera" excludes a match [m].
        ranked: number of gallery units that are not excluded, for each query [nq] int64.
    """

    kept: IntArray
    junk: IntArray
    starts: IntArray
    columns: IntArray
    hidden: NDArray[np.bool_]
    ranked: IntArray

    @classmethod
    def find(
        cls,
        query_pids: IntArray,
        query_cams: IntArray,
        gallery_pids: IntArray,
        gallery_cams: IntArray,
        exclude: tuple[str, ...],
    ) -> Matches:
        """Return the matches of all queries; pids and cams are int64 [nq] and [ng], ``exclude`` names rules.

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
                f"query row {row} has pid {query_pids[row]}; expected 1 or more: junk is only for galleries"
            )
        is_junk = gallery_pids == JUNK if "junk" in exclude else np.zeros(len(gallery_pids), dtype=np.bool_)
        kept = np.flatnonzero(~is_junk)
        by_pid = np.argsort(gallery_pids[kept], kind="stable")
        sorted_pids = gallery_pids[kept][by_pid]
        low = np.searchsorted(sorted_pids, query_pids, side="left")
        counts = np.searchsorted(sorted_pids, query_pids, side="right") - low
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
        columns = by_pid[np.arange(starts[-1]) + np.repeat(low - starts[:-1], counts)].astype(np.int64)
        same_camera = gallery_cams[kept[columns]] == np.repeat(query_cams, counts)
        hidden = same_camera if "same_camera" in exclude else np.zeros(len(columns), dtype=np.bool_)
        hidden_before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(hidden, dtype=np.int64)])
        return cls(kept, np.flatnonzero(is_junk), starts, columns, hidden, len(kept) - np.diff(hidden_before[starts]))

    @property
    def queries(self) -> IntArray:
        """The query of each match [m] int64."""
        return np.repeat(np.arange(len(self.ranked)), np.diff(self.starts))

    @property
    def units(self) -> IntArray:
        """The unit of the whole gallery that each match is [m] int64."""
        return self.kept[self.columns]

    def hidden_only(self) -> tuple[IntArray, IntArray]:
        """Return starts and columns of the matches that the camera rule takes out."""
        return self.starts_of(self.hidden), self.columns[self.hidden]

    def starts_of(self, chosen: NDArray[np.bool_]) -> IntArray:
        """Return where each query's chosen matches begin [nq + 1] int64, among the chosen ones [m]."""
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(chosen, dtype=np.int64)])[self.starts]
