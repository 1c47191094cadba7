"""The hardest queries as in the paper's Figure 4, and for comparison median and best ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from reidbench import (
    Column,
    IntArray,
    Part,
    Picture,
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
from reidbench_reports.drawing import allows_pictures, name_of, picture

TOP, HARDEST = 5, 2
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
        pictures: whether to show the images; without, the report holds no image of a person.
        most: how many runs are shown, the trained ones with the highest primary score first.
    """

    def __init__(self, *, queries: int = 4, pictures: bool = True, most: int = 1) -> None:
        self.queries = queries
        self.pictures = pictures
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: a table, and the pictures of each kind of query for each run."""
        part = Part(title="Retrieval examples")

        def add(record: RunRecord, name: str) -> None:
            split, ranking = files.split(record), files.ranking(record)
            chosen = choose(ranking, self.queries)
            part.tables.append(Table(list(_rows(split, ranking, chosen)), COLUMNS, f"Positives of queries: {name}"))
            if self.pictures and allows_pictures(record, files, part):
                part.pictures.extend(
                    PictureGrid(f"{kind} queries: {name}", list(_pictures(split, ranking, queries)))
                    for kind, queries in chosen.items()
                    if len(queries)
                )

        add_runs(part, best_trained_first(records), self.most, add)
        if part.pictures:
            part.notes.append(
                f"The query, its {TOP} top-ranked images, and its {HARDEST} hardest positives (those ranked last), "
                "with rank and distance. ✓ and a solid border: correct match; ✗ and a dashed one: wrong match."
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


def _pictures(split: Split, ranking: Ranking, queries: IntArray) -> Iterator[dict[str, list[Picture]]]:
    """Yield the pictures of each query."""
    quality = average_precision(ranking, "market")

    def match(query: int, unit: int, rank: int, distance: float) -> Picture:
        correct = bool(split.gallery.pids[unit] == split.query.pids[query])
        return picture(split.gallery, unit, f"{rank + 1:,}: {distance:#.3g}", correct)

    for query in queries.tolist():
        hardest = range(ranking.starts[query], ranking.starts[query + 1])[-HARDEST:]
        top = [place for place, unit in enumerate(ranking.top[query][:TOP]) if unit >= 0]
        yield {
            "query": [picture(split.query, query, f"AP {100 * quality[query]:.1f} %")],
            "top-ranked": [
                match(query, int(ranking.top[query, place]), place, ranking.top_distances[query, place])
                for place in top
            ],
            "hardest positives": [
                match(query, int(ranking.units[place]), int(ranking.ranks[place]), ranking.distances[place])
                for place in hardest
            ],
        }


def _rows(split: Split, ranking: Ranking, chosen: Mapping[str, IntArray]) -> Iterator[dict[str, object]]:
    quality = average_precision(ranking, "market")
    for kind, queries in chosen.items():
        for query in queries:
            ranks = ranking.ranks[ranking.starts[query] : ranking.starts[query + 1]]
            yield {
                "kind": kind.lower(),
                "query": name_of(split.query, query),
                "ap_market": float(quality[query]),
                "first": int(ranks[0]) + 1,
                "last": int(ranks[-1]) + 1,
            }


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Failures]]:
    return {"failures": Failures}
