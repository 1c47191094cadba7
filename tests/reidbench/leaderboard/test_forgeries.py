"""What a forger tries without inventing rankings: each is refused by name, or shown as what it is."""

from dataclasses import replace

import pytest

from reidbench.errors import DataError
from reidbench.leaderboard.board import add, check, merge
from reidbench.leaderboard.verify import verify
from reidbench.plugins.catalogue import load
from reidbench.runs.prepare import Planner
from reidbench.utils.machine import local_machine
from tests.support.boards import add_all, derived_for, put, ranking_for, rows_of, valid_record
from tests.support.records import make_item


def test_a_protocol_with_a_slash_has_its_own_board(tmp_path):
    record = valid_record("one", items={"protocol": make_item("evil/synthetic")})
    add_all(tmp_path / "boards", [record])
    names = {path.name for path in (tmp_path / "boards").iterdir()}
    assert names - {".lock"} == {"evil-synthetic.csv", "records"}
    result = verify(tmp_path / "boards", Planner(load(), local_machine(data=tmp_path)))
    assert [statement.tier for statement in result.rows.values()] == ["self-reported"]
    assert "evil/synthetic: not verified" in result.notes[0]


def test_a_copy_with_another_start_is_refused(tmp_path):
    record, boards = valid_record(), tmp_path / "boards"
    add([put(tmp_path / "one", record)], boards)
    copy = put(tmp_path / "two", replace(record, started="2026-11-22T10:00:01+00:00"))
    with pytest.raises(DataError, match="another training of this row is another seed"):
        add([copy], boards)


@pytest.mark.parametrize("other", [valid_record("two"), valid_record("one", 1)], ids=["loss", "seed"])
def test_one_ranking_under_two_trainings_is_refused(tmp_path, other):
    one, boards = valid_record("one"), tmp_path / "boards"
    copied = put(tmp_path / "copied", replace(other, **derived_for(one.job)), ranking_for(one.job))
    with pytest.raises(DataError, match=r"(copied|one)/rankings\.npz: ranks exactly as"):
        add([put(tmp_path / "one", one), copied], boards)
    add([put(tmp_path / "one", one)], boards)
    with pytest.raises(DataError, match=r"copied/rankings\.npz: ranks exactly as .*records/synthetic/\w+/"):
        add([copied], boards)
    put(boards / "records" / "synthetic" / copied[1].id[:12], *copied[1:], ranking_for(one.job))
    assert any("ranks exactly as" in problem.text for problem in check(boards))
    with pytest.raises(DataError, match="ranks exactly as"):
        merge(boards)


def test_untrained_networks_may_rank_alike(tmp_path):
    one, other = valid_record("none"), valid_record("none", 1)
    same = put(tmp_path / "other", replace(other, **derived_for(one.job)), ranking_for(one.job))
    add([put(tmp_path / "one", one), same], tmp_path / "boards")
    assert check(tmp_path / "boards") == []


def test_a_dropped_seed_is_shown(tmp_path):
    boards = tmp_path / "boards"
    add_all(boards, [valid_record(seed=seed) for seed in (0, 1, 3)])
    assert [row["notes"] for row in rows_of(boards)] == ["chosen seeds: 0, 1, 3"]
    add([put(tmp_path / "2", valid_record(seed=2))], boards)
    assert [row["notes"] for row in rows_of(boards)] == [""]
