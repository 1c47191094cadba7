"""The section ``table``: means over seeds, marks, the best of each column, and the notes below it."""

import dataclasses
import random
import statistics

import pytest

from tests.support.parts import build_part, headings, printed
from tests.support.records import digest, make_item, make_record


def build(records):
    return build_part("table", records)


def table_of(records):
    (table,) = build(records).tables
    return table


def first_command():
    market = {"classification": 0.3456, "none": 0.0043, "batch_hard": 0.2501}
    return [make_record(loss, scores={"map_market": value, "map_step": value + 0.01}) for loss, value in market.items()]


def test_the_untrained_network_comes_first():
    table = table_of(first_command())
    assert printed(table, "loss") == ["none (untrained)", "classification ‡", "batch_hard ‡"]
    assert printed(table, "mAP (market)") == ["0.43", "34.56", "25.01"]
    assert printed(table, "mAP (step)") == ["1.43", "35.56", "26.01"]
    assert printed(table, "train time") == ["–", "81 s", "81 s"]
    assert printed(table, "seeds") == ["1", "1", "1"]


def test_a_pretrained_network_without_training_is_named_so():
    assert printed(table_of([make_record("none", network={"pretrained": True})]), "loss") == ["none (pretrained)"]


def test_no_heading_is_map_alone():
    shown = ", ".join(headings(table_of(first_command())))
    scores = "rank-5, mINP, mAP (step)"
    assert shown == f"loss, mAP (market), rank-1, backbone, recipe, metric, {scores}, seeds, train time"


def test_a_cell_is_mean_and_sd_over_seeds_in_percent():
    draws = random.Random(0)
    values = [draws.uniform(0.1, 0.2) for _ in range(5)]
    table = table_of([make_record("a", seed, scores={"r1": value}) for seed, value in enumerate(values)])
    assert printed(table, "rank-1") == [f"{100 * statistics.mean(values):.2f} ±{100 * statistics.stdev(values):.2f}"]
    assert printed(table, "seeds") == ["5"]
    assert "mean ± standard deviation over seeds" in build([make_record("a", 0), make_record("a", 1)]).notes[0]
    assert "±" not in build([make_record("a", 0)]).notes[0]


def test_seeds_in_any_order_share_their_row():
    records = [make_record(loss, seed) for seed in (0, 1) for loss in ("b", "a")]
    assert printed(table_of(records), "loss") == ["b ‡", "a ‡"]


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_failed_run_is_named_and_never_averaged(status):
    bad = make_record("a", 1, status=status, error="because [bold]of this[/bold]", scores={"r1": 1.0})
    part = build([make_record("a", 0), bad, dataclasses.replace(bad, group=digest("alone"), id=digest("other"))])
    (table,) = part.tables
    assert printed(table, "rank-1") == ["30.00", "–"]
    assert printed(table, "seeds") == ["1 of 2", "0 of 1"]
    assert printed(table, "train time") == ["81 s", "–"]
    assert part.notes.count(f"a, seed 1: {status}: because [bold]of this[/bold]") == 2


def test_a_collapsed_run_is_starred_and_never_averaged():
    bad = make_record("a", 1, status="collapsed", error="one point", scores={"r1": 0.01})
    table = build([make_record("a", 0), bad]).tables[0]
    assert [printed(table, each) for each in ("rank-1", "seeds", "loss")] == [["30.00"], ["1 of 2"], ["a ‡*"]]
    part = build([bad])
    assert printed(part.tables[0], "rank-1") == ["1.00"]
    assert part.notes[-1] == "*a, seed 1: collapsed: one point"


def test_contradictions_in_the_data_are_named_once():
    clean = make_record("a")
    dataset = dataclasses.replace(clean.dataset, contradictions={"test_images_in_train": 1200})
    part = build([dataclasses.replace(make_record("a", seed), dataset=dataset) for seed in (0, 1)])
    (note,) = (note for note in part.notes if "1,200 test images in train" in note)
    assert "synthetic" in note
    assert not any("Contradictions" in each for each in build([clean]).notes)


def test_only_failed_runs_still_make_a_table():
    failed = dataclasses.replace(make_record("a", status="failed", error="no memory"), scores={}, seconds={})
    part = build([failed])
    assert part.notes[0] == "Protocol synthetic, version 1: no run has scores."
    assert "a, seed 0: failed: no memory" in part.notes


def test_the_best_is_bold_among_rows_of_one_track():
    def run(loss, net, market):
        return make_record(loss, items={"backbone": make_item(net)}, scores={"map_market": market})

    table = table_of([run("a", "tiny", 0.1), run("b", "tiny", 0.2), run("a", "wide", 0.25), run("c", "deep", 0.05)])
    assert sorted(row for row, key in table.best if key == "map_market") == [1]
    assert sorted(row for row, key in table.best if key == "map_step") == [0, 1]  # a tie


def test_marks_are_explained_once():
    faithful = make_record("a", faithful=True)
    assert printed(table_of([faithful]), "loss") == ["a"]
    assert len(build([faithful]).notes) == 1
    part = build([make_record("none", standin=True), make_record("b", standin=True), make_record("c", standin=True)])
    assert printed(part.tables[0], "loss") == ["none (untrained) †", "b †‡", "c †‡"]
    assert [note[0] for note in part.notes] == ["P", "B", "†", "‡"]


