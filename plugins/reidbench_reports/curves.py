"""Curves: CMC, and scores by the size of the gallery as in the paper's Figure 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes

from reidbench import (
    HEADLINE,
    Column,
    DataError,
    Part,
    Ranking,
    RunFiles,
    RunRecord,
    Spec,
    Table,
    first_match,
    hookimpl,
    mean_and_sd,
    shown_scores,
)
from reidbench_reports.combinations import Combination, combinations, names, percent_column, scored
from reidbench_reports.drawing import GREY, bare, canvas, distinct, legend, style
from reidbench_reports.published import PublishedNumber, published_numbers

MOST_LINES = 16
TABLE_RANKS = (1, 5, 10, 20, 50)
SCORES = {name: shown_scores()[name].label for name in HEADLINE}
PUBLISHED_PROTOCOL, PUBLISHED_TABLE = "market1501_500k", 5
# System, then the size of the gallery, then the runs of all seeds.
Points = Mapping[str, Mapping[int, Sequence[RunRecord]]]


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
        for (protocol, *_), curves in _by_gallery_size(runs).items():
            self._distractors(protocol, curves, part)
        if not part.figures:
            part.notes.append("No run has rankings here.")
        return part

    def _cmc(self, protocol: str, rows: Sequence[Combination], files: RunFiles, part: Part) -> None:
        ranks = np.arange(1, self.ranks + 1)
        figure = canvas(f"CMC, {protocol}", height=3.4)
        axes = bare(figure.subplots(), x="rank", y="matching rate, %")
        cells = []
        labels = names([each.first for each in rows], seeds=False)
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
            shown = {f"r{rank}": float(mean[rank - 1]) for rank in TABLE_RANKS if rank <= self.ranks}
            cells.append({"combination": labels[number]} | shown)
        if not cells:
            return
        axes.set_xlim(1, max(self.ranks, 2))
        legend(axes, beside=len(cells) > 4)
        columns = [
            Column("combination"),
            *(percent_column(key, key.replace("r", "rank-")) for key in list(cells[0])[1:]),
        ]
        part.tables.append(Table(cells, columns, f"CMC in percent, {protocol}"))
        part.figures.append(figure)

    def _distractors(self, protocol: str, curves: Points, part: Part) -> None:
        published = self.published and protocol == PUBLISHED_PROTOCOL
        numbers = published_numbers(PUBLISHED_TABLE) if published else []
        standin = any(run.standin for points in curves.values() for runs in points.values() for run in runs)
        figure = canvas(f"Scores by gallery size, {protocol}", width=8.4, height=3.6)
        # Galleries of a stand-in have other sizes: they get axes of their own.
        own, theirs = figure.subplots(1, 2, sharey=True) if numbers and standin else [figure.subplots()] * 2
        rows = []
        for number, (system, label) in enumerate(zip(curves, distinct(list(curves)), strict=True)):
            means = {score: _line(own, curves[system], score, style(number)[0], label) for score in SCORES}
            rows += [
                {"system": system, "gallery": size} | {score: means[score][size] / 100 for score in SCORES}
                for size in curves[system]
            ]
        _published_lines(theirs, numbers)
        for axes in dict.fromkeys((own, theirs)):
            bare(axes, x="gallery images")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes.locator_params(axis="x", nbins=5)
            legend(axes, beside=own is theirs)
        own.set_ylabel("%, solid: {}, dashed: {}".format(*SCORES.values()), fontsize=9)
        if numbers:
            part.notes.append("Grey: published, Hermans et al. 2017, Table 5, the values of its Figure 2.")
        if standin:
            part.notes.append(f"{protocol}: stand-in data, not comparable with published curves.")
        columns = [Column("system"), Column("gallery", "", "number", ",d")]
        columns += [percent_column(score, label) for score, label in SCORES.items()]
        part.tables.append(Table(rows, columns, f"Scores in percent by gallery size, {protocol}"))
        part.figures.append(figure)


def _line(
    axes: Axes, points: Mapping[int, Sequence[RunRecord]], score: str, colour: str, label: str
) -> dict[int, float]:
    """Draw one score by gallery size with its standard deviation over seeds; return the means in percent."""
    values = {size: mean_and_sd(100 * run.scores[score] for run in runs) for size, runs in points.items()}
    means = {size: mean for size, (mean, _) in values.items()}
    _plot(axes, means, score, "o", colour, label)
    spread = np.array([(mean - (sd or 0), mean + (sd or 0)) for mean, sd in values.values()])
    axes.fill_between(list(values), *spread.T, color=colour, alpha=0.18, lw=0)
    return means


def _published_lines(axes: Axes, numbers: Sequence[PublishedNumber]) -> None:
    for system, mark in zip(dict.fromkeys(number.row for number in numbers), "^sD", strict=False):
        for score in SCORES:
            values = {
                int(number.column.replace(" ", "")): number.value
                for number in numbers
                if (number.row, number.score) == (system, score)
            }
            _plot(axes, values, score, mark, GREY, f"{system} (published)")


def _plot(axes: Axes, values: Mapping[int, float], score: str, mark: str, colour: str, label: str) -> None:
    """Plot a score by gallery size; the first score is solid and in the legend, the other one dashed."""
    first = score == next(iter(SCORES))
    line = f"{mark}{'-' if first else '--'}"
    axes.plot(
        *zip(*sorted(values.items()), strict=True), line, color=colour, markersize=4, label=label if first else None
    )


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


def _by_gallery_size(records: Sequence[RunRecord]) -> dict[tuple[str, ...], Points]:
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
    boards: dict[tuple[str, ...], dict[str, dict[int, list[RunRecord]]]] = {}
    for (key, points), label in zip(several.items(), labels, strict=True):
        curves = boards.setdefault(key[:7], {})
        curves[label if label not in curves else f"{label} ({len(curves) + 1})"] = points
    return dict(boards)


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Curves]]:
    return {"curves": Curves}
