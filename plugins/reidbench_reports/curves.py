"""Curves: cumulative match by rank, and scores by the size of the gallery as in the paper's Figure 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from reidbench import (
    HEADLINE,
    DataError,
    Part,
    Ranking,
    RunFiles,
    RunRecord,
    Spec,
    first_match,
    hookimpl,
    mean_and_sd,
    shown_scores,
)
from reidbench_reports.combinations import Combination, combinations, names, newest
from reidbench_reports.drawing import GREY, bare, canvas, distinct, legend, style
from reidbench_reports.published import cells

MOST_LINES = 16
SCORES = {name: shown_scores()[name].label for name in HEADLINE}
PUBLISHED_PROTOCOL, PUBLISHED_TABLE = "market1501_500k", 5


class Curves:
    """The share of queries with a match among the first k, and what further distractors cost.

    Options:
        ranks: how far the cumulative match goes.
        published: whether the paper's own distractor curves stand beside ours.
    """

    def __init__(self, *, ranks: int = 50, published: bool = True) -> None:
        self.ranks = ranks
        self.published = published

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part; a run without its ranking is named in a note."""
        kept = [record for record in newest(records)[0] if record.scored]
        part = Part(title="Curves")
        boards: dict[tuple[str, ...], list[RunRecord]] = {}
        for record in kept:
            boards.setdefault((record.items["protocol"].short, *_asked(record), record.dataset.digest), []).append(
                record
            )
        grown = _growing(kept)
        for (protocol, *_), runs in boards.items():
            rows = combinations(runs)
            if len(rows) > MOST_LINES:
                part.notes.append(f"{protocol}: {len(rows)} combinations, of which the first {MOST_LINES} are drawn.")
            self._cumulative(protocol, rows[:MOST_LINES], files, part)
        for (protocol, *_), curves in grown.items():
            self._distractors(protocol, curves, part)
        if not part.figures:
            part.notes.append("There is no ranking to draw.")
        return part

    def _cumulative(self, protocol: str, rows: Sequence[Combination], files: RunFiles, part: Part) -> None:
        ranks = np.arange(1, self.ranks + 1)
        figure = canvas(f"Cumulative match, {protocol}", height=3.4)
        axes = bare(figure.subplots(), x="rank", y="queries with a match, %")
        table: dict[str, list[str]] = {}
        said = names([each.first for each in rows], seeds=False)
        for number, (each, name) in enumerate(zip(rows, distinct(said), strict=True)):
            curves = []
            for run in each.scored:
                try:
                    curves.append(cumulative_match(files.ranking(run), self.ranks))
                except DataError as error:
                    part.notes.append(f"{run.items['loss'].short}, seed {run.job.seed}: {error}")
            if not curves:
                continue
            colour, dashes = style(number)
            percent = 100 * np.array(curves)
            axes.plot(ranks, percent.mean(axis=0), dashes, color=colour, linewidth=1.6, label=name)
            if len(curves) > 1:
                axes.fill_between(ranks, percent.min(axis=0), percent.max(axis=0), color=colour, alpha=0.18, lw=0)
            shown = [rank for rank in (1, 5, 10, 20, 50) if rank <= self.ranks]
            table.setdefault("combination", []).append(said[number])
            for rank in shown:
                table.setdefault(f"rank-{rank}", []).append(f"{percent.mean(axis=0)[rank - 1]:.2f}")
        if not table:
            return
        axes.set_xlim(1, max(self.ranks, 2))
        legend(axes, beside=len(table["combination"]) > 4)
        frame = pd.DataFrame(table)
        frame.attrs["title"] = f"Cumulative match in percent, {protocol}"
        part.tables.append(frame)
        part.figures.append(figure)

    def _distractors(self, protocol: str, curves: Mapping[str, Mapping[int, Sequence[RunRecord]]], part: Part) -> None:
        beside = cells(PUBLISHED_TABLE) if self.published and protocol == PUBLISHED_PROTOCOL else []
        standin = any(run.standin for points in curves.values() for runs in points.values() for run in runs)
        figure = canvas(f"Scores by size of the gallery, {protocol}", width=8.4, height=3.6)
        # Galleries of a stand-in have other sizes: they get axes of their own.
        own, theirs = figure.subplots(1, 2, sharey=True) if beside and standin else [figure.subplots()] * 2
        rows = []
        for number, (name, points) in enumerate(curves.items()):
            for score, heading in SCORES.items():
                values = {size: mean_and_sd(100 * run.scores[score] for run in runs) for size, runs in points.items()}
                rows += [
                    {"system": name, "gallery": size, "score": heading, "percent": f"{mean:.2f}"}
                    for size, (mean, _) in values.items()
                ]
                means = {size: mean for size, (mean, _) in values.items()}
                _line(own, means, score, style(number)[0], "o", distinct(list(curves))[number])
                spread = np.array([(mean - (sd or 0), mean + (sd or 0)) for mean, sd in values.values()])
                own.fill_between(list(values), *spread.T, color=style(number)[0], alpha=0.18, lw=0)
        for system, mark in zip(dict.fromkeys(cell.row for cell in beside), "^sD", strict=False):
            for score in SCORES:
                found = [cell for cell in beside if (cell.row, cell.score) == (system, score)]
                values = {int(cell.column.replace(" ", "")): cell.value for cell in found}
                _line(theirs, values, score, GREY, mark, f"{system} (published)")
        for axes in dict.fromkeys((own, theirs)):
            bare(axes, x="gallery images")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes.locator_params(axis="x", nbins=5)
            legend(axes, beside=own is theirs)
        own.set_ylabel("%, solid: mAP (market), dashed: rank-1", fontsize=9)
        if beside:
            part.notes.append("Grey: published, Hermans et al. 2017, Table 5, the values of its Figure 2.")
        if standin:
            part.notes.append(f"{protocol}: stand-in data, which do not compare with published curves.")
        frame = pd.DataFrame(rows).pivot(index=["system", "gallery"], columns="score", values="percent").reset_index()
        frame.columns.name = None
        frame["gallery"] = [f"{size:,}" for size in frame["gallery"]]
        frame.attrs["title"] = f"Scores in percent by size of the gallery, {protocol}"
        part.tables.append(frame)
        part.figures.append(figure)


