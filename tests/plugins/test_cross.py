"""Training on one dataset and testing on another: shared trainings, separate identities, boards and the matrix."""

from dataclasses import replace

import numpy as np
import pytest

from reidbench import report
from reidbench.data.split import Split, across
from reidbench.errors import DataError, OptionError
from reidbench.leaderboard.board import add, check
from reidbench.plugins.catalogue import build
from reidbench.reports.compare_runs import compare_combinations
from tests.support.jobs import SMALL_PROTOCOL, job, plan_of, run

OTHER = "synthetic(identities=30, cameras=2, seed=1)"


def cross(train: str, test: str) -> str:
    return f'cross(train="{train}", test="{test}")'


def test_protocol_takes_each_field_from_one_of_the_two():
    own = build("protocol", cross("market1501_500k(distractors=0, views=center)", "mars_torchreid_gallery"))
    source, target = build("protocol", "market1501_500k(distractors=0, views=center)"), build("protocol", "mars")
    assert (own.train, own.recipe, own.views, own.defaults) == (
        source.dataset,
        source.recipe,
        "center",
        source.defaults,
    )
    assert (own.ranks, own.primary, own.exclude) == (target.ranks, target.primary, target.exclude)
    assert own.dataset == build("protocol", "mars_torchreid_gallery").dataset
    assert own.names["train"] == source.names["train"] != target.names["train"]
    assert not build("protocol", cross("market1501", OTHER)).names  # own data have no published names
    assert not own.faithful_to


def test_unknown_protocol_inside_is_named():
    with pytest.raises(OptionError, match=r"cross.*option train.*markte1501"):
        plan_of(job(protocol="cross(train=markte1501, test=synthetic)"))


def test_equal_pids_of_two_datasets_are_different_identities(data_folder):
    source, target = (build("dataset", spec, data_folder) for spec in (SMALL_PROTOCOL, OTHER))
    both = across(target, source)
    assert both.train is source.train
    assert not both.contradictions
    shift = both.query.pids - target.query.pids
    assert set(shift) == {source.train.pids.max()}
    special = target.gallery.pids < 1
    assert np.array_equal(both.gallery.pids[special], target.gallery.pids[special])
    assert both.query.name_digest == target.query.name_digest
    counted = Split(source.train, source.query, source.gallery, {"train": 1, "gallery": 2, "cameras": 9}, {"*.txt": 1})
    joined = across(counted, replace(counted, expected={"train": 7, "gallery": 8}))
    assert joined.expected == {"train": 7, "gallery": 2}
    assert joined.ignored == {"*.txt": 2}
    assert not joined.standin
    assert across(counted, replace(counted, standin=True)).standin
    assert across(replace(counted, standin=True), counted).standin


def test_one_training_is_scored_on_every_dataset(tmp_path, data_folder):
    results = {"results": tmp_path / "results", "data": data_folder}
    protocols = [SMALL_PROTOCOL, cross(SMALL_PROTOCOL, SMALL_PROTOCOL), cross(SMALL_PROTOCOL, OTHER)]
    plans, records, _ = zip(*(run(job(protocol=each), **results) for each in protocols), strict=True)
    assert len({plan.train_id for plan in plans}) == len({plan.training_folder for plan in plans}) == 1
    assert len({plan.id for plan in plans}) == 3
    own, same, other = records
    assert own.scores == same.scores != other.scores
    assert {record.observed for record in records} == {own.observed}
    assert other.items["train"].spec == own.items["dataset"].spec
    assert other.ids()["id"] == other.id
    assert other.dataset.train_digest == own.dataset.train_digest

    part = build("section", "transfer").build(list(records), None)
    (table,) = part.tables
    (row,) = table.rows
    assert [value for name, value in row.items() if name != "trained on" and not name.endswith("_sd")] == [
        own.scores["map_market"],
        other.scores["map_market"],
    ]
    assert len(part.charts[0].series) == 1
    assert "nothing to show" in str(report(plans[0].run_folder, sections="transfer"))
    assert part.title not in str(report(plans[0].run_folder))
    other_primary = [replace(each, evaluation=replace(each.evaluation, primary="map_at_r")) for each in records]
    assert build("section", "transfer").build(other_primary, None).tables[0].title.startswith("MAP@R in percent")

    sides = [[(plan.run_folder, record)] for plan, record in zip(plans, records, strict=True)]
    assert {gap.difference for gap in compare_combinations(sides[0], sides[1]).differences} == {0}
    with pytest.raises(DataError, match="different data"):
        compare_combinations(sides[0], sides[2])

    boards = tmp_path / "boards"
    boards.mkdir()
    add([side[0] for side in sides], boards, allow_dirty=True)
    assert check(boards) == []
    assert (boards / "cross.csv").read_text().count("\n") == 3
