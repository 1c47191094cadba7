"""The leaderboard: rows follow from records alone, byte for byte, and nothing unsound gets in."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
import re
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reidbench.errors import DataError
from reidbench.leaderboard.board import add
from reidbench.leaderboard.rows import columns
from reidbench.runs.job import Job
from reidbench.runs.record import CameraMatrix, RunRecord
from reidbench.runs.store import Store
from tests.support.boards import add_all, put, ranking_for, rows_of, sound, tree
from tests.support.paths import CHECKOUT
from tests.support.records import COUNTS, digest, make_item, replace_parts


def three_by_two() -> list[RunRecord]:
    return [
        sound(
            loss,
            seed,
            environment={"device_name": f"GPU {9 - seed}"},
            deviations=[f"seen in seed {seed}"],
        )
        for loss in ("batch_hard(margin=0.2)", "classification", "none")
        for seed in (0, 1)
    ]


def test_the_columns_are_the_documented_ones() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (CHECKOUT / "docs" / "leaderboards.md").read_text(), re.MULTILINE)
    assert tuple(rows) == columns()


def test_a_row_says_what_was_run_and_how_it_scored(tmp_path: Path) -> None:
    seeds = [sound("batch_hard(margin=0.2, distance=cosine)", seed) for seed in range(3)]

    def mean(score: str) -> str:
        return f"{statistics.mean(seed.scores[score] for seed in seeds):.6f}"

    def sd(score: str) -> str:
        return f"{statistics.stdev(seed.scores[score] for seed in seeds):.6f}"

    added = add_all(tmp_path / "boards", seeds)
    assert (added.added, added.changed, added.unchanged) == (1, 0, 0)
    (row,) = rows_of(tmp_path / "boards")
    assert list(row) == list(columns())
    assert row == {
        "schema": "1",
        "dataset": "synthetic",
        "protocol": "synthetic@1",
        "track": "backbone=tiny recipe=quick metric=auto rerank=none",
        "loss": "batch_hard",
        "loss_params": "margin=0.2, distance=cosine",
        "backbone": "tiny",
        "weights": "",
        "head": "",
        "embedding_dim": "128",
        "test_metric": "euclidean",
        "pool": "mean",
        "normalize": "false",
        "tta": "full",
        "rerank": "none",
        "metric_learner": "",
        "map_market": mean("map_market"),
        "map_market_sd": sd("map_market"),
        "map_step": mean("map_step"),
        "r1": mean("r1"),
        "r1_sd": sd("r1"),
        "r5": mean("r5"),
        "r10": mean("r10"),
        "r20": mean("r20"),
        "minp": mean("minp"),
        "n_seeds": "3",
        "iterations": "300",
        "params_m": "1.234567",
        "train_s": "81.25",
        "extract_s": "3.50",
        "gpu": "cpu",
        "reidbench": "0.1.0",
        "plugin_dist": "reidbench",
        "plugin_version": "0.1.0",
        "commit": "00e1234000000000000000000000000000000000",
        "dirty": "false",
        "data_fingerprint": digest("data")[:16],
        "config_hash": seeds[0].group,
        "tier": "self-reported",
        "faithful": "false",
        "trained_on": "synthetic",
        "source": "reidbench",
        "date": "2026-11-22",
        "notes": "",
    }


def test_sums_learned_metrics_weights_and_heads_have_their_columns(tmp_path: Path) -> None:
    items = {
        "protocol": make_item(
            "synthetic(difficulty=2)", "synthetic(identities=500, difficulty=2)", "synthetic(difficulty=2)"
        ),
        "backbone": make_item("deep", "deep(weights=none, head=fc1024, height=256)", "deep(height=256)"),
        "metric": make_item("xqda", "xqda(lam=0.001)", "xqda"),
        "rerank": make_item("k_reciprocal", "k_reciprocal(k1=20, k2=6, lam=0.3)", "k_reciprocal"),
    }
    record = sound("batch_hard(margin=0.2) + 0.5*classification(smoothing=0)", items=items)
    learned = {"learned": True, "normalize": True, "metric_is_auto": False}
    record = replace_parts(record, evaluation=learned, deviations=["recipe quick(steps=300)", "own crop"])
    add_all(tmp_path / "boards", [record])
    (row,) = rows_of(tmp_path / "boards")
    assert row["track"] == (
        "protocol=synthetic(difficulty=2) backbone=deep(height=256) recipe=quick metric=xqda rerank=k_reciprocal"
    )
    assert (row["loss"], row["loss_params"]) == ("batch_hard + 0.5*classification", "margin=0.2 + smoothing=0")
    assert (row["backbone"], row["weights"], row["head"]) == ("deep", "none", "fc1024")
    assert (row["test_metric"], row["metric_learner"], row["normalize"]) == ("xqda", "xqda", "true")
    assert row["rerank"] == "k_reciprocal(k1=20, k2=6, lam=0.3)"
    assert row["notes"] == "recipe quick(steps=300); own crop"
    assert (row["map_market_sd"], row["r1_sd"], row["n_seeds"]) == ("", "", "1")


def test_what_differs_between_seeds_is_joined_in_their_order_and_the_last_to_finish_dates_the_row(
    tmp_path: Path,
) -> None:
    days = ["2026-11-21T10:00:00+00:00", "2026-11-23T00:10:00+02:00", "2026-11-20T10:00:00+00:00"]
    seeds = [
        sound(
            "a",
            seed,
            started=f"2026-11-0{seed + 1}T10:00:00+00:00",
            finished=day,
            commit=f"{seed}" * 40,
            faithful=not said,
            deviations=said,
        )
        for seed, (day, said) in enumerate(zip(days, [["p=3", "seed 0"], [], ["p=3", "seed 2"]], strict=True))
    ]
    add_all(tmp_path / "boards", seeds[::-1])
    (row,) = rows_of(tmp_path / "boards")
    assert (row["date"], row["commit"]) == ("2026-11-22", "1" * 40)
    assert row["notes"] == "p=3; seed 0; seed 2"
    assert row["faithful"] == "false"


def test_the_untrained_network_has_a_row_without_options(tmp_path: Path) -> None:
    add_all(tmp_path / "boards", [sound("none")])
    (row,) = rows_of(tmp_path / "boards")
    assert (row["loss"], row["loss_params"], row["plugin_dist"], row["train_s"]) == ("none", "", "", "0.00")


def test_the_same_records_give_the_same_bytes_in_any_order_of_adding(tmp_path: Path) -> None:
    records = three_by_two()
    trees = []
    for number, order in enumerate([records, records[::-1], [*records[3:], *records[:3]]]):
        boards = tmp_path / str(number) / "boards"
        if number:
            for record in order:
                add_all(boards, [record])
        else:
            add_all(boards, order)
        trees.append(tree(boards))
    assert trees[0] == trees[1] == trees[2]
    assert sorted(trees[0]) == sorted(
        ["synthetic.csv"]
        + [f"records/synthetic/{r.id[:12]}/{name}" for r in records for name in ("record.json", "rankings.npz")]
    )
    content = trees[0]["synthetic.csv"]
    assert b"\r" not in content
    assert content.endswith(b"\n")
    rows = rows_of(tmp_path / "0" / "boards")
    assert [row["loss"] for row in rows] == ["batch_hard", "classification", "none"]


def test_rows_are_sorted_by_track_loss_options_and_hash(tmp_path: Path) -> None:
    records = [
        sound(
            loss,
            items={"backbone": make_item(net)},
            dataset={"digest": digest(data), "train_digest": digest("t"), "counts": COUNTS},
        )
        for loss, net, data in itertools.product(("a(x=2)", "a(x=1)", "b", "a"), ("wide", "tiny"), ("one", "two"))
    ]
    add_all(tmp_path / "boards", records)
    rows = rows_of(tmp_path / "boards")
    keys = [(row["track"], row["loss"], row["loss_params"], row["config_hash"]) for row in rows]
    assert keys == sorted(keys)
    assert len(rows) == 16


def test_a_seed_that_comes_later_recomputes_its_row_and_no_other(tmp_path: Path) -> None:
    boards, records = tmp_path / "boards", three_by_two()
    add_all(boards, [record for record in records if record.job.seed == 0])
    before = rows_of(boards)
    added = add_all(boards, [records[1]])
    assert (added.added, added.changed, added.unchanged) == (0, 1, 2)
    after = rows_of(boards)
    assert after[1:] == before[1:]
    scores = [record.scores["map_market"] for record in records[:2]]
    assert float(after[0]["map_market"]) == pytest.approx(statistics.mean(scores), abs=5e-7)
    assert float(after[0]["map_market_sd"]) == pytest.approx(statistics.stdev(scores), abs=5e-7)


def test_adding_again_writes_nothing(tmp_path: Path) -> None:
    boards = tmp_path / "boards"
    add_all(boards, three_by_two())
    times = {file: file.stat().st_mtime_ns for file in boards.rglob("*") if file.is_file()}
    again = add_all(boards, three_by_two())
    assert (again.files, again.added, again.changed, again.unchanged) == ((), 0, 0, 3)
    assert str(again) == "rows: 0 added, 0 changed, 3 unchanged"
    # what is kept already can itself be named, as after a clone
    assert add(Store(Path()).records([boards]), boards).files == ()
    assert {file: file.stat().st_mtime_ns for file in boards.rglob("*") if file.is_file()} == times


def test_the_csv_is_made_again_from_the_kept_records(tmp_path: Path) -> None:
    boards = tmp_path / "boards"
    add_all(boards, three_by_two())
    whole = (boards / "synthetic.csv").read_bytes()
    (boards / "synthetic.csv").unlink()
    assert add_all(boards, three_by_two()[:1]).files == (boards / "synthetic.csv",)
    assert (boards / "synthetic.csv").read_bytes() == whole


def test_rankings_are_kept_beside_the_record(tmp_path: Path) -> None:
    boards, record = tmp_path / "boards", sound()
    folder, _ = put(tmp_path / "run", record)
    add([(folder, record)], boards)
    kept = boards / "records" / "synthetic" / record.id[:12]
    assert (kept / "rankings.npz").read_bytes() == (folder / "rankings.npz").read_bytes()


def test_a_record_without_rankings_is_refused(tmp_path: Path) -> None:
    folder, record = put(tmp_path / "run", sound())
    (folder / "rankings.npz").unlink()
    with pytest.raises(DataError, match=r"run/rankings\.npz: is missing"):
        add([(folder, record)], tmp_path / "boards")


def test_rankings_that_are_none_are_refused(tmp_path: Path) -> None:
    folder, record = put(tmp_path / "run", sound())
    for content in (b"", b"PK\x03\x04", pickle.dumps([1])):
        (folder / "rankings.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"run/rankings\.npz: cannot be read"):
            add([(folder, record)], tmp_path / "boards")
    np.savez(folder / "rankings.npz", **{**vars(ranking_for(record.job)), "units": np.array([object()])})
    with pytest.raises(DataError, match=r"units holds pickled objects"):
        add([(folder, record)], tmp_path / "boards")
    arrays = dict(vars(ranking_for(record.job)))
    np.savez(folder / "rankings.npz", **{**arrays, "ranks": arrays["ranks"].astype(np.float32)})
    with pytest.raises(DataError, match=r"ranks must be int64 \[n\], got float32"):
        add([(folder, record)], tmp_path / "boards")


@pytest.mark.parametrize("score", ["map_market", "map_step", "r1", "minp", "queries", "unmatched"])
def test_a_score_that_does_not_follow_from_the_rankings_is_refused(tmp_path: Path, score: str) -> None:
    away = {"queries": 1.0, "unmatched": 1.0, "map_step": 1e-6}.get(score, -1e-6)
    with pytest.raises(
        DataError, match=rf"runs/0-batch_hard/record\.json:[0-9]+: scores\.{score} is .* but the rankings give"
    ):
        add_all(tmp_path / "boards", [sound(scores={score: sound().scores[score] + away})])


def test_stand_ins_have_a_board_of_their_own(tmp_path: Path) -> None:
    boards = tmp_path / "boards"
    add_all(boards, [sound("a", standin=True), sound("b")])
    assert [row["loss"] for row in rows_of(boards, "synthetic.standin")] == ["a"]
    assert [row["loss"] for row in rows_of(boards)] == ["b"]
    assert {path.name for path in (boards / "records").iterdir()} == {"synthetic", "synthetic.standin"}


def test_a_third_partys_protocol_is_one_file_below_the_folder(tmp_path: Path) -> None:
    add_all(tmp_path / "boards", [sound(items={"protocol": make_item("acme/market")})])
    assert [path.name for path in (tmp_path / "boards").glob("*.csv")] == ["acme-market.csv"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"status": "failed", "error": "loss is nan at step 7"},
            r"status is failed, expected ok: loss is nan at step 7",
        ),
        ({"status": "interrupted"}, r"status is interrupted, expected ok: no reason given"),
        ({"status": "collapsed", "error": "one point"}, r"status is collapsed, expected ok: one point"),
        ({"dirty": True}, r"dirty is true: made with uncommitted changes; .*--allow-dirty"),
        ({"id": "../../../../etc/passwd"}, r"id is '\.\./\.\./\.\./\.\./', but the options, data and seed give"),
        ({"group": "A" * 64}, r"group is 'A{12}', but the options"),
        ({"dataset": {"digest": "../x"}}, r"dataset\.digest must be 64 hex digits, got '\.\./x'"),
        ({"seconds": {"train": -1.0}}, r"seconds\.train must be 0 or more, got -1\.0(.|\n)*seconds\.embed .*got None"),
        ({"finished": "yesterday"}, r"finished must be a date"),
        ({"finished": "2026-11-22T10:00:00"}, r"finished must be a date and time with its offset from UTC"),
        ({"scores": {"map_market": 1.5}}, r"scores\.map_market must be from 0 to 1, got 1\.5"),
        ({"scores": {"minp": -0.1}}, r"scores\.minp must be from 0 to 1"),
        ({"scores": {"r1": 0.9, "r5": 0.8}}, r"scores\.r1 is 0\.9, but the rankings give"),
        ({"scores": {"r20": 0.9}}, r"scores\.r20 is 0\.9, but the rankings give"),
        ({"scores": {"map_step": 0.1}}, r"intervals\.map_step must be \[low, high\] around the score"),
        ({"items": {"loss": make_item("bad", "a(")}}, r"items\.loss\.spec cannot be used: cannot read"),
        ({"items": {"protocol": make_item("../../x")}}, r"items\.protocol\.spec cannot be used: cannot read"),
        ({"items": {"backbone": make_item("a + b")}}, r"items\.backbone\.spec cannot be used: expected a single item"),
        ({"environment": {"device_name": "=1+1"}}, r"gpu begins with '='"),
        ({"environment": {"reidbench": "@SUM(A1)"}}, r"reidbench begins with '@'"),
        ({"commit": "-1"}, r"commit must be 40 hex digits, or empty outside of a checkout, got '-1'"),
        ({"commit": "00e1234"}, r"commit must be 40 hex digits"),
        ({"deviations": ["+1"]}, r"notes begins with '\+'"),
        ({"deviations": ["a\tb"]}, r"notes holds unprintable characters"),
        ({"environment": {"device_name": "\r=1"}}, r"gpu holds unprintable characters"),
        ({"deviations": ["abc\u202edcba"]}, r"notes holds unprintable characters"),
        ({"finished": "2999-01-01T00:00:00+00:00"}, r"finished is 2999-\S+, which lies in the future"),
        ({"started": "2026-11-22T11:00:00+00:00"}, r"started is 2026-11-22T11:\S+, after the run finished"),
        (
            {"job": Job("synthetic", "bad", "tiny", "auto", "auto", "none", -1)},
            r"job\.seed must be a whole number from 0",
        ),
        ({"started": ""}, r"started must be a date and time"),
        ({"intervals": {}}, r"intervals must be those of map_market, map_step, minp, r1, got none"),
        ({"dataset": {"digest": digest("x"), "train_digest": digest("y"), "counts": {}}}, r"dataset\.counts\.query_id"),
        ({"cameras": CameraMatrix()}, r"cameras\.cameras must be the rising numbers"),
    ],
)
def test_what_is_not_sound_is_refused_with_its_reason_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    boards, fine = tmp_path / "boards", sound("fine")
    with pytest.raises(DataError, match=rf"^nothing was added:\n(.|\n)*runs/1-bad(/record\.json:[0-9]+)?: {said}"):
        add_all(boards, [fine, sound("bad", **changes)])
    assert tree(boards) == {}


def test_every_reason_is_given_at_once(tmp_path: Path) -> None:
    bad = [
        sound("a", status="failed", error="no"),
        sound("b", dirty=True, scores={"r5": 2.0}),
        sound("c"),
    ]
    with pytest.raises(DataError) as caught:
        add_all(tmp_path / "boards", [*bad, dataclasses.replace(bad[2], seconds={"train": 1.0, "embed": 1.0})])
    assert len(str(caught.value).splitlines()) == 1 + 4


def test_dirty_runs_are_taken_when_allowed_and_marked_for_good(tmp_path: Path) -> None:
    boards = tmp_path / "boards"
    add_all(boards, [sound(seed=0, dirty=True)], allow_dirty=True)
    add_all(boards, [sound(seed=1)])
    assert [(row["dirty"], row["n_seeds"]) for row in rows_of(boards)] == [("true", "2")]


@pytest.mark.parametrize("where", ["kept", "given together"])
def test_one_id_with_two_contents_is_refused_and_both_are_named(tmp_path: Path, where: str) -> None:
    boards, record = tmp_path / "boards", sound()
    one = put(tmp_path / "one", record)
    other = put(tmp_path / "other", dataclasses.replace(record, seconds={"train": 1.0, "embed": 1.0}))
    first = boards / "records" / "synthetic" / record.id[:12] if where == "kept" else tmp_path / "one"
    if where == "kept":
        add([one], boards)
    before = tree(boards)
    with pytest.raises(DataError, match=rf"{tmp_path}/other: is run {record.id[:12]} with other content than {first};"):
        add([other] if where == "kept" else [one, other], boards)
    assert tree(boards) == before


def test_other_rankings_beside_the_same_record_are_refused(tmp_path: Path) -> None:
    boards = tmp_path / "boards"
    record = sound()
    add([put(tmp_path / "one", record)], boards)
    ranking = ranking_for(record.job)
    farther = dataclasses.replace(ranking, distances=2 * ranking.distances, top_distances=2 * ranking.top_distances)
    with pytest.raises(DataError, match="with other content than"):
        add([put(tmp_path / "two", record, farther)], boards)


def test_seeds_made_by_different_code_do_not_share_a_row(tmp_path: Path) -> None:
    boards = tmp_path / "boards"
    add_all(boards, [sound(seed=0)])
    newer = sound(seed=1, code_files={"reidbench/ranking.py": digest("edited")})
    with pytest.raises(
        DataError, match=r"made by different code \(reidbench/ranking\.py\); run all its seeds with one version"
    ):
        add_all(boards, [newer])
    assert len(tree(boards)) == 3
    add_all(boards, [newer], allow_mixed=True)
    assert [(row["n_seeds"], row["notes"]) for row in rows_of(boards)] == [("2", "seeds made by different code")]
    add_all(boards, [sound("other")])  # what was allowed once stays


def test_a_row_that_no_record_supports_is_not_silently_lost(tmp_path: Path) -> None:
    boards = tmp_path / "boards"
    add_all(boards, three_by_two())
    gone = boards / "records" / "synthetic" / three_by_two()[4].id[:12]
    also = boards / "records" / "synthetic" / three_by_two()[5].id[:12]
    for folder in (gone, also):
        for file in folder.iterdir():
            file.unlink()
    before = (boards / "synthetic.csv").read_bytes()
    with pytest.raises(
        DataError, match=r"synthetic\.csv: the row with config_hash '\w{12}' has no record below .*records/synthetic;"
    ):
        add_all(boards, three_by_two()[:1])
    assert (boards / "synthetic.csv").read_bytes() == before


def test_a_hand_edited_row_is_put_right(tmp_path: Path) -> None:
    boards = tmp_path / "boards"
    add_all(boards, three_by_two())
    good = (boards / "synthetic.csv").read_text()
    (boards / "synthetic.csv").write_text(good.replace(rows_of(boards)[0]["minp"], "0.990000", 1))
    added = add_all(boards, three_by_two()[:1])
    assert (added.added, added.changed, added.unchanged) == (0, 1, 2)
    assert (boards / "synthetic.csv").read_text() == good


@pytest.mark.parametrize("content", [b"\xff", b"a,b\n1,2\n", b'config_hash\n"open'])
def test_a_file_that_is_no_leaderboard_is_left_alone(tmp_path: Path, content: bytes) -> None:
    boards = tmp_path / "boards"
    boards.mkdir()
    (boards / "synthetic.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"synthetic\.csv: is no leaderboard"):
        add_all(boards, [sound()])
    assert tree(boards) == {"synthetic.csv": content}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (sound(scores={"r1": 3.0}).to_json(), r"nothing was added:\n.*record\.json:\d+: scores\.r1"),
        ("{}", r"record\.json: is no run record: schema is missing"),
    ],
)
def test_a_damaged_kept_record_is_named(tmp_path: Path, content: str, said: str) -> None:
    boards = tmp_path / "boards"
    add_all(boards, [sound("a")])
    next((boards / "records" / "synthetic").iterdir()).joinpath("record.json").write_text(content)
    with pytest.raises(DataError, match=said):
        add_all(boards, [sound("b")])


def test_threads_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    records = [[sound(f"loss{thread}(x={n})") for n in range(3)] for thread in range(10)]
    runs = [[put(tmp_path / "runs" / record.job.loss, record) for record in mine] for mine in records]

    def add_each(mine: list[tuple[Path, RunRecord]]) -> None:
        for run in mine:
            add([run], tmp_path / "boards")

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(add_each, runs))
    add_all(tmp_path / "alone" / "boards", [record for mine in records for record in mine])
    assert len(rows_of(tmp_path / "boards")) == 30
    assert tree(tmp_path / "boards") == tree(tmp_path / "alone" / "boards")


ADD = """
import sys
from pathlib import Path
from reidbench.leaderboard.board import add
from reidbench.runs.store import Store
from reidbench.runs.job import Job
for run in sys.argv[2:]:
    add(Store(Path()).records([Path(run)]), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_processes_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    records = [[sound(f"loss{process}(x={n})") for n in range(3)] for process in range(10)]
    runs = [[str(put(tmp_path / "runs" / record.job.loss, record)[0]) for record in mine] for mine in records]
    processes = [subprocess.Popen([sys.executable, "-c", ADD, str(tmp_path / "boards"), *mine]) for mine in runs]
    assert [process.wait(timeout=1_200) for process in processes] == [0] * 10  # seconds, on a machine with time
    add_all(tmp_path / "alone" / "boards", [record for mine in records for record in mine])
    assert tree(tmp_path / "boards") == tree(tmp_path / "alone" / "boards")
