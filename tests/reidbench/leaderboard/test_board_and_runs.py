"""What a leaderboard takes of a run beside its scores, and that add, merge and check take the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reidbench.errors import DataError
from reidbench.leaderboard.board import add, merge
from reidbench.leaderboard.check_board import check
from tests.support.boards import add_all, edit_record, put, sound, tree
from tests.support.records import make_item, replace_parts

Record = dict[str, Any]


def test_a_run_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    """Texts that give the same in other words are right: defaults, an item as a value, a whole number, a file."""
    spec = 'wide(height=none, size=1.0, inner="crop(of=2)", weights=some/net.safetensors, parts=[1, 2])'
    digested = spec.replace("some/net.safetensors", f'"sha256:{"a" * 64}"')
    asked = "wide(size=1, height=none, inner=crop(of=2), weights=./some/net.safetensors, parts=[1.0, 2])"
    item = replace(make_item(asked, spec, "wide(weights=net.safetensors)"), identity=digested)
    add_all(tmp_path / "boards", [sound("2*one(margin=0.2) + two", items={"backbone": item})])
    assert check(tmp_path / "boards") == []


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        (
            lambda data: data["job"].update(loss="two"),
            "items.loss.given",
            "is 'one(margin=0.2)', but the job has 'two'",
        ),
        (lambda data: said_alike(data, "loss", "two"), "job.loss", "is 'two', but the run's loss is 'one(margin=0.2)'"),
        (lambda data: said_alike(data, "loss", "one(margin=0.3)"), "job.loss", "is 'one(margin=0.3)'"),
        (lambda data: said_alike(data, "loss", "2*one(margin=0.2)"), "job.loss", "is '2*one"),
        (lambda data: said_alike(data, "loss", "one + one"), "job.loss", "is 'one + one'"),
        (lambda data: said_alike(data, "loss", "one(margin=true)"), "job.loss", "is 'one(margin=true)'"),
        (lambda data: said_alike(data, "loss", "one(depth=2)"), "job.loss", "is 'one(depth=2)'"),
        (lambda data: said_alike(data, "loss", "[bold]"), "job.loss", "cannot be used: cannot read"),
        (lambda data: said_alike(data, "loss", "auto"), "job.loss", "is 'auto'"),
        (lambda data: said_alike(data, "rerank", "one"), "job.rerank", "is 'one', but the run's rerank is 'none'"),
        (lambda data: said_alike(data, "recipe", "slow"), "job.recipe", "is 'slow'"),
        (lambda data: data["items"]["backbone"].update(short="wide"), "items.backbone.short", "is 'wide'"),
        (
            lambda data: data["items"]["loss"].update(identity="one(margin=0.3)"),
            "items.loss.identity",
            "is 'one(margin=0.3)'",
        ),
        (lambda data: data["items"]["loss"].update(identity="one"), "items.loss.identity", "is 'one'"),
        (
            lambda data: data["intervals"].update(r1=[0.98, 0.99]),
            "intervals.r1",
            "must be [low, high] around the score",
        ),
        (lambda data: data["intervals"].update(r1=[0.1]), "intervals.r1", "must be [low, high]"),
        (lambda data: data["intervals"].update(r1=[-0.1, 1.0]), "intervals.r1", "must be [low, high]"),
        (lambda data: data["intervals"].update(r7=[0.1, 0.2]), "intervals", "must be those of map_market"),
        (lambda data: data["dataset"]["counts"].update(query_identities=1), "intervals", "must be those of none"),
        (lambda data: data["cameras"].update(cameras=[2, 1]), "cameras.cameras", "must be the rising numbers"),
        (lambda data: data["cameras"]["r1"].pop(), "cameras.r1", "must be 3 rows of 3"),
        (lambda data: data["cameras"]["r1"][0].pop(), "cameras.r1", "must be 3 rows of 3"),
        (lambda data: data["cameras"].pop("queries"), "cameras.queries", "must be 3 rows of 3"),
        (lambda data: data["cameras"]["queries"][0].__setitem__(0, -1), "cameras.queries", "must be counts of the 12"),
        (lambda data: data["cameras"]["queries"][0].__setitem__(0, 900), "cameras.queries", "must be counts of the 12"),
        (lambda data: data["cameras"]["map_market"][0].__setitem__(0, 1.5), "cameras.map_market", "cannot be 1.5"),
        (lambda data: data["cameras"]["map_market"][0].__setitem__(0, None), "cameras.map_market", "cannot be None"),
        (lambda data: data["cameras"]["r1"][0].__setitem__(0, 0.123), "cameras.r1", "cannot be 0.123 where 6 queries"),
        (lambda data: data["cameras"]["queries"][1].__setitem__(1, 0), "cameras.map_market", "where 0 queries"),
    ],
)
def test_what_a_record_says_beside_its_scores_and_ids_is_looked_at(
    tmp_path: Path, change: Callable[[Record], Any], field: str, said: str
) -> None:
    add_all(tmp_path / "boards", [sound("one(margin=0.2)")])
    file = edit_record(tmp_path / "boards", change)
    found = [finding for finding in check(tmp_path / "boards") if finding.file == file]
    assert any(finding.column == field and said in finding.text for finding in found), found
    with pytest.raises(DataError, match=re.escape(f": {field} ")):
        merge([], tmp_path / "boards")


def said_alike(data: Record, kind: str, text: str) -> None:
    data["job"][kind] = data["items"][kind]["given"] = text


def test_a_run_that_finished_a_moment_ago_by_a_faster_clock_is_taken(tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=5)
    add_all(tmp_path / "boards", [sound("one", finished=soon.isoformat())])
    assert check(tmp_path / "boards") == []


def test_merge_takes_nothing_that_check_refuses(tmp_path: Path) -> None:
    """A stand-in moved among the real, a record in another's folder, rankings of another run."""
    add_all(tmp_path / "boards", [sound("one", standin=True), sound("two", standin=True)])
    (tmp_path / "boards" / "records" / "synthetic.standin").rename(tmp_path / "boards" / "records" / "synthetic")
    (tmp_path / "boards" / "synthetic.standin.csv").rename(tmp_path / "boards" / "synthetic.csv")
    for sources, target in (([tmp_path / "boards"], tmp_path / "merged"), ([], tmp_path / "boards")):
        before = tree(target)
        with pytest.raises(DataError, match=r"standin belongs to synthetic\.standin\.csv, but the record is stored"):
            merge(sources, target)
        assert {name: content for name, content in tree(target).items() if name != ".lock"} == before
    add_all(tmp_path / "other", [sound("one")])
    home = next((tmp_path / "other").glob("records/*/*"))
    home.rename(home.with_name("000000000000"))
    with pytest.raises(DataError, match="but its folder is named 000000000000"):
        merge([tmp_path / "other"], tmp_path / "merged")
    add_all(tmp_path / "swapped", [sound("one"), sound("two")])
    one, two = (tmp_path / "swapped").glob("records/*/*/rankings.npz")
    one.write_bytes(two.read_bytes())
    with pytest.raises(DataError, match="but the rankings give"):
        merge([], tmp_path / "swapped")


