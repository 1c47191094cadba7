"""Curves: CMC, and scores by the size of the gallery as in the paper's Figure 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes

from reidbench import Column, DataError, Part, Ranking, RunFiles, RunRecord, Spec, Table, first_match, hookimpl
from reidbench_reports.combinations import HEADLINE_LABELS, Combination, combinations, names, percent_column, scored
from reidbench_reports.drawing import GREY, bare, canvas, distinct, legend, style
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
        if not part.figures:
            part.notes.append("No run has rankings here.")
        return part

    def _cmc(self, protocol: str, rows: Sequence[Combination], files: RunFiles, part: Part) -> None:
        ranks = np.arange(1, self.ranks + 1)
        figure = canvas(f"CMC, {protocol}", height=3.4)
        axes = bare(figure.subplots(), x="rank", y="matching rate, %")
        cells = []
        labels = names([each.first for each in rows], seeds=False)
        table_ranks = [rank for rank in TABLE_RANKS if rank <= self.ranks]
        for number, (each, label) in enumerate(zip(rows, distinct(labels), strict=True)):
            curves = []
            for run in each.scored:
                try:
                    curves.append(cumulative_match(files.ranking(run), self.ranks))
                except DataError as error:
                    part.notes.append(f"{run.items['loss'].short}, seed {run.job.seed}: {error}")
            if not curves:
                continue
            mean, percent = np.mean(curves, axis=0), 100 * np.array(curves)
            colour, dashes = style(number)
            axes.plot(ranks, percent.mean(axis=0), dashes, color=colour, linewidth=1.6, label=label)
            if len(curves) > 1:
                axes.fill_between(ranks, percent.min(axis=0), percent.max(axis=0), color=colour, alpha=0.18, lw=0)
            cells.append({"combination": labels[number]} | {f"r{rank}": float(mean[rank - 1]) for rank in table_ranks})
        if not cells:
            return
        axes.set_xlim(1, max(self.ranks, 2))
        legend(axes, beside=len(cells) > 4)
        columns = [Column("combination"), *(percent_column(f"r{rank}", f"rank-{rank}") for rank in table_ranks)]
        part.tables.append(Table(cells, columns, f"CMC in percent, {protocol}"))
        part.figures.append(figure)

    def _distractors(self, protocol: str, systems: Mapping[str, Points], part: Part) -> None:
        published = published_numbers(PUBLISHED_TABLE) if self.published and protocol == PUBLISHED_PROTOCOL else []
        standin = any(run.standin for points in systems.values() for runs in points.values() for run in runs)
        figure = canvas(f"Scores by gallery size, {protocol}", width=8.4, height=3.6)
        # Galleries of a stand-in have other sizes: they get axes of their own.
        own, theirs = figure.subplots(1, 2, sharey=True) if published and standin else [figure.subplots()] * 2
        rows = []
        for number, (system, label) in enumerate(zip(systems, distinct(list(systems)), strict=True)):
            colour = style(number)[0]
            for size, runs in systems[system].items():
                rows.append({"system": system, "gallery": size})
                if published:
                    rows[-1]["deviations"] = "; ".join([*runs[0].deviations, *known_deviations(runs[0].job)])
                for score in HEADLINE_LABELS:
                    rows[-1][score], rows[-1][f"{score}_sd"] = Combination(tuple(runs)).mean(score)
            for score in HEADLINE_LABELS:
                points = [row for row in rows if row["system"] == system]
                means = {row["gallery"]: 100 * row[score] for row in points}
                spread = np.array([100 * (row[f"{score}_sd"] or 0.0) for row in points])
                middle = np.array(list(means.values()))
                _plot(own, means, score, "o", colour, label)
                own.fill_between(list(means), middle - spread, middle + spread, color=colour, alpha=0.18, lw=0)
        for system, mark in zip(dict.fromkeys(number.row for number in published), "^sD", strict=False):
            for score in HEADLINE_LABELS:
                numbers = [number for number in published if (number.row, number.score) == (system, score)]
                values = {int(number.column.replace(" ", "")): number.value for number in numbers}
                _plot(theirs, values, score, mark, GREY, f"{system} (published)")
        for axes in dict.fromkeys((own, theirs)):
            bare(axes, x="gallery images")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes.locator_params(axis="x", nbins=5)
            legend(axes, beside=own is theirs)
        own.set_ylabel("%, solid: {}, dashed: {}".format(*HEADLINE_LABELS.values()), fontsize=9)
        if published:
            part.notes.append("Grey: published, Hermans et al. 2017, Table 5, the values of its Figure 2.")
        if standin:
            part.notes.append(f"{protocol}: stand-in data, not comparable with published curves.")
        columns = [Column("system"), Column("gallery", "", "number", ",d"), *map(percent_column, HEADLINE_LABELS)]
        columns += [Column("deviations", "differs from the paper in")] * bool(published)
        part.tables.append(Table(rows, columns, f"Scores in percent by gallery size, {protocol}"))
        part.figures.append(figure)


def _plot(axes: Axes, values: Mapping[int, float], score: str, mark: str, colour: str, label: str) -> None:
    """Plot a score by gallery size; the first score is solid and in the legend, the other one dashed."""
    first = score == next(iter(HEADLINE_LABELS))
    line, points = f"{mark}{'-' if first else '--'}", sorted(values.items())
    axes.plot(*zip(*points, strict=True), line, color=colour, markersize=4, label=label if first else None)


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
