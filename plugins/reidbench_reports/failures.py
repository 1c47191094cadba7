"""The hardest queries as in the paper's Figure 4, and for comparison median and best ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reidbench import DataError, IntArray, Part, Ranking, RunFiles, RunRecord, Split, average_precision, hookimpl
from reidbench_reports.combinations import lacking, names, newest
from reidbench_reports.drawing import RIGHT, WRONG, canvas, plain
from reidbench_reports.pictures import name_of, show

FOUND, HARDEST = 3, 2


class Failures:
    """Queries with what was found first and what was found last: the hardest, and median and best ones.

    Options:
        queries: how many of each kind.
        pictures: whether to show the images; without, the report holds no picture of a person.
        most: how many runs are shown.
    """

    def __init__(self, *, queries: int = 5, pictures: bool = True, most: int = 4) -> None:
        self.queries = queries
        self.pictures = pictures
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: for every run a table, and a drawing of each kind of query."""
        part = Part(title="Queries: hardest, median, best")
        runs = [record for record in newest(records)[0] if record.scored]
        if len(runs) > self.most:
            part.notes.append(f"{len(runs)} runs, of which the first {self.most} are shown.")
        unseen: list[tuple[str, object]] = []
        for record, name in zip(runs[: self.most], names(runs), strict=False):
            try:
                split, ranking = files.split(record), files.ranking(record)
                chosen = choose(ranking, self.queries)
                frame = _table(split, ranking, chosen)
                frame.attrs["title"] = f"{name}: rank and distance of what was found"
                part.tables.append(frame)
                if self.pictures:
                    part.figures.extend(
                        draw(f"{kind} queries: {name}", split, ranking, queries)
                        for kind, queries in chosen.items()
                        if len(queries)
                    )
            except DataError as error:
                unseen.append((name, error))
        part.notes.extend(lacking(unseen))
        if part.figures:
            part.notes.append(
                f"Query, the first {FOUND} found, and its {HARDEST} hardest matches (those found last). "
                "Green: the right person, red: a wrong one."
            )
        return part


def choose(ranking: Ranking, number: int) -> dict[str, IntArray]:
    """Return up to ``number`` hardest, median and best queries with a match, by average precision, ties in order."""
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


def _shown(ranking: Ranking, query: int) -> tuple[list[tuple[int, int, float]], list[tuple[int, int, float]]]:
    """Return (gallery unit, rank from 1, distance) of what was found first, and of the matches found last."""
    found = [
        (int(unit), rank, float(distance))
        for rank, (unit, distance) in enumerate(
            zip(ranking.top[query][:FOUND], ranking.top_distances[query][:FOUND], strict=True), start=1
        )
        if unit >= 0
    ]
    matches = range(ranking.starts[query], ranking.starts[query + 1])
    last = [
        (int(ranking.units[place]), int(ranking.ranks[place]) + 1, float(ranking.distances[place]))
        for place in matches[-HARDEST:]
    ]
    return found, last


def _table(split: Split, ranking: Ranking, chosen: Mapping[str, IntArray]) -> pd.DataFrame:
    quality = average_precision(ranking, "market")
    rows = []
    for kind, queries in chosen.items():
        for query in queries:
            found, last = _shown(ranking, query)
            pid = split.query.pids[query]
            first = [f"{'right' if split.gallery.pids[unit] == pid else 'wrong'} {away:.3g}" for unit, _, away in found]
            rows.append(
                {
                    "kind": kind.lower(),
                    "query": name_of(split.query, query),
                    "AP (market)": f"{100 * quality[query]:.2f}",
                    "first found": ", ".join(first),
                    "hardest matches": ", ".join(f"rank {rank:,} at {away:.3g}" for _, rank, away in last),
                }
            )
    return pd.DataFrame(rows)


def draw(title: str, split: Split, ranking: Ranking, queries: IntArray) -> Figure:
    """Return the drawing of some queries, one a row."""
    columns = 1 + FOUND + HARDEST
    figure = canvas(title, width=0.95 * columns + 0.3, height=1.72 * len(queries) + 0.3)
    grid = figure.subplots(len(queries), columns, squeeze=False)
    quality = average_precision(ranking, "market")
    for row, query in zip(grid, queries, strict=True):
        for axes in row:
            axes.set_axis_off()
        found, last = _shown(ranking, query)
        row[0].set_axis_on()
        show(row[0], split.query, query, [f"AP {100 * quality[query]:.1f} %"])
        for axes, (unit, rank, away) in [
            *zip(row[1 : 1 + FOUND], found, strict=False),
            *zip(row[1 + FOUND :], last, strict=False),
        ]:
            axes.set_axis_on()
            right = split.gallery.pids[unit] == split.query.pids[query]
            show(axes, split.gallery, unit, [f"rank {rank:,}", f"{away:.3g}"], RIGHT if right else WRONG)
    for axes, heading in zip(grid[0], ["query", "first found", "", "", "hardest matches", ""], strict=True):
        axes.set_title(plain(heading), fontsize=8, loc="left")
    return figure


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Failures]]:
    return {"failures": Failures}
