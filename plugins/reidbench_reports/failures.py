"""The hardest queries as in the paper's Figure 4, and for comparison median and best ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from reidbench import Column, IntArray, Part, Ranking, RunFiles, RunRecord, Split, Table, average_precision, hookimpl
from reidbench_reports.combinations import add_runs, best_trained_first, percent_column
from reidbench_reports.drawing import RIGHT, WRONG, canvas, name_of, plain, show_image

TOP, HARDEST = 3, 2
COLUMNS = [
    Column("kind"),
    Column("query"),
    percent_column("ap_market", "AP (market), %"),
    Column("top", "top-ranked"),
    Column("hardest", "hardest positives"),
]
# Gallery unit, rank from 1, distance.
Place = tuple[int, int, float]


class Failures:
    """Queries with their top-ranked images and hardest positives: the hardest queries, median and best ones.

    Options:
        queries: how many of each kind.
        pictures: whether to show the images; without, the report holds no image of a person.
        most: how many runs are shown, the trained ones with the highest primary score first.
    """

    def __init__(self, *, queries: int = 5, pictures: bool = True, most: int = 1) -> None:
        self.queries = queries
        self.pictures = pictures
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: a table, and a figure of each kind of query for each run."""
        part = Part(title="Queries: hardest, median, best")

        def add(record: RunRecord, name: str) -> None:
            split, ranking = files.split(record), files.ranking(record)
            chosen = choose(ranking, self.queries)
            figures = [
                draw(f"{kind} queries: {name}", split, ranking, queries)
                for kind, queries in chosen.items()
                if self.pictures and len(queries)
            ]
            part.tables.append(Table(list(_rows(split, ranking, chosen)), COLUMNS, f"{name}: ranks and distances"))
            part.figures.extend(figures)

        add_runs(part, best_trained_first(records), self.most, add)
        if part.figures:
            part.notes.append(
                f"Query, the {TOP} top-ranked images and the {HARDEST} hardest positives (those ranked last). "
                "Green: correct match, red: wrong match."
            )
        return part


def choose(ranking: Ranking, number: int) -> dict[str, IntArray]:
    """Return up to ``number`` hardest, median and best queries with a positive, by average precision, ties in order."""
    quality = average_precision(ranking, "market")
    matched = np.flatnonzero(np.diff(ranking.starts) > 0)
    order = matched[np.argsort(quality[matched], kind="stable")]
    number = min(number, len(order))
    middle = (len(order) - number) // 2
    return {
        "Hardest": order[:number],
        "Median": order[middle : middle + number],
        "Best": order[len(order) - number :][::-1],
    }


def _places(ranking: Ranking, query: int) -> tuple[list[Place], list[Place]]:
    """Return the places of the top-ranked gallery units, and of the positives ranked last."""
    top = [
        (int(unit), place + 1, float(ranking.top_distances[query, place]))
        for place, unit in enumerate(ranking.top[query][:TOP])
        if unit >= 0
    ]
    positives = range(ranking.starts[query], ranking.starts[query + 1])
    hardest = [
        (int(ranking.units[place]), int(ranking.ranks[place]) + 1, float(ranking.distances[place]))
        for place in positives[-HARDEST:]
    ]
    return top, hardest


def _rows(split: Split, ranking: Ranking, chosen: Mapping[str, IntArray]) -> Iterator[dict[str, object]]:
    quality = average_precision(ranking, "market")
    for kind, queries in chosen.items():
        for query in queries:
            top, hardest = _places(ranking, query)
            correct = split.gallery.pids == split.query.pids[query]
            ranked = [f"{'correct' if correct[unit] else 'wrong'} {distance:.3g}" for unit, _, distance in top]
            yield {
                "kind": kind.lower(),
                "query": name_of(split.query, query),
                "ap_market": float(quality[query]),
                "top": ", ".join(ranked),
                "hardest": ", ".join(f"rank {rank:,} at {distance:.3g}" for _, rank, distance in hardest),
            }


def draw(title: str, split: Split, ranking: Ranking, queries: IntArray) -> Figure:
    """Return the figure of some queries, one in a row."""
    columns = 1 + TOP + HARDEST
    figure = canvas(title, width=0.95 * columns + 0.3, height=1.72 * len(queries) + 0.3)
    grid = figure.subplots(len(queries), columns, squeeze=False)
    quality = average_precision(ranking, "market")
    for row, query in zip(grid, queries, strict=True):
        for axes in row:
            axes.set_axis_off()
        top, hardest = _places(ranking, query)
        show_image(row[0], split.query, query, [f"AP {100 * quality[query]:.1f} %"])
        placed = [*zip(row[1 : 1 + TOP], top, strict=False), *zip(row[1 + TOP :], hardest, strict=False)]
        for axes, (unit, rank, distance) in placed:
            right = split.gallery.pids[unit] == split.query.pids[query]
            show_image(axes, split.gallery, unit, [f"rank {rank:,}", f"{distance:.3g}"], RIGHT if right else WRONG)
    for axes, heading in zip(grid[0], ["query", "top-ranked", "", "", "hardest positives", ""], strict=True):
        axes.set_title(plain(heading), fontsize=8, loc="left")
    return figure


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Failures]]:
    return {"failures": Failures}
