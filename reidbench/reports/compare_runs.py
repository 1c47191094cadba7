"""Paired comparison of two runs, or of two combinations over their seeds: differences in all scores with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidbench.errors import DataError, OptionError
from reidbench.ranking.bootstrap import LEVEL, mean_and_sd, paired_difference
from reidbench.ranking.rankings import Ranking, read_ranking
from reidbench.ranking.scores import named_score, shown_scores
from reidbench.reports.sections import Part
from reidbench.reports.table import MISSING, Column, Table
from reidbench.reports.text_formats import to_terminal
from reidbench.runs.provenance import changed_files
from reidbench.runs.record import RunRecord
from reidbench.runs.store import Store
from reidbench.utils.arrays import IntArray
from reidbench.utils.machine import local_machine, user_path
from reidbench.utils.untrusted_files import real_path

SEEDS = 3  # the fewest on each side for which intervals include the variance between seeds


@dataclass(frozen=True)
class Difference:
    """The difference in one score between two sides.

    ``score``: the name of the score.
    ``a``, ``b``: its mean on either side, a fraction.
    ``difference``: a - b.
    ``interval``: the 95 % interval of the difference; None where all queries are of one identity.
    ``over_seeds``: whether the interval includes the variance between seeds.
    """

    score: str
    a: float
    b: float
    difference: float
    interval: tuple[float, float] | None
    over_seeds: bool

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


@dataclass(frozen=True, repr=False)
class RunComparison:
    """Two sides compared; prints as the command ``reidbench compare`` does.

    ``names``: the name of each side.
    ``differences``: one for each score, the one that the protocol ranks by first.
    ``seeds``: the number of seeds on either side.
    ``identities``, ``queries``: the number of query identities and of queries.
    ``others``: what else differs, "NAME: A's | B's" each.
    """

    names: tuple[str, str]
    differences: tuple[Difference, ...]
    seeds: tuple[int, int]
    identities: int
    queries: int
    others: tuple[str, ...]

    def to_part(self) -> Part:
        """Return a table of the differences in percent, the verdict, and what else differs."""
        rows = []
        for each in self.differences:
            row = {"a": 100 * each.a, "b": 100 * each.b, "gap": 100 * each.difference}
            ends = [f"{100 * end:+.2f}" for end in each.interval or ()]
            rows.append({"score": named_score(each.score).label} | row | {"interval": " to ".join(ends) or MISSING})
        columns = [Column("score", "score, %"), Column("a", "A", "number", ".2f"), Column("b", "B", "number", ".2f")]
        columns += [Column("gap", "A−B", "number", "+.2f"), Column("interval", "95 % CI", "number")]
        notes = [*self._verdict(str(rows[0]["score"])), *(f"Also different, A | B: {each}" for each in self.others)]
        title = " · ".join(f"{side}: {name}" for side, name in zip("AB", self.names, strict=True))
        return Part(title, tables=[Table(rows, columns)], notes=notes)

    def __repr__(self) -> str:
        return to_terminal([self.to_part()]).removesuffix("\n")

    def _repr_html_(self) -> str:
        return self.to_part()._repr_html_()

    def _verdict(self, label: str) -> Iterator[str]:
        """Yield the verdict on the score that the protocol ranks by, and what its interval covers."""
        primary = self.differences[0]
        if primary.interval is None:
            yield f"No interval: all queries are of one identity, so the difference in {label} cannot be tested."
        elif primary.significant:
            higher = "A" if primary.difference > 0 else "B"
            yield f"{higher}'s {label} is significantly higher: the 95 % CI of the difference excludes 0."
        else:
            yield f"No significant difference in {label}: the 95 % CI includes 0."
        covers = "; covers the choice of queries, not training noise (use 3 or more seeds on both sides)."
        if primary.over_seeds:
            covers = f", plus the variance between {self.seeds[0]} and {self.seeds[1]} seeds."
        yield f"95 % CI: paired bootstrap over {self.identities} identities of {self.queries} queries{covers}"


def compare(a: str | Path, b: str | Path, *, seeds: bool = False, results: str | Path | None = None) -> RunComparison:
    """Return the comparison of two runs, or of two combinations over their seeds, with 95 % intervals.

    ``a`` and ``b`` are run folders, their records, folders with the seeds of one combination, or the start of a run's
    id in ``results``; ``seeds`` includes all seeds that are stored beside them. Raises OptionError where both are the
    same or one does not exist, and DataError where they cannot be compared.
    """
    store = Store(local_machine(results=results).results)
    sides = [_side(user_path(place), str(place), store, seeds) for place in (a, b)]
    if {real_path(folder) for folder, _ in sides[0]} == {real_path(folder) for folder, _ in sides[1]}:
        raise OptionError(f"{a} and {b}: are the same runs; name two that differ")
    return compare_combinations(*sides)


def _side(place: Path, text: str, store: Store, seeds: bool) -> list[tuple[Path, RunRecord]]:
    """Return the runs at a place; with ``seeds`` all scored runs beside it that differ from it in the seed only."""
    place = place if place.exists() else _run_of_id(text, store)
    runs = store.records([place])
    if not seeds:
        return runs
    groups = {record.group for _, record in runs}
    beside = store.records([(place.parent if place.is_file() else place).absolute().parent])
    return [(path, record) for path, record in beside if record.group in groups and record.scored]


def _run_of_id(text: str, store: Store) -> Path:
    """Return the folder of the one run whose id begins with ``text``, or whose folder has this name."""
    runs = store.records()
    folders = [folder for folder, record in runs if text and (record.id.startswith(text) or folder.name == text)]
    if len(folders) != 1:
        several = "".join([f"several runs in {store.folder} do:", *(f"\n  {folder.name}" for folder in folders)])
        none = f"no run does, of {len(runs):,} in {store.folder} (another folder: --results)"
        expected = "expected a run's folder or record, or a name or the start of an id that one run has"
        raise OptionError(f"{text}: {expected}; {several if folders else none}")
    return folders[0]


def compare_combinations(a: Sequence[tuple[Path, RunRecord]], b: Sequence[tuple[Path, RunRecord]]) -> RunComparison:
    """Return the comparison of two combinations, each as (run folder, record) of one or more seeds.

    Raises DataError where a run has no scores or no rankings, a side holds more than one combination, or the two were
    not scored on the same queries and positives.
    """
    for name, side in (("A", a), ("B", b)):
        _check_side(name, side)
    first, second = a[0][1], b[0][1]
    # The training part may differ: a network of another dataset is compared on the same queries and gallery.
    tested = [[record.dataset.content.get(part) for part in ("query", "gallery")] for record in (first, second)]
    if first.dataset.digest != second.dataset.digest and (tested[0] != tested[1] or None in tested[0]):
        raise DataError(
            f"{a[0][0]} and {b[0][0]}: were scored on different data (digests {first.dataset.digest[:16]} and "
            f"{second.dataset.digest[:16]}); only rankings of the same queries can be compared"
        )
    rankings = [[read_ranking(path) for path, _ in side] for side in (a, b)]
    for (path, _), ranking in zip([*a, *b], [*rankings[0], *rankings[1]], strict=True):
        if not same_matches(rankings[0][0], ranking):
            raise DataError(f"{path}: has other queries or positives than {a[0][0]}; only the same can be compared")
    pids = identities_of(rankings[0][0])
    names = dict.fromkeys([primary := first.evaluation.primary, *shown_scores(first.scores, primary)])
    return RunComparison(
        names=(_name(a), _name(b)),
        differences=tuple(difference(rankings[0], rankings[1], pids, name) for name in names),
        seeds=(len(a), len(b)),
        identities=len(np.unique(pids)),
        queries=len(pids),
        others=tuple(_others(first, second)),
    )


def difference(a: Sequence[Ranking], b: Sequence[Ranking], pids: IntArray, score: str) -> Difference:
    """Return the difference in one score.

    ``a`` and ``b`` are rankings of the same queries, one for each seed, ``pids`` [nq] the queries' identities. The
    interval is a paired bootstrap over identities of the means over seeds. With three seeds or more on both sides it is
    Student's t interval for the sum of that variance and of the variances between seeds, with Welch's degrees of
    freedom.
    """
    per_query = named_score(score).per_query
    values = [np.stack([per_query(ranking) for ranking in side]) for side in (a, b)]  # [seeds, nq] each
    means = [side.mean(axis=0) for side in values]
    gap, interval = paired_difference(means[0], means[1], pids)
    over_seeds = min(len(a), len(b)) >= SEEDS
    if interval is not None and over_seeds:
        interval = _with_seeds(gap, interval, [side.mean(axis=1) for side in values], len(np.unique(pids)))
    return Difference(score, float(means[0].mean()), float(means[1].mean()), gap, interval, over_seeds)


def identities_of(ranking: Ranking) -> IntArray:
    """Return a number for each query [nq] that queries of one identity share: the least gallery index of its positives.

    A query without a positive has a number of its own.
    """
    identities = -1 - np.arange(len(ranking), dtype=np.int64)
    size = max(ranking.units.max(initial=0), ranking.same_camera_units.max(initial=0)) + 1
    first = np.full(len(ranking), size)
    for queries, units in _positives(ranking):
        np.minimum.at(first, queries, units)
    return np.where(first < size, first, identities)


def same_matches(one: Ranking, other: Ranking) -> bool:
    """Return whether two rankings are of the same queries with the same positives, so that they can be compared."""
    parts = zip(_positives(one), _positives(other), strict=True)
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in parts)


def mean_interval(runs: Sequence[RunRecord], score: str, identities: int) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of a score over runs, one for each seed; None where one of them has none.

    It covers the choice of ``identities`` query identities; with three seeds or more also the variance between seeds.
    """
    ends = [run.intervals[score] for run in runs if score in run.intervals]
    if len(ends) < len(runs) or identities < 2:
        return None
    values = np.array([run.scores[score] for run in runs])
    low, high = np.mean(ends, axis=0).tolist()
    if len(runs) >= SEEDS:
        low, high = _with_seeds(float(values.mean()), (low, high), [values], identities)
    return max(low, 0.0), min(high, 1.0)


