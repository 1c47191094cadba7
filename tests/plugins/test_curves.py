"""The section ``curves``: CMC, which runs form one curve, and the published curves beside it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reidbench_reports.curves import cumulative_match

from tests.support.parts import build_part, printed
from tests.support.rankings import ranking_of, with_rankings
from tests.support.records import digest, make_item, make_record, replace_parts

queries = st.lists(st.lists(st.integers(0, 9), max_size=3, unique=True).map(sorted), min_size=1, max_size=8)


@given(queries, st.integers(1, 12))
def test_cmc_is_the_share_of_queries_with_a_positive(ranks, most):
    expected = [sum(any(rank < k for rank in own) for own in ranks) / len(ranks) for k in range(1, most + 1)]
    np.testing.assert_allclose(cumulative_match(ranking_of(ranks), most), expected)


def test_a_line_is_the_mean_over_seeds(tmp_path):
    good = ranking_of([[0], [0], [4], [9]])
    other = ranking_of([[0], [3], [4], [9]])
    runs = [(make_record("a", 0), good), (make_record("a", 1), other), (make_record("[b]$x$"), None)]
    part = build_part("curves", [run for run, _ in runs], with_rankings(tmp_path, runs))
    (table,) = part.tables
    assert printed(table, "combination") == ["a"]
    assert printed(table, "rank-1") == ["37.50"]
    assert printed(table, "rank-5") == ["75.00"]
    (line,) = part.charts[0].series
    assert [line.y[rank - 1] for rank in (1, 5, 10)] == [37.5, 75.0, 100.0]
    assert (line.low[0], line.high[0], line.scaled) == (25.0, 50.0, True)
    assert [note for note in part.notes if "rankings.npz" in note and note.startswith("[b]$x$, seed 0: ")]


def grown(gallery, market, standin=False, loss="batch_hard"):
    given = f"market1501_500k(distractors={gallery}, distractors_seed=0)"
    return make_record(
        loss,
        items={"protocol": make_item(given)},
        dataset={"digest": digest("data", gallery), "counts": {}},
        scores={"gallery": gallery, "map_market": market},
        standin=standin,
    )


def test_runs_that_differ_in_distractors_are_one_curve(tmp_path):
    records = [grown(300, 0.1), grown(100, 0.3), grown(200, 0.2), make_record("batch_hard")]
    part = build_part("curves", records, with_rankings(tmp_path, []))
    (table,) = part.tables
    assert printed(table, "gallery") == ["100", "200", "300"]
    assert printed(table, "mAP (market)") == ["30.00", "20.00", "10.00"]
    ours = part.charts[0].series[0]
    assert (ours.x, ours.y, ours.low) == ([100, 200, 300], [30.0, 20.0, 10.0], [])


@pytest.mark.parametrize(
    "changes",
    [
        {"standin": True},
        {"evaluation": {"version": 7}},
        {"scores": grown(300, 0.1).scores | {"queries": 7}},
        {"dataset": {"train_digest": "7"}},
        {
            "items": grown(300, 0.1).items
            | {"protocol": make_item("market1501_500k(distractors=300, distractors_seed=7)")}
        },
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_runs_that_differ_in_more_are_no_curve(tmp_path, changes):
    one, two, apart = grown(100, 0.3), grown(200, 0.2), replace_parts(grown(300, 0.1), **changes)
    for order in ([one, two, apart], [apart, two, one]):
        part = build_part("curves(published=false)", order, with_rankings(tmp_path, []))
        (table,) = part.tables
        assert printed(table, "gallery") == ["100", "200"]
    part = build_part("curves", [two, apart], with_rankings(tmp_path, []))
    assert part.tables == []


def test_published_curves_are_apart_from_a_stand_ins(tmp_path):
    def drawn(standin, section="curves"):
        records = [grown(19_732, 0.6, standin), grown(119_732, 0.5, standin)]
        part = build_part(section, records, with_rankings(tmp_path, []))
        return [[line.name for line in chart.series] for chart in part.charts if chart.title.startswith("mAP")]

    (both,) = drawn(False)
    assert sum("published" in label for label in both) == 3
    own, theirs = drawn(True)
    assert not any("published" in label for label in own)
    assert sum("published" in label for label in theirs) == 3
    (alone,) = drawn(False, "curves(published=false)")
    assert len(alone) == 1


def test_beside_published_curves_a_row_has_its_deviations(tmp_path):
    records = [replace(grown(gallery, 0.6), deviations=["recipe hermans2017(p=3)"]) for gallery in (19_732, 119_732)]
    (table,) = build_part("curves", records, with_rankings(tmp_path, [])).tables
    assert set(printed(table, "differs from the paper in")) == {"recipe hermans2017(p=3); a network of ours"}


@pytest.mark.parametrize("records", [[], [make_record("a", status="failed", scores={})]])
def test_without_rankings_there_is_a_note(tmp_path, records):
    part = build_part("curves", records, with_rankings(tmp_path, []))
    assert (part.charts, part.tables) == ([], [])
    assert part.notes[-1] == "No run has rankings here."
