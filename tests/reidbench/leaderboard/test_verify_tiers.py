"""A tier is what the checking machine did: it scored published weights, or trained the row again."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reidbench.data.positives_and_exclusions import own_units
from reidbench.errors import DataError, OptionError
from reidbench.leaderboard.board import add, check, merge
from reidbench.leaderboard.site import build_site
from reidbench.leaderboard.verify import prediction_interval, verify, write
from reidbench.plugins.catalogue import load
from reidbench.ranking.rankings import read_ranking, save_ranking
from reidbench.runs.prepare import Planner
from reidbench.runs.record import read_record
from reidbench.runs.store import Store
from reidbench.utils.machine import local_machine
from tests.support.boards import derived_fields, rows_of
from tests.support.jobs import job, plan_of, run
from tests.support.paths import CHECKOUT
from tests.support.rankings import positives_first

SMALL = {
    "protocol": "synthetic(identities=12, cameras=3, views=original)",
    "backbone": "tiny(height=32, width=16)",
    "recipe": "quick(steps=3, p=4, k=2)",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory, data_folder):
    """Two seeds of a trained network and an untrained one."""
    folder = tmp_path_factory.mktemp("trained")
    for changes in ({}, {"seed": 1}, {"loss": "none"}):
        assert run(job(**SMALL | changes), results=folder, cache=folder / "cache", data=data_folder)[1].status == "ok"
    return folder


@pytest.fixture
def boards(results, tmp_path):
    add(Store(results).records(), tmp_path / "boards", weights=True, allow_dirty=True)
    return tmp_path / "boards"


def planner(results: Path) -> Planner:
    return Planner(load(), local_machine(device="cpu", threads=1, results=results, cache=results / "cache"))


def forge(folder: Path, share: float, *, cameras: bool = True) -> str:
    """Replace the rankings of a stored run by invented ones, with all that follows from them; return its row.

    Without ``cameras`` the camera matrix is left as it was.
    """
    record = read_record(folder / "record.json")
    ranking = positives_first(read_ranking(folder), share)
    split = plan_of(record.resolved_job())[0].split
    query, gallery = split.query, split.gallery
    fields = derived_fields(ranking, query.pids, query.cams, gallery.cams, own_units(query, gallery))
    forged = replace(record, **fields | ({} if cameras else {"cameras": record.cameras}))
    save_ranking(folder, ranking)
    (folder / "record.json").write_text(forged.to_json())
    return record.group


def stored(boards: Path, seed: int = 0) -> Path:
    files = boards.glob("records/*/*/record.json")
    return next(file.parent for file in files if (record := read_record(file)).weights and record.job.seed == seed)


def test_published_weights_make_a_row_recomputed(boards, results, tmp_path, reidbench_main, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})  # one thread, as in the trainings
    result = verify(boards, planner(results))
    assert (result.problems, result.notes) == ([], [])
    assert [statement.tier for statement in result.rows.values()] == ["recomputed"] * 2
    assert [row["verified"] for row in rows_of(boards)] == ["self-reported"] * 2  # until the maintainers state it
    assert reidbench_main("leaderboard", "verify", "--folder", str(boards), "--write")[0] == 0
    assert check(boards) == []
    assert [row["verified"] for row in rows_of(boards)] == ["recomputed"] * 2
    page = build_site(boards, tmp_path / "site")[1].read_text()
    assert f"recomputed on {result.rows[rows_of(boards)[0]['config_hash']].date}" in page
    assert "their statement" in page
    assert "reproduced" not in page
    # A machine that does less leaves the statement; one about other files does not count.
    shutil.rmtree(boards / "records" / "synthetic" / "weights")
    assert write(boards, verify(boards, planner(results))) == []
    forge(stored(boards), 0.5)
    merge(boards)
    assert sorted(row["verified"] for row in rows_of(boards)) == ["recomputed", "self-reported"]


def test_rows_of_one_untrained_network_are_recomputed_under_their_own_metrics(tmp_path, data_folder):
    scores = []
    for changes in ({}, {"metric": "cosine"}, {"recipe": "quick(steps=4, p=4, k=2)"}):
        _, record, _ = run(job(**SMALL | {"loss": "none"} | changes), results=tmp_path, data=data_folder)
        scores.append(record.scores["map_market"])
    assert scores[0] == scores[2] != pytest.approx(scores[1], abs=0.001)
    add(Store(tmp_path).records(), tmp_path / "boards", allow_dirty=True)
    result = verify(tmp_path / "boards", planner(tmp_path))
    assert (result.problems, result.notes) == ([], [])
    assert [statement.tier for statement in result.rows.values()] == ["recomputed"] * 3


def test_statements_of_others_are_never_added(boards, results, tmp_path):
    write(boards, verify(boards, planner(results)))
    add(Store(Path()).records([boards]), tmp_path / "ours", allow_dirty=True, weights=True)
    assert {row["verified"] for row in rows_of(tmp_path / "ours")} == {"self-reported"}
    assert not list((tmp_path / "ours").glob("*.json"))
    assert len(list((tmp_path / "ours").rglob("*.safetensors"))) == 2
    (boards / "synthetic.verified.json").write_text('{"a": {"tier": "reproduced"}}')
    assert any("verified.json" in problem.text and "tier" in problem.text for problem in check(boards))


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_invented_rankings_are_no_more_than_consistent(boards, results, share):
    folder = stored(boards)
    untouched = forge(folder, share, cameras=False)
    merge(boards)
    assert check(boards) == []
    columns = {problem.field for problem in verify(boards, planner(results), rows=[untouched]).problems}
    assert columns & {"cameras.map_market", "cameras.r1"}, "the rankings say how good the camera matrix can be"
    group = forge(folder, share)
    merge(boards)
    result = verify(boards, planner(results), rows=[group])
    assert {problem.field for problem in result.problems} >= {"scores.map_market", "scores.r1"}
    with pytest.raises(DataError, match="its weights give"):
        write(boards, result)
    shutil.rmtree(boards / "records" / "synthetic" / "weights")
    result = verify(boards, planner(results), rows=[group[:8]])
    assert (result.problems, [each.tier for each in result.rows.values()]) == ([], ["consistent"])


def test_new_trainings_confirm_a_row_or_do_not(boards, results):
    group = read_record(stored(boards) / "record.json").group
    write(boards, verify(boards, planner(results), rows=[group[:12]], seeds=3))
    (statement,) = json.loads((boards / "synthetic.verified.json").read_text()).values()
    assert (statement["tier"], statement["seeds"]) == ("retrained", [2, 3, 4])
    for seed in (0, 1):
        forge(stored(boards, seed), 1.0)
    shutil.rmtree(boards / "records" / "synthetic" / "weights")
    merge(boards)
    result = verify(boards, planner(results), rows=[group], seeds=3)
    assert [each.tier for each in result.rows.values()] == ["consistent"]
    assert any("map_market is 1.0000; 3 trainings here expect" in note for note in result.notes)
    with pytest.raises(OptionError, match="at least 3"):
        verify(boards, planner(results), seeds=2)
    with pytest.raises(DataError, match="no row has a config_hash"):
        verify(boards, planner(results), rows=["zz"])


def test_weights_are_those_of_the_record(boards, results, tmp_path):
    digests = [read_record(stored(boards, seed) / "record.json").weights for seed in (0, 1)]
    one, two = (boards / "records" / "synthetic" / "weights" / f"{digest}.safetensors" for digest in digests)
    content = one.read_bytes()
    two.write_bytes(content)
    assert [(problem.file, problem.text[:10]) for problem in check(boards)] == [(two, "is damaged")]
    one.unlink()
    two.unlink()
    (tmp_path / "elsewhere.safetensors").write_bytes(content)
    result = verify(boards, planner(results), weights=tmp_path / "elsewhere.safetensors")
    assert sorted(each.tier for each in result.rows.values()) == ["consistent", "recomputed"]  # one of two seeds
    # Weights of one seed, published as those of the other.
    second = stored(boards, 1)
    (second / "record.json").write_text(replace(read_record(second / "record.json"), weights=digests[0]).to_json())
    one.write_bytes(content)
    result = verify(boards, planner(results))
    assert result.rows[read_record(second / "record.json").group].tier == "consistent"
    assert any(str(second) in text for text in [*map(str, result.problems), *result.notes])
    shutil.copytree(results / "runs", tmp_path / "moved" / "runs")
    with pytest.raises(DataError, match="its weights cannot be published"):
        add(Store(tmp_path / "moved").records(), tmp_path / "new", weights=True, allow_dirty=True)


def test_the_interval_is_the_one_of_new_values():
    # t(0.995, 2) = 9.92484, sd = 0.02
    low, high = prediction_interval([0.40, 0.42, 0.44], 5)
    half = 9.92484 * 0.02 * (1 / 3 + 1 / 5) ** 0.5
    assert (low, high) == pytest.approx((0.42 - half, 0.42 + half), abs=1e-6)


@pytest.mark.slow
def test_the_committed_weights_give_the_committed_scores(tmp_path, monkeypatch):
    """The networks of README's table; about a minute, most of it to render the synthetic dataset."""
    monkeypatch.setenv("REIDBENCH_DATA", str(tmp_path))
    boards = CHECKOUT / "leaderboards"
    runs = [read_record(file) for file in sorted(boards.glob("records/synthetic/*/record.json"))]
    published = {file.stem for file in boards.glob("records/synthetic/weights/*.safetensors")}
    trained = [record for record in runs if record.weights]
    assert {record.weights for record in trained} == published
    result = verify(boards, Planner(load(), local_machine(device="cpu", data=tmp_path)))
    assert result.problems == []
    plain = [record.group for record in trained if record.items["rerank"].spec == "none"]
    assert {result.rows[group].tier for group in plain} == {"recomputed"}