def test_a_folder_in_the_place_of_a_leaderboard_is_named(
    tmp_path: Path, reidbench_main: Callable[..., tuple[int, str]]
) -> None:
    add_all(tmp_path / "boards", [sound("one")])
    (tmp_path / "boards" / "synthetic.csv").unlink()
    (tmp_path / "boards" / "synthetic.csv").mkdir()
    run, folder = str(tmp_path / "runs" / "0-one"), ("--folder", str(tmp_path / "boards"))
    for command in (("add", run), ("merge",), ("html", str(tmp_path / "site"))):
        code, said = reidbench_main("leaderboard", *command, *folder)
        assert (code, "Traceback" in said) == (2, False)
        assert "synthetic.csv: is no leaderboard" in said
    (finding,) = check(tmp_path / "boards")
    assert (finding.file.name, finding.text[:18]) == ("synthetic.csv", "is no leaderboard ")


def test_a_protocol_that_has_moved_on_is_named_wherever_its_runs_are_looked_at(tmp_path: Path) -> None:
    old = sound("one")
    old = replace_parts(old, evaluation={"version": 0})
    old = replace(old, **asdict(old.identity()))
    said = r"evaluation\.version is 0, but the protocol's version is 1"
    with pytest.raises(DataError, match=said):
        add([put(tmp_path / "old", old)], tmp_path / "boards")
    put(tmp_path / "boards" / "records" / "synthetic" / old.id[:12], old)
    assert re.search(said, "\n".join(map(str, check(tmp_path / "boards"))))
    with pytest.raises(DataError, match=said):
        merge([], tmp_path / "boards")
