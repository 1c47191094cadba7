"""The section ``failures``: which queries are chosen, what is said of them, and no picture where none is wanted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reidbench_reports.drawing import RIGHT, WRONG
from reidbench_reports.failures import choose

from reidbench.ranking.scores import average_precision
from reidbench.reports.sections import build_sections
from reidbench.runs.artifacts import RunFiles
from reidbench.runs.record import RunRecord
from tests.support.rankings import ranking_of

Ran = tuple[list[RunRecord], RunFiles]


def test_the_hardest_have_the_lowest_precision_and_queries_without_a_match_are_left_out() -> None:
    ranking = ranking_of([[0], [9], [], [3], [1], [5]])
    chosen = {kind: queries.tolist() for kind, queries in choose(ranking, 2).items()}
    assert chosen == {"Hardest": [1, 5], "Median": [5, 3], "Best": [0, 4]}
    assert [len(queries) for queries in choose(ranking, 99).values()] == [5, 5, 5]
    assert [len(queries) for queries in choose(ranking_of([[]]), 3).values()] == [0, 0, 0]


def test_rows_say_rank_and_distance_and_borders_who_is_right(ran: Ran) -> None:
    (record, _), files = ran
    (part,) = build_sections(["failures(queries=2, most=1)"], ran[0], files)
    split, ranking = files.split(record), files.ranking(record)
    (frame,) = part.tables
    assert frame["kind"].tolist() == ["hardest"] * 2 + ["median"] * 2 + ["best"] * 2
    hardest = int(np.argmin(average_precision(ranking, "market")))
    assert frame["query"][0] == split.query.images[hardest]
    last = ranking.starts[hardest + 1] - 1
    assert frame["hardest matches"][0].endswith(f"rank {ranking.ranks[last] + 1:,} at {ranking.distances[last]:.3g}")
    for figure, kind in zip(part.figures, ("Hardest", "Median", "Best"), strict=True):
        assert str(figure.get_label()).startswith(kind)
    first = part.figures[0].axes[1]
    right = split.gallery.pids[ranking.top[hardest, 0]] == split.query.pids[hardest]
    from matplotlib.colors import to_hex

    assert to_hex(first.spines["left"].get_edgecolor()) == (RIGHT if right else WRONG)
    assert first.get_xlabel() == f"rank 1\n{ranking.top_distances[hardest, 0]:.3g}"
    assert "2 runs, of which the first 1 are shown." in part.notes


def test_without_pictures_there_is_none(ran: Ran) -> None:
    (part,) = build_sections(["failures(pictures=false)"], ran[0], ran[1])
    assert part.figures == []
    assert len(part.tables) == 2


@pytest.mark.parametrize("section", ["failures", "outliers", "tsne"])
def test_other_data_are_refused_in_a_note(ran: Ran, section: str) -> None:
    records, files = ran
    other = replace(records[0], dataset=records[0].dataset | {"digest": "0" * 64})
    (part,) = build_sections([section], [other], files)
    assert part.figures == []
    assert "is other data than the run's" in part.notes[0]
    assert "--data-root" in part.notes[0]