def _with_seeds(
    gap: float, interval: tuple[float, float], seeds: Sequence[NDArray[Any]], identities: int
) -> tuple[float, float]:
    """Return the interval widened by the variance between seeds; ``seeds`` holds the score of each seed, per side."""
    from scipy.special import stdtrit  # noqa: PLC0415, needed with three seeds or more only

    tail = (1 - LEVEL) / 2
    of_identities = ((interval[1] - interval[0]) / 2 / stdtrit(identities - 1, 1 - tail)) ** 2
    # (variance, degrees of freedom) of each part
    parts = [(float(of_identities), identities - 1)]
    parts += [((mean_and_sd(side)[1] or 0.0) ** 2 / len(side), len(side) - 1) for side in seeds]
    variance = math.fsum(part for part, _ in parts)
    if variance == 0:
        return interval
    freedom = variance**2 / math.fsum(part**2 / degrees for part, degrees in parts)
    half = float(stdtrit(freedom, 1 - tail)) * math.sqrt(variance)
    return gap - half, gap + half


def _name(side: Sequence[tuple[Path, RunRecord]]) -> str:
    record = side[0][1]
    seeds = f"seed {record.job.seed}" if len(side) == 1 else f"{len(side)} seeds"
    return f"{record.items['loss'].short}, {record.items['backbone'].short}, {seeds}"


