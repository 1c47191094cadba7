"""The section ``cost``: a shared training counts once."""

import itertools
from dataclasses import replace

from tests.support.parts import build_part, printed
from tests.support.records import make_record, replace_parts


def test_a_shared_training_counts_once():
    first = make_record(
        "a",
        seconds={"train": 3600.0, "rounds": 360.0, "embed": 36.0, "rank": 36.0},
        recipe={"steps": 100, "p": 18, "k": 4},
        dataset={"digest": "d", "counts": {"query": 100, "gallery": 260}},
    )
    second = replace(first, id="2", group="2")
    failed = make_record("b", status="failed", seconds={}, scores={})
    part = build_part("cost", [first, second, failed])
    training, scoring = part.tables
    assert printed(training, "train, s") == ["3,600.0"]
    assert printed(training, "sampling, %") == ["10"]
    assert printed(training, "images/s") == ["2"]
    assert printed(scoring, "images/s") == ["10", "10"]
    assert part.notes == ["cpu: 2 runs, 1 training, 1.03 h in total."]


def test_shared_time_counts_at_its_longest_in_any_order():
    """Three of one training: two of one view, of which one embedded more; the third of another view."""
    base = make_record("a", seconds={"train": 3600.0, "embed": 36.0, "rank": 0.0}, recipe={"steps": 10, "p": 2, "k": 2})
    more = replace_parts(base, id="2", seconds={**base.seconds, "embed": 360.0}, dataset={"digest": "more"})
    later = replace(base, id="3", seconds={**base.seconds, "train": 7200.0}, peak_memory_mib=9_000)
    views = replace_parts(base, id="4", evaluation={"views": "five_crops"})
    parts = [build_part("cost", order) for order in itertools.permutations([base, more, later, views])]
    assert {part.notes[0] for part in parts} == {"cpu: 4 runs, 1 training, 2.11 h in total."}
    assert {str(part.tables[0].cells()) for part in parts} == {str(parts[0].tables[0].cells())}
    assert printed(parts[0].tables[0], "train, s") == ["7,200.0"]
    assert printed(parts[0].tables[0], "peak memory, MiB") == ["700"]


def test_without_scored_runs_there_is_a_note():
    part = build_part("cost", [])
    assert part.notes == ["No run has scores."]
