"""The runs of a report by combination: runs that differ in nothing but the seed form one combination."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reidbench import HEADLINE, Column, DataError, Part, RunRecord, Score, mean_and_sd, named_score, shown_scores

KINDS = ("protocol", "loss", "backbone", "recipe", "metric", "rerank")
TRAINING = ("loss", "backbone", "recipe")
LABELS = {name: score.label for name, score in shown_scores().items()}
HEADLINE_LABELS = {name: LABELS[name] for name in HEADLINE}
MOST_NAMES = 5  # in one note
PRIMARY = HEADLINE[0]  # of re-identification


@dataclass(frozen=True)
class Combination:
    """The runs of one combination, one for each seed."""

    runs: tuple[RunRecord, ...]

    @property
    def scored(self) -> tuple[RunRecord, ...]:
        """Return the runs that ended well; where none did, all that have scores."""
        return tuple(run for run in self.runs if run.status == "ok") or tuple(run for run in self.runs if run.scored)

    @property
    def first(self) -> RunRecord:
        return self.runs[0]

    @property
    def untrained(self) -> bool:
        return self.first.items["loss"].spec == "none"

    def mean(self, score: str) -> tuple[float | None, float | None]:
        """Return the mean of a score over the seeds and its standard deviation, None where there is none."""
        values = [run.scores[score] for run in self.scored if score in run.scores]
        return mean_and_sd(values) if values else (None, None)


def newest(records: Sequence[RunRecord]) -> tuple[list[RunRecord], int]:
    """Return one record for each run id, in the order given, and how many that leaves out.

    It is the last to finish, a failed one only where none has a score.
    """
    last: dict[str, RunRecord] = {}
    for record in records:
        other = last.get(record.id)
        if other is None or (record.scored, record.finished) > (other.scored, other.finished):
            last[record.id] = record
    return list(last.values()), len({(record.id, record.code, record.finished) for record in records}) - len(last)


def scored(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the newest record of each run that has scores, in the order given."""
    return [record for record in newest(records)[0] if record.scored]


def best_first(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the newest record of each run that has scores, those with the highest mAP (or primary score) first."""
    return sorted(scored(records), key=lambda record: -record.scores[record.evaluation.primary])


def best_trained_first(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs of ``best_first`` without those of untrained networks, unless there are no others."""
    runs = best_first(records)
    return [run for run in runs if run.items["loss"].spec != "none" or run.network.pretrained] or runs


def combinations(records: Sequence[RunRecord]) -> list[Combination]:
    """Return the records by combination, the untrained networks first, else in the order given."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.group, []).append(record)
    return sorted((Combination(tuple(runs)) for runs in groups.values()), key=lambda each: not each.untrained)


def trainings(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return one record for each training of the records, in the order given."""
    first: dict[str, RunRecord] = {}
    for record in newest(records)[0]:
        if record.items["loss"].spec != "none":
            first.setdefault(record.train_id, record)
    return list(first.values())


def scores_of(records: Sequence[RunRecord]) -> dict[str, Score]:
    """Return the scores of any of the records that tables show, by name; without scores those of re-identification."""
    runs = scored(records)
    shown = [shown_scores(run.scores, run.evaluation.primary) for run in runs] or [shown_scores()]
    return {name: score for scores in shown for name, score in scores.items()}


def names(records: Sequence[RunRecord], kinds: Sequence[str] = KINDS, *, seeds: bool = True) -> list[str]:
    """Return a short name for each record: its loss, and those of ``kinds`` that distinguish it from the others.

    What all records share is left out, and so is what follows from the rest, such as a recipe used with one loss only.
    Where the protocol is not among ``kinds``, the training data is named where it differs. Names that
    are the same nevertheless are numbered.
    """
    texts = {kind: [record.items[kind].short for record in records] for kind in kinds}
    if "protocol" not in kinds and len({record.dataset.train_digest for record in records}) > 1:
        texts["data"] = [record.items["protocol"].short.partition("(")[0] for record in records]
    varying = [kind for kind in texts if kind != "loss" and len(set(texts[kind])) > 1]
    for kind in ("recipe", "metric", "data", "protocol", "rerank", "backbone"):
        others = [other for other in varying if other != kind]
        if _distinct(texts, ["loss", *others]) == _distinct(texts, ["loss", *varying]):
            varying = others
    several = seeds and len({record.job.seed for record in records}) > 1
    labels = [
        ", ".join(
            [record.items["loss"].short]
            + [texts[kind][place] for kind in varying if texts[kind][place] != "none"]
            + [f"seed {record.job.seed}"] * several
        )
        for place, record in enumerate(records)
    ]
    return [f"{label} ({n})" if labels.count(label) > 1 else label for n, label in enumerate(labels, start=1)]


def add_runs(
    part: Part,
    runs: Sequence[RunRecord],
    most: int,
    add: Callable[[RunRecord, str], None],
    kinds: Sequence[str] = KINDS,
) -> None:
    """Call ``add`` with each of the first ``most`` runs and its name (as ``names``); add notes on those left out.

    A run for which ``add`` raises DataError does not count; runs with one reason share one note.
    """
    reasons: dict[str, list[str]] = {}
    added = 0
    for run, name in zip(runs, names(runs, kinds), strict=True):
        if added == most:
            part.notes.append(f"Shown: {most} of {len(runs)} runs (option most).")
            break
        try:
            add(run, name)
            added += 1
        except DataError as error:
            reasons.setdefault(str(error), []).append(name)
    for reason, each in reasons.items():
        more = f" and {len(each) - MOST_NAMES} more" * (len(each) > MOST_NAMES)
        part.notes.append(f"{'; '.join(each[:MOST_NAMES])}{more}: {reason}")


def percent_column(key: str, label: str = "", minor: int = 0) -> Column:
    """Return a column that prints fractions in percent, with the standard deviation ``KEY_sd`` where a row has one.

    The label is by default that of the score ``key``.
    """

    def cell(row: Mapping[str, Any]) -> str:
        mean, sd = row.get(key), row.get(f"{key}_sd")
        if mean is None:
            return "–"
        return f"{100 * mean:.2f}" if sd is None else f"{100 * mean:.2f} ±{100 * sd:.2f}"

    return Column(key, label or _label(key), "number", cell, minor)


def _label(key: str) -> str:
    """Return the label of the score of this name, the name itself where there is none."""
    try:
        return named_score(key).label
    except DataError:
        return key


def _distinct(texts: Mapping[str, Sequence[str]], kinds: Sequence[str]) -> int:
    return len(set(zip(*(texts[kind] for kind in kinds), strict=True)))
