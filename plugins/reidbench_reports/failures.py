"""The hardest queries as in the paper's Figure 4, and for comparison median and best ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from reidbench import (
    Column,
    OptionError,
    Part,
    PictureGrid,
    Ranking,
    RunFiles,
    RunRecord,
    Split,
    Table,
    average_precision,
    hookimpl,
)
from reidbench_reports.combinations import add_runs, best_trained_first, percent_column
from reidbench_reports.drawing import Picture, PictureRow, allows_pictures, name_of, picture

HARDEST = 2
MOST_TOP = 10  # as many as rankings hold
COLUMNS = [
    Column("kind"),
    Column("query"),
    percent_column("ap_market", "AP (market), %"),
    Column("first", "first positive at rank", "number", ",d"),
    Column("last", "last positive at rank", "number", ",d"),
]


class Failures:
    """Queries with their top-ranked images and hardest positives: the hardest queries, median and best ones.

    Options:
        queries: how many of each kind.
        top: how many top-ranked images of each, up to 10.
        pictures: whether to show the images; without, the report holds no image of a person.
        most: how many runs are shown, the trained ones with the highest primary score first.
    """

    def __init__(self, *, queries: int = 4, top: int = 5, pictures: bool = True, most: int = 1) -> None:
        if not 0 < top <= MOST_TOP:
            raise OptionError(f"failures: top: expected 1 to {MOST_TOP}, got {top}")
        self.queries = queries
        self.top = top
        self.pictures = pictures
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: a table, and the pictures of each kind of query for each run."""
        part = Part(title="Retrieval examples")

        def add(record: RunRecord, name: str) -> None:
            split, ranking = files.split(record), files.ranking(record)
            chosen, quality = choose(ranking, self.queries), average_precision(ranking, "market")
            shown = [(kind, query) for kind, queries in chosen.items() for query in queries]
            rows = [{"kind": kind.lower()} | _row(split, ranking, query, quality[query]) for kind, query in shown]
            part.tables.append(Table(rows, COLUMNS, f"Positives of queries: {name}"))
            if self.pictures and allows_pictures(record, files, part):
                for kind in (kind for kind, queries in chosen.items() if queries):
                    grid = [_pictures(split, ranking, query, quality[query], self.top) for query in chosen[kind]]
                    part.pictures.append(PictureGrid(f"{kind} queries: {name}", grid))

        add_runs(part, best_trained_first(records), self.most, add)
        if part.pictures:
            part.notes.append(
                f"The query, its {self.top} top-ranked images, and its {HARDEST} hardest positives (those ranked "
                "last), with rank and distance. ✓ and a solid border: correct match; ✗ and a dashed one: wrong match."
            )
        return part


def choose(ranking: Ranking, number: int) -> dict[str, list[int]]:
    """Return up to ``number`` hardest, median and best queries with a positive, by average precision, ties in order."""
    quality = average_precision(ranking, "market")
    matched = np.flatnonzero(np.diff(ranking.starts) > 0)
    order = matched[np.argsort(quality[matched], kind="stable")].tolist()
    number = min(number, len(order))
    middle = (len(order) - number) // 2
    kinds = order[:number], order[middle : middle + number], order[len(order) - number :][::-1]
    return dict(zip(("Hardest", "Median", "Best"), kinds, strict=True))


def _pictures(split: Split, ranking: Ranking, query: int, quality: float, top: int) -> PictureRow:
    """Return the pictures of a query, of its top-ranked units and of its hardest positives."""

    def match(unit: int, rank: int, distance: float) -> Picture:
        correct = bool(split.gallery.pids[unit] == split.query.pids[query])
        return picture(split.gallery, int(unit), f"{rank + 1:,}: {distance:#.3g}", correct)

    units, distances = ranking.top[query][:top], ranking.top_distances[query]
    hardest = range(ranking.starts[query], ranking.starts[query + 1])[-HARDEST:]
    return {
        "query": [picture(split.query, query, f"AP {100 * quality:.1f} %")],
        "top-ranked": [match(unit, rank, distances[rank]) for rank, unit in enumerate(units) if unit >= 0],
        "hardest positives": [match(ranking.units[at], ranking.ranks[at], ranking.distances[at]) for at in hardest],
    }


def _row(split: Split, ranking: Ranking, query: int, quality: float) -> dict[str, object]:
    ranks = ranking.ranks[ranking.starts[query] : ranking.starts[query + 1]]
    row = {"query": name_of(split.query, query), "ap_market": float(quality)}
    return row | {"first": int(ranks[0]) + 1, "last": int(ranks[-1]) + 1}


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Failures]]:
    return {"failures": Failures}
