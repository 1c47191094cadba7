"""The section ``failures``: which queries are chosen, their rows, and no images with ``pictures=false``."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reidbench_reports.combinations import best_trained_first
from reidbench_reports.failures import Failures, choose

from reidbench.errors import OptionError
from reidbench.ranking.scores import average_precision
from reidbench.reports.artifacts import RunFiles
from tests.support.parts import build_part, printed
from tests.support.rankings import ranking_of
from tests.support.records import replace_parts


def test_queries_are_chosen_by_average_precision():
    ranking = ranking_of([[0], [9], [], [3], [1], [5]])
    assert choose(ranking, 2) == {"Hardest": [1, 5], "Median": [5, 3], "Best": [0, 4]}
    assert [len(queries) for queries in choose(ranking, 99).values()] == [5, 5, 5]
    assert [len(queries) for queries in choose(ranking_of([[]]), 3).values()] == [0, 0, 0]


@pytest.mark.parametrize("top", [-1, 0, 11])
def test_top_beyond_the_stored_images_is_refused(top):
    with pytest.raises(OptionError, match="top"):
        Failures(top=top)


def test_rows_have_ranks_and_distances_and_borders(ran):
    records, files = ran
    record = best_trained_first(records)[0]
    part = build_part("failures(queries=2, top=3, most=1)", ran[0], files)
    split, ranking = files.split(record), files.ranking(record)
    (table,) = part.tables
    assert printed(table, "kind") == ["hardest"] * 2 + ["median"] * 2 + ["best"] * 2
    hardest = int(np.argmin(average_precision(ranking, "market")))
    assert printed(table, "query")[0] == split.query.images[hardest]
    last = ranking.starts[hardest + 1] - 1
    assert printed(table, "last positive at rank")[0] == f"{ranking.ranks[last] + 1:,}"
    assert [grid.title.split()[0] for grid in part.pictures] == ["Hardest", "Median", "Best"]
    row = part.pictures[0].rows[0]
    assert [(group, len(pictures)) for group, pictures in row.items()] == [
        ("query", 1), ("top-ranked", 3), ("hardest positives", 2)
    ]  # fmt: skip
    correct = split.gallery.pids[ranking.top[hardest]] == split.query.pids[hardest]
    assert [picture.correct for picture in row["top-ranked"]] == correct[:3].tolist()
    assert row["top-ranked"][0].text == f"1: {ranking.top_distances[hardest, 0]:#.3g}"
    assert row["hardest positives"][-1].text == f"{ranking.ranks[last] + 1:,}: {ranking.distances[last]:#.3g}"
    assert Image.open(io.BytesIO(row["query"][0].jpeg)).size == (64, 128)
    assert "Shown: 1 of 2 runs (option most)." in part.notes


@pytest.mark.parametrize("section", ["failures", "outliers"])
def test_real_images_are_copied_only_on_request(ran, section):
    records, files = ran
    item = replace(records[0].items["dataset"], spec="market1501")
    real = replace(records[0], items=records[0].items | {"dataset": item})
    for pictures, standin in itertools.product((False, True), repeat=2):
        other = RunFiles([(files.folder(real), real)], files.machine, pictures=pictures)
        other.split = lambda _: files.split(records[0])
        part = build_part(section, [replace(real, standin=standin)], other)
        assert bool(part.pictures) == (pictures or standin)
        assert any("licence" in note or "--pictures" in note for note in part.notes) != standin
    assert build_part(f"{section}(pictures=false)", records, files).pictures == []


@pytest.mark.parametrize("section", ["failures", "outliers", "tsne"])
def test_other_data_is_refused_in_a_note(ran, section):
    records, files = ran
    other = replace_parts(records[0], dataset={"digest": "0" * 64})
    part = build_part(section, [other], files)
    assert part.figures == []
    assert "is other data than the run's" in part.notes[0]
    assert "--data-root" in part.notes[0]