def _check_side(name: str, side: Sequence[tuple[Path, RunRecord]]) -> None:
    for path, record in side:
        if not record.scored:
            raise DataError(f"{path}: the run is {record.status} and has no scores to compare: {record.error}")
    groups = {(record.group, record.code): str(path) for path, record in side}
    if len(groups) > 1:
        several = f"{len(groups)} combinations or versions of the code ({', '.join(list(groups.values())[:3])})"
        raise DataError(f"{name} holds {several}; name one run, or a folder that holds only the seeds of one")
    seeds = [record.job.seed for _, record in side]
    if len(seeds) != len(set(seeds)):
        raise DataError(f"{name} holds a seed more than once: {', '.join(map(str, sorted(seeds)))}; name one of them")


def _positives(ranking: Ranking) -> Iterator[IntArray]:
    """Yield the query and the unit of every positive [2, n], in this order; then those of the query's own camera."""
    for starts, units in ((ranking.starts, ranking.units), (ranking.same_camera_starts, ranking.same_camera_units)):
        queries = np.repeat(np.arange(len(ranking)), np.diff(starts))
        yield np.stack([queries, units])[:, np.lexsort((units, queries))]


def _others(a: RunRecord, b: RunRecord) -> Iterator[str]:
    """Yield what differs between two records, A's value before B's."""
    facts = _facts(b)
    yield from (f"{name}: {one} | {facts[name]}" for name, one in _facts(a).items() if one != facts[name])
    shared = a.code_files.keys() & b.code_files.keys()
    edited = [name for name in changed_files(a.code_files, b.code_files) if name in shared]
    if edited:
        yield f"code: {len(edited)} files differ: {', '.join(edited[:5])}{', …' * (len(edited) > 5)}"


def _facts(record: RunRecord) -> dict[str, Any]:
    facts: dict[str, Any] = {kind: item.spec for kind, item in record.items.items()} | {"seed": record.job.seed}
    facts |= {name: getattr(record.evaluation, name) for name in ("version", "views", "pool", "normalize")}
    facts |= {name: getattr(record.environment, name) for name in ("reidbench", "torch", "device_name", "threads")}
    return facts | {"commit": record.commit[:12], "dirty": record.dirty, "status": record.status}
