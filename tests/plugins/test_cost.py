"""The section ``cost``: what is shared counts once."""

from __future__ import annotations

import itertools
from dataclasses import replace

from reidbench.reports.sections import build_sections
from reidbench.runs.artifacts import RunFiles
from reidbench.utils.machine import local_machine
from tests.support.records import make_record, replace_parts


def test_a_shared_training_counts_once() -> None:
    first = make_record(
        "a",
        seconds={"train": 3600.0, "rounds": 360.0, "embed": 36.0, "rank": 36.0},
        recipe={"steps": 100, "p": 18, "k": 4},
        dataset={"digest": "d", "counts": {"query": 100, "gallery": 260}},
    )
    second = replace(first, id="2", group="2")
    failed = make_record("b", status="failed", seconds={}, scores={})
    (part,) = build_sections(["cost"], [first, second, failed], RunFiles([], local_machine()))
    training, scoring = part.tables
    assert training["s"].tolist() == ["3,600.0"]
    assert training["drawing, %"].tolist() == ["10"]
    assert training["images/s"].tolist() == ["2"]
    assert scoring["images/s"].tolist() == ["10", "10"]
    assert part.notes == ["cpu: 2 runs, 1 trainings, 1.03 hours together."]


def test_what_runs_share_counts_at_its_most_whatever_their_order() -> None:
    """Three of one training: two of one view, of which one embedded more; the third of another view."""
    base = make_record("a", seconds={"train": 3600.0, "embed": 36.0, "rank": 0.0}, recipe={"steps": 10, "p": 2, "k": 2})
    more = replace_parts(base, id="2", seconds={**base.seconds, "embed": 360.0}, dataset={"digest": "more"})
    later = replace(base, id="3", seconds={**base.seconds, "train": 7200.0}, peak_memory_mib=9_000)
    views = replace_parts(base, id="4", evaluation={"views": "five_crops"})
    parts = [
        build_sections(["cost"], order, RunFiles([], local_machine()))[0]
        for order in itertools.permutations([base, more, later, views])
    ]
    assert {part.notes[0] for part in parts} == {"cpu: 4 runs, 1 trainings, 2.11 hours together."}
    assert {tuple(part.tables[0].iloc[0]) for part in parts} == {tuple(parts[0].tables[0].iloc[0])}
    assert parts[0].tables[0]["s"].tolist() == ["7,200.0"]
    assert parts[0].tables[0]["peak, MiB"].tolist() == ["700"]


def test_nothing_that_was_scored_costs_nothing() -> None:
    (part,) = build_sections(["cost"], [], RunFiles([], local_machine()))
    assert part.notes == ["No run came to its scores."]
