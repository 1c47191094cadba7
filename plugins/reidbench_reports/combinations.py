"""The runs of a report by combination: what differs in nothing but the seed belongs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reidbench import RunRecord

KINDS = ("protocol", "loss", "backbone", "recipe", "metric", "rerank")
TRAINING = ("loss", "backbone", "recipe")


@dataclass(frozen=True)
class Combination:
    """The runs of one combination, one a seed; where none of them ended well, ``scored`` are the collapsed ones."""

    runs: tuple[RunRecord, ...]

    @property
    def scored(self) -> tuple[RunRecord, ...]:
        ended_well = tuple(run for run in self.runs if run.status == "ok")
        return ended_well or tuple(run for run in self.runs if run.scored)

    @property
    def first(self) -> RunRecord:
        return self.runs[0]

    @property
    def untrained(self) -> bool:
        return self.first.items["loss"].spec == "none"


def newest(records: Sequence[RunRecord]) -> tuple[list[RunRecord], int]:
    """Return one record for each run, in the order given, and how many that leaves out.

    It is the last to finish, a failed one only where none has a score.
    """
    kept: dict[str, RunRecord] = {}
    for record in records:
        other = kept.get(record.id)
        if other is None or (record.scored, record.finished) > (other.scored, other.finished):
            kept[record.id] = record
    return list(kept.values()), len({(record.id, record.code, record.finished) for record in records}) - len(kept)


def combinations(records: Sequence[RunRecord]) -> list[Combination]:
    """Return the records by combination, the untrained networks first, else in the order given."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.group, []).append(record)
    return sorted((Combination(tuple(runs)) for runs in groups.values()), key=lambda each: not each.untrained)


def trainings(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return one record for each training that the records are scored with, in the order given."""
    first: dict[str, RunRecord] = {}
    for record in newest(records)[0]:
        if record.items["loss"].spec != "none":
            first.setdefault(record.train_id, record)
    return list(first.values())


def names(records: Sequence[RunRecord], kinds: Sequence[str] = KINDS, *, seeds: bool = True) -> list[str]:
    """Return a short name for each record: its loss, and of ``kinds`` what tells it from the others.

    What is the same in all of them is left out, and so is what follows from the rest, as a recipe does that goes with
    one loss only. Without the protocol among them the data that were trained on are named where they differ.
    """
    texts = {kind: [record.items[kind].short for record in records] for kind in kinds}
    if "protocol" not in kinds and len({record.dataset.train_digest for record in records}) > 1:
        texts["data"] = [record.items["protocol"].short.partition("(")[0] for record in records]
    varying = [kind for kind in texts if kind != "loss" and len(set(texts[kind])) > 1]
    for kind in ("recipe", "metric", "data", "protocol", "rerank", "backbone"):
        others = [other for other in varying if other != kind]
        if _told_apart(texts, ["loss", *others]) == _told_apart(texts, ["loss", *varying]):
            varying = others
    several = seeds and len({record.job.seed for record in records}) > 1
    return [
        ", ".join(
            [record.items["loss"].short]
            + [texts[kind][place] for kind in varying if texts[kind][place] != "none"]
            + [f"seed {record.job.seed}"] * several
        )
        for place, record in enumerate(records)
    ]


def lacking(reasons: Sequence[tuple[str, object]]) -> list[str]:
    """Return one note for each reason why runs, (name, reason) each, are not shown, with the names of all of them."""
    named: dict[str, list[str]] = {}
    for name, reason in reasons:
        named.setdefault(str(reason), []).append(name)
    return [f"{'; '.join(found)}: {reason}" for reason, found in named.items()]


def _told_apart(texts: Mapping[str, Sequence[str]], kinds: Sequence[str]) -> int:
    return len(set(zip(*(texts[kind] for kind in kinds), strict=True)))
