"""Names of runs: what tells one from the others and nothing else; reasons said once."""

from __future__ import annotations

from reidbench_reports.combinations import lacking, names

from reidbench import RunRecord
from tests.support.records import make_item, make_record


def run(loss: str, **specs: str) -> RunRecord:
    return make_record(loss, items={kind: make_item(spec, spec, spec) for kind, spec in specs.items()})


def test_what_follows_from_the_rest_is_left_out() -> None:
    """A recipe and a metric that go with one loss only tell nobody more than the loss does."""
    runs = [
        run("batch_hard", backbone="tiny", recipe="quick", metric="euclidean", rerank="none"),
        run("batch_hard", backbone="lunet", recipe="quick", metric="euclidean", rerank="k"),
        run("batch_hard", backbone="lunet", recipe="quick", metric="euclidean", rerank="none"),
        run("classification", backbone="tiny", recipe="ide", metric="xqda", rerank="none"),
    ]
    assert names(runs) == ["batch_hard, tiny", "batch_hard, lunet, k", "batch_hard, lunet", "classification, tiny"]


def test_what_alone_tells_two_runs_apart_stays() -> None:
    for kind in ("protocol", "backbone", "recipe", "metric"):
        assert names([run("a", **{kind: "one"}), run("a", **{kind: "two"})]) == ["a, one", "a, two"]
    assert names([run("a"), run("b")]) == ["a", "b"]


def test_a_reason_is_said_once_with_all_whom_it_concerns() -> None:
    assert lacking([("a", "gone"), ("b", OSError("full")), ("c", "gone")]) == ["a; c: gone", "b: full"]
