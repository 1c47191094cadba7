"""Names of runs hold what distinguishes them and nothing else; runs that share a reason share a note."""

from reidbench_reports.combinations import add_runs, names

from reidbench import DataError, Part, RunRecord
from tests.support.records import make_item, make_record


def run(loss: str, **specs: str) -> RunRecord:
    return make_record(loss, items={kind: make_item(spec, spec, spec) for kind, spec in specs.items()})


def test_items_that_follow_from_the_rest_are_left_out():
    """A recipe and a metric used with one loss only add nothing to the loss."""
    runs = [
        run("batch_hard", backbone="tiny", recipe="quick", metric="euclidean", rerank="none"),
        run("batch_hard", backbone="lunet", recipe="quick", metric="euclidean", rerank="k"),
        run("batch_hard", backbone="lunet", recipe="quick", metric="euclidean", rerank="none"),
        run("classification", backbone="tiny", recipe="ide", metric="xqda", rerank="none"),
    ]
    assert names(runs) == ["batch_hard, tiny", "batch_hard, lunet, k", "batch_hard, lunet", "classification, tiny"]


def test_the_one_difference_between_two_runs_is_named():
    for kind in ("protocol", "backbone", "recipe", "metric"):
        assert names([run("a", **{kind: "one"}), run("a", **{kind: "two"})]) == ["a, one", "a, two"]
    assert names([run("a"), run("b")]) == ["a", "b"]


def test_runs_with_one_reason_share_one_note():
    part = Part("x")
    shown: list[str] = []

    def add(record, name):
        if name in "abc":
            raise DataError("full" if name == "b" else "gone")
        shown.append(name)

    add_runs(part, [run(name) for name in "abcdef"], 2, add)
    assert shown == ["d", "e"]
    assert part.notes == ["Shown: 2 of 6 runs (option most).", "a; c: gone", "b: full"]