def _line(axes: Axes, values: Mapping[int, float], score: str, colour: str, mark: str, name: str) -> None:
    """Draw one score by size of the gallery; mAP solid and in the legend, rank-1 dashed."""
    first = score == next(iter(SCORES))
    label = name if first else None
    points = sorted(values.items())
    axes.plot(*zip(*points, strict=True), f"{mark}{'-' if first else '--'}", color=colour, markersize=4, label=label)


def cumulative_match(ranking: Ranking, ranks: int) -> np.ndarray:
    """Return the share of queries with a match among the first k, for k from 1 to ``ranks``."""
    first = first_match(ranking)
    counts = np.bincount(first[(first >= 0) & (first < ranks)], minlength=ranks)
    return counts.cumsum() / len(ranking)


def _asked(record: RunRecord) -> tuple[str, ...]:
    """Return what is asked of whom: runs that differ in it do not compare."""
    return (
        str(record.evaluation.version),
        record.dataset.train_digest,
        str(record.scores["queries"]),
        str(record.standin),
    )


def _growing(records: Sequence[RunRecord]) -> dict[tuple[str, ...], dict[str, dict[int, list[RunRecord]]]]:
    """Return the runs at each size of the gallery, where there are two sizes or more, by protocol and by system.

    Runs belong together that differ in nothing but one option of the protocol, the same in all of them, and the seed:
    training data, queries, version, views and pool agree.
    """
    found: dict[tuple[str, ...], dict[int, list[RunRecord]]] = {}
    for record in records:
        items, how = record.items, record.evaluation
        system = (*(items[kind].spec for kind in ("loss", "backbone", "recipe", "metric", "rerank")),)
        protocol = Spec.parse(items["protocol"].spec).item
        for grows, _ in protocol.options:
            fixed = str(replace(protocol, options=tuple(each for each in protocol.options if each[0] != grows)))
            key = (protocol.name, *_asked(record), grows, fixed, *system, how.views, how.pool)
            found.setdefault(key, {}).setdefault(int(record.scores["gallery"]), []).append(record)
    several = {key: dict(sorted(points.items())) for key, points in found.items() if len(points) > 1}
    labels = names([next(iter(points.values()))[0] for points in several.values()], seeds=False)
    grown: dict[tuple[str, ...], dict[str, dict[int, list[RunRecord]]]] = {}
    for (key, points), label in zip(several.items(), labels, strict=True):
        curves = grown.setdefault(key[:7], {})
        curves[label if label not in curves else f"{label} ({len(curves) + 1})"] = points
    return grown


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Curves]]:
    return {"curves": Curves}
