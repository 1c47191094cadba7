"""Curves: CMC, and scores by the size of the gallery as in the paper's Figure 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from reidbench import (
    Chart,
    Column,
    DataError,
    Part,
    Ranking,
    RunFiles,
    RunRecord,
    Series,
    Spec,
    Table,
    first_match,
    hookimpl,
)
from reidbench_reports.combinations import (
    HEADLINE_LABELS,
    Combination,
    combinations,
    names,
    percent_column,
    scored,
)
from reidbench_reports.published import known_deviations, published_numbers

MOST_LINES = 16
TABLE_RANKS = (1, 5, 10, 20, 50)
PUBLISHED_PROTOCOL, PUBLISHED_TABLE = "market1501_500k", 5
# The runs of a system by the size of their gallery.
Points = Mapping[int, Sequence[RunRecord]]


class Curves:
    """CMC curves of every protocol, and scores by the number of distractors.

    Options:
        ranks: the highest rank of the CMC curves.
        published: whether the paper's own distractor curves are drawn beside ours.
    """

    def __init__(self, *, ranks: int = 50, published: bool = True) -> None:
        self.ranks = ranks
        self.published = published

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part; a run without its rankings is named in a note."""
        runs = scored(records)
        part = Part(title="Curves")
        boards: dict[tuple[str, ...], list[RunRecord]] = {}
        for run in runs:
            board = (run.items["protocol"].short, *_test_of(run), run.dataset.digest)
            boards.setdefault(board, []).append(run)
        for (protocol, *_), members in boards.items():
            rows = combinations(members)
            if len(rows) > MOST_LINES:
                part.notes.append(f"{protocol}: the first {MOST_LINES} of {len(rows)} combinations are drawn.")
            self._cmc(protocol, rows[:MOST_LINES], files, part)
        for (protocol, *_), systems in _by_gallery_size(runs).items():
            self._distractors(protocol, systems, part)
        if not part.charts:
            part.notes.append("No run has rankings here.")
        return part

    def _cmc(self, protocol: str, rows: Sequence[Combination], files: RunFiles, part: Part) -> None:
        ranks = range(1, self.ranks + 1)
        lines, cells = [], []
        labels = names([each.first for each in rows], seeds=False)
        name = "recall_at_" if any("recall_at_1" in each.first.scores for each in rows) else "r"
        table_ranks = [rank for rank in TABLE_RANKS if rank <= self.ranks]
        for each, label in zip(rows, labels, strict=True):
            curves = []
            for run in each.scored:
                try:
                    curves.append(100 * cumulative_match(files.ranking(run), self.ranks))
                except DataError as error:
                    part.notes.append(f"{run.items['loss'].short}, seed {run.job.seed}: {error}")
            if not curves:
                continue
            mean, band = np.mean(curves, axis=0), {"low": np.min(curves, axis=0), "high": np.max(curves, axis=0)}
            control = {"method": "", "scaled": False} if each.untrained else {"method": each.first.items["loss"].short}
            lines.append(Series(label, ranks, mean, **control, **(band if len(curves) > 1 else {})))
            cells.append({"combination": label} | {f"{name}{rank}": mean[rank - 1] / 100 for rank in table_ranks})
        if not cells:
            return
        columns = [Column("combination"), *(percent_column(f"{name}{rank}") for rank in table_ranks)]
        part.tables.append(Table(cells, columns, f"CMC in percent, {protocol}"))
        part.charts.append(Chart("line", f"CMC, {protocol}", lines, "rank", "matching rate, %"))
        if not all(line.scaled for line in lines):
            part.notes.append(f"{protocol}: the axes fit trained networks; untrained ones are under Data.")

    def _distractors(self, protocol: str, systems: Mapping[str, Points], part: Part) -> None:
        published = published_numbers(PUBLISHED_TABLE) if self.published and protocol == PUBLISHED_PROTOCOL else []
        standin = any(run.standin for points in systems.values() for runs in points.values() for run in runs)
        rows = []
        for system, points in systems.items():
            for size, runs in points.items():
                rows.append({"system": system, "gallery": size})
                if published:
                    rows[-1]["deviations"] = "; ".join([*runs[0].deviations, *known_deviations(runs[0].job)])
                for score in HEADLINE_LABELS:
                    rows[-1][score], rows[-1][f"{score}_sd"] = Combination(tuple(runs)).mean(score)
        for score, label in HEADLINE_LABELS.items():
            ours = [_line(system, points, score) for system, points in systems.items()]
            theirs = []
            for system in dict.fromkeys(number.row for number in published):
                numbers = [number for number in published if (number.row, number.score) == (system, score)]
                values = sorted((int(number.column.replace(" ", "")), number.value) for number in numbers)
                theirs.append(Series(f"{system} (published)", *zip(*values, strict=True), method=""))
            # Galleries of a stand-in have other sizes: they get a chart of their own.
            for lines in [ours, theirs] if standin else [[*ours, *theirs]]:
                if lines:
                    title = f"{label} by gallery size, {protocol if lines is not theirs else 'published'}"
                    part.charts.append(Chart("line", title, lines, "gallery images", f"{label}, %"))
        if published:
            part.notes.append("Grey: published, Hermans et al. 2017, Table 5, the values of its Figure 2.")
        if standin:
            part.notes.append(f"{protocol}: stand-in data, not comparable with published curves.")
        columns = [Column("system"), Column("gallery", "", "number", ",d"), *map(percent_column, HEADLINE_LABELS)]
        columns += [Column("deviations", "differs from the paper in")] * bool(published)
        part.tables.append(Table(rows, columns, f"Scores in percent by gallery size, {protocol}"))


