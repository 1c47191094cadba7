"""The section ``failures``: which queries are chosen, their rows, and no images with ``pictures=false``."""

from __future__ import annotations

import numpy as np
import pytest
from reidbench_reports.combinations import best_trained_first
from reidbench_reports.drawing import RIGHT, WRONG
from reidbench_reports.failures import choose

from reidbench.ranking.scores import average_precision
from reidbench.reports.artifacts import RunFiles
from reidbench.runs.record import RunRecord
from tests.support.parts import build_part, printed
from tests.support.rankings import ranking_of
from tests.support.records import replace_parts

Ran = tuple[list[RunRecord], RunFiles]


def test_queries_are_chosen_by_average_precision() -> None:
    ranking = ranking_of([[0], [9], [], [3], [1], [5]])
    chosen = {kind: queries.tolist() for kind, queries in choose(ranking, 2).items()}
    assert chosen == {"Hardest": [1, 5], "Median": [5, 3], "Best": [0, 4]}
    assert [len(queries) for queries in choose(ranking, 99).values()] == [5, 5, 5]
    assert [len(queries) for queries in choose(ranking_of([[]]), 3).values()] == [0, 0, 0]


def test_rows_have_ranks_and_distances_and_borders(ran: Ran) -> None:
    records, files = ran
    record = best_trained_first(records)[0]
    part = build_part("failures(queries=2, most=1)", ran[0], files)
    split, ranking = files.split(record), files.ranking(record)
    (table,) = part.tables
    assert printed(table, "kind") == ["hardest"] * 2 + ["median"] * 2 + ["best"] * 2
    hardest = int(np.argmin(average_precision(ranking, "market")))
    assert printed(table, "query")[0] == split.query.images[hardest]
    last = ranking.starts[hardest + 1] - 1
    assert printed(table, "hardest positives")[0].endswith(
        f"rank {ranking.ranks[last] + 1:,} at {ranking.distances[last]:.3g}"
    )
    for figure, kind in zip(part.figures, ("Hardest", "Median", "Best"), strict=True):
        assert str(figure.get_label()).startswith(kind)
    first = part.figures[0].axes[1]
    right = split.gallery.pids[ranking.top[hardest, 0]] == split.query.pids[hardest]
    from matplotlib.colors import to_hex

    assert to_hex(first.spines["left"].get_edgecolor()) == (RIGHT if right else WRONG)
    assert first.get_xlabel() == f"rank 1\n{ranking.top_distances[hardest, 0]:.3g}"
    assert "Shown: 1 of 2 runs (option most)." in part.notes


def test_pictures_can_be_left_out(ran: Ran) -> None:
    part = build_part("failures(pictures=false)", ran[0], ran[1])
    assert part.figures == []
    assert len(part.tables) == 1


@pytest.mark.parametrize("section", ["failures", "outliers", "tsne"])
def test_other_data_is_refused_in_a_note(ran: Ran, section: str) -> None:
    records, files = ran
    other = replace_parts(records[0], dataset={"digest": "0" * 64})
    part = build_part(section, [other], files)
    assert part.figures == []
    assert "is other data than the run's" in part.notes[0]
    assert "--data-root" in part.notes[0]