def test_a_short_schedule_is_explained():
    notes = build([make_record("a")]).notes
    assert notes[1] == "‡ short schedule (300 of 25,000 steps); not comparable with published numbers."
    long = make_record("a", recipe={"steps": 25_000}, deviations=["recipe quick(p=3)"])
    assert build([long]).notes[1].startswith("‡ recipe quick differs from Hermans et al. (2017); recipe quick(p=3);")
    other = make_record("a", recipe={"schedule": "milestones", "faithful_to": "Luo 2019"}, deviations=["backbone tiny"])
    assert build([other]).notes[1].startswith("‡ differs from Luo 2019: backbone tiny; not comparable")
    short = make_record("a", deviations=["recipe quick", "partial data: gallery: 2 expected, 1 found"])
    assert build([short]).notes[1].count("quick") == 0  # the steps are the reason


def test_the_protocol_is_noted_with_version_and_counts():
    record = make_record("a", scores={"queries": 3368, "gallery": 19732, "unmatched": 2})
    assert build([record]).notes[0] == (
        "Protocol synthetic, version 1: 3,368 queries × 19,732 gallery items, 2 unmatched; scores in percent."
    )


def test_rows_of_one_protocol_and_dataset_are_together():
    other = make_record("a", items={"protocol": make_item("market1501")})
    data = make_record("a", dataset={"digest": digest("other data")})
    part = build([make_record("a"), other, data, make_record("b")])
    (table,) = part.tables
    assert printed(table, "loss") == ["a ‡", "b ‡", "a ‡", "a ‡"]
    assert printed(table, "protocol") == ["synthetic", "synthetic", "market1501", "synthetic"]
    assert [note.split(",")[0] for note in part.notes[:3]] == [
        f"Protocol {name}" for name in printed(table, "protocol")[1:]
    ]
    assert "protocol" not in headings(table_of([make_record("a"), make_record("b")]))


def test_the_best_is_bold_within_a_protocol():
    other = {"protocol": make_item("market1501")}
    low = [make_record(loss, scores={"r1": r1}) for loss, r1 in (("a", 0.1), ("b", 0.2))]
    high = [make_record(loss, scores={"r1": r1}, items=other) for loss, r1 in (("a", 0.9), ("b", 0.8))]
    assert sorted(row for row, key in table_of([*low, *high]).best if key == "r1") == [1, 2]


def test_one_seed_shows_its_interval_several_their_sd():
    between = {"map_market": [0.251, 0.3849]}
    assert printed(table_of([make_record("a", intervals=between)]), "95 %") == ["25.1–38.5"]
    both = [make_record("a", seed, intervals=between) for seed in (0, 1)]
    assert printed(table_of([*both, make_record("b", intervals=between)]), "95 %") == ["", "25.1–38.5"]
    assert "95 %" not in headings(table_of([make_record("a")]))


def test_reranking_has_a_column_where_it_was_used():
    reranked = make_record("a", items={"rerank": make_item("k_reciprocal(k1=20)", short="k_reciprocal")})
    assert "rerank" not in headings(table_of([make_record("a")]))
    assert printed(table_of([make_record("a"), reranked]), "rerank") == ["none", "k_reciprocal"]


def test_of_two_runs_with_one_id_the_newer_counts():
    old = make_record("a", scores={"r1": 0.1}, finished="2026-11-20T10:00:00+00:00", code=digest("old"))
    part = build([make_record("a"), old])
    assert printed(part.tables[0], "rank-1") == ["30.00"]
    assert part.notes[-1] == "Earlier runs of the same combination and seed, left out: 1."
    assert build([make_record("a"), make_record("a")]).notes[1:] == build([make_record("a")]).notes[1:]


def test_a_scored_run_counts_before_a_newer_failed_one():
    failed = make_record("a", status="failed", scores={}, finished="2027-01-01T00:00:00+00:00", code=digest("new"))
    assert printed(table_of([make_record("a"), failed]), "rank-1") == ["30.00"]
    assert printed(table_of([failed, make_record("a")]), "rank-1") == ["30.00"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(9.4, "9 s"), (99.4, "99 s"), (150.0, "2 min"), (5000.0, "83 min"), (36_000.0, "10.0 h")]
)
def test_times_are_readable(seconds, said):
    assert printed(table_of([make_record("a", seconds={"train": seconds, "embed": 1.0})]), "train time") == [said]


def test_chart_has_seeds_as_dots_and_intervals():
    settings = {"intervals": {"map_market": (0.3, 0.5)}, "dataset": {"counts": {"query_identities": 20}}}
    several = [make_record("b", seed, scores={"map_market": 0.4 + seed / 100}, **settings) for seed in range(3)]
    records = [make_record("none"), make_record("a", scores={"map_market": 0.3}, **settings), *several]
    (chart,) = build_part("table", records).charts
    best, other = chart.series
    assert (best.name, best.labels) == ("b", ["seed 0", "seed 1", "seed 2"])
    assert (best.x, other.x) == (pytest.approx([40.0, 41.0, 42.0]), pytest.approx([30.0]))
    assert (other.low, other.high) == ([30.0], [50.0])
    assert best.high[0] - best.low[0] > 20  # wider than over identities alone