def _line(system: str, points: Points, score: str) -> Series:
    """Return a system's mean score in percent by gallery size, with its standard deviation over seeds as band."""
    means, spreads = np.array([Combination(tuple(runs)).mean(score) for runs in points.values()], dtype=float).T * 100
    method = next(iter(points.values()))[0].items["loss"].short
    band = {} if np.isnan(spreads).all() else {"low": means - spreads, "high": means + spreads}
    return Series(system, list(points), means, **band, method=method)


def cumulative_match(ranking: Ranking, ranks: int) -> np.ndarray:
    """Return the share of queries with a positive among the first k, for k from 1 to ``ranks``."""
    first = first_match(ranking)
    counts = np.bincount(first[(first >= 0) & (first < ranks)], minlength=ranks)
    return counts.cumsum() / len(ranking)


def _test_of(run: RunRecord) -> tuple[str, ...]:
    """Return what runs must share to be compared: protocol version, training data, queries, stand-in or not."""
    return (
        str(run.evaluation.version),
        run.dataset.train_digest,
        str(run.scores["queries"]),
        str(run.standin),
    )


def _by_gallery_size(records: Sequence[RunRecord]) -> dict[tuple[str, ...], dict[str, Points]]:
    """Return the runs at each size of the gallery, where there are two sizes or more, by protocol and by system.

    Runs belong together that differ in nothing but one option of the protocol, the same in all of them, and the seed:
    training data, queries, version, views and pool agree.
    """
    sizes: dict[tuple[str, ...], dict[int, list[RunRecord]]] = {}
    for record in records:
        items, how = record.items, record.evaluation
        system = (*(items[kind].spec for kind in ("loss", "backbone", "recipe", "metric", "rerank")),)
        protocol = Spec.parse(items["protocol"].spec).item
        for option, _ in protocol.options:
            fixed = str(replace(protocol, options=tuple(each for each in protocol.options if each[0] != option)))
            key = (protocol.name, *_test_of(record), option, fixed, *system, how.views, how.pool)
            sizes.setdefault(key, {}).setdefault(int(record.scores["gallery"]), []).append(record)
    several = {key: dict(sorted(points.items())) for key, points in sizes.items() if len(points) > 1}
    labels = names([next(iter(points.values()))[0] for points in several.values()], seeds=False)
    boards: dict[tuple[str, ...], dict[str, Points]] = {}
    for (key, points), label in zip(several.items(), labels, strict=True):
        curves = boards.setdefault(key[:7], {})
        curves[label if label not in curves else f"{label} ({len(curves) + 1})"] = points
    return boards


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Curves]]:
    return {"curves": Curves}
