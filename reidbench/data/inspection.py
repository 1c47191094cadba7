"""What a data set on this machine is: its counts, whose names it has, and queries that no network could answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidbench.data.ground_truth import Matches
from reidbench.data.protocol import Protocol, is_standin
from reidbench.data.split import Split


@dataclass(frozen=True)
class Unmatched:
    """How many queries have no match: because the gallery lacks their identity, or because a rule took the last one."""

    absent: int
    by_rule: dict[str, int]

    @property
    def total(self) -> int:
        return self.absent + sum(self.by_rule.values())


@dataclass(frozen=True)
class Inspection:
    """What was found; ``known``: the protocol publishes names, ``standin``: these are others."""

    split: Split
    unmatched: Unmatched
    known: bool
    standin: bool

    @property
    def verdict(self) -> str:
        """Whose data these are, in words."""
        if self.standin:
            return "a STAND-IN: not the published names, so no score of it compares with a published one"
        if self.known:
            return "the real data: every published list of names matches"
        return "data whose names nobody has published, so neither the real data nor a stand-in"


def inspect(protocol: Protocol, split: Split) -> Inspection:
    """Return what the data of a protocol are; only names, identities and cameras are looked at."""
    return Inspection(split, unmatched(protocol, split), bool(protocol.names), is_standin(protocol, split))


def unmatched(protocol: Protocol, split: Split) -> Unmatched:
    """Return how many queries have no match, by the rule that takes their last one."""
    rules: list[str] = []
    empty = _empty(split, ())
    absent = int(empty.sum())
    by_rule = {}
    for rule in protocol.exclude:
        rules.append(rule)
        now = _empty(split, tuple(rules))
        by_rule[rule] = int((now & ~empty).sum())
        empty = now
    return Unmatched(absent, by_rule)


def _empty(split: Split, exclude: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return for each query [nq] whether these rules leave it no match."""
    query, gallery = split.query, split.gallery
    matches = Matches.find(query.pids, query.cams, gallery.pids, gallery.cams, exclude)
    asking = np.repeat(np.arange(len(query)), np.diff(matches.starts))[~matches.hidden]
    empty: NDArray[np.bool_] = np.bincount(asking, minlength=len(query)) == 0
    return empty
