"""Rankings that do not follow from the lists are refused, and no row of such a run gets a tier."""

from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest
import torch

from reidbench.data.positives_and_exclusions import own_units
from reidbench.leaderboard.board import add
from reidbench.leaderboard.verify import Verification, verify
from reidbench.plugins.catalogue import build, load
from reidbench.ranking.camera_matrix import camera_scores
from reidbench.ranking.rankings import Ranking
from reidbench.ranking.scores import scores_at
from reidbench.runs.job import Job
from reidbench.runs.prepare import Planner
from reidbench.runs.record import CameraMatrix, ItemRecord
from reidbench.studies.define import define_study
from reidbench.studies.study import Final, LossResult, StudyResult, store_study
from reidbench.utils.machine import local_machine
from tests.support.boards import add_all, derived_fields, put, valid_record
from tests.support.rankings import rank_both
from tests.support.records import COUNTS, make_item, replace_parts

PROTOCOL = "synthetic(identities=12, cameras=3)"
NETWORK = ("embedding_dim", "parameters", "pretrained")


@cache
def planner(data):
    return Planner(load(), local_machine(data=data))


def listed(data, loss, seed=0):
    """Return a record of synthetic data, as a run would write it, with the ranking of random embeddings."""
    plan = planner(data).plan(Job(PROTOCOL, loss, "tiny", "quick(steps=1, p=4)", "auto", "none", seed))
    query, gallery = plan.split.query, plan.split.gallery
    generator = np.random.default_rng([len(loss), seed])
    people = generator.normal(size=(int(gallery.pids.max()) + 2, 16))
    noise = [generator.normal(size=(len(part), 16)) for part in (query, gallery)]
    embeddings = [torch.from_numpy(people[part.pids] + own) for part, own in zip((query, gallery), noise, strict=True)]
    ids = (query.pids, query.cams, gallery.pids, gallery.cams)
    both = rank_both(embeddings[0], embeddings[1], *ids, build("metric", "euclidean"), exclude=plan.protocol.exclude)
    cameras = camera_scores(both.with_junk, query.cams, gallery.cams, own_units(query, gallery))
    items = {
        kind: ItemRecord(
            asdict(plan.job).get(kind, item.given),
            *(item.text, item.short, item.origins, "p", "reidbench", "0.1.0"),
            identity=item.identity,
        )
        for kind, item in plan.items.items()
    }
    record = replace_parts(
        valid_record(loss, seed),
        job=plan.job,
        items=items,
        **derived_fields(both.ranking, query.pids, query.cams, gallery.cams),
        dataset={"digest": plan.split.digest, "train_digest": plan.split.train.digest, "counts": plan.split.counts},
        recipe=plan.recipe,
        network={name: getattr(plan.info, name) for name in NETWORK},
        evaluation={"views": plan.protocol.views, "pool": plan.evaluation.pool, "version": plan.protocol.version},
    )
    ids_of_plan = {"id": plan.id, "train_id": plan.train_id, "group": plan.group}
    assert record.ids() == ids_of_plan
    return replace(record, cameras=CameraMatrix(**cameras.as_dict()), **ids_of_plan), both.ranking


def publish(tmp_path, runs):
    add([put(tmp_path / "runs" / str(number), *run) for number, run in enumerate(runs)], tmp_path / "boards")
    return tmp_path / "boards"


def tiers(result: Verification) -> set[str]:
    return {statement.tier for statement in result.rows.values()}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"faithful": True}, "faithful"),
        ({"recipe": {"steps": 25_000}}, "recipe.steps"),
        ({"network": {"parameters": 1}}, "network.parameters"),
        ({"intervals": {name: [0.0, 1.0] for name, score in scores_at().items() if score.with_interval}}, "intervals"),
        ({"dataset": {"counts": COUNTS}}, "dataset.counts"),
    ],
)
def test_fields_that_the_items_do_not_give_are_named(tmp_path, data_folder, changes, field):
    record, ranking = listed(data_folder, "batch_hard")
    boards = publish(tmp_path, [(replace_parts(record, **changes), ranking)])
    result = verify(boards, planner(data_folder))
    assert [problem.field for problem in result.problems] == [field]
    assert tiers(result) == {"self-reported"}


def test_a_wrong_standin_mark_is_named(tmp_path, data_folder):
    record, ranking = listed(data_folder, "batch_hard")
    boards = publish(tmp_path, [(replace(record, standin=True), ranking)])
    assert [file.name for file in boards.glob("*.csv")] == ["synthetic.standin.csv"]
    result = verify(boards, planner(data_folder))
    text = "is True, but the lists and the run's items give False"
    assert ("standin", text) in [(problem.field, problem.text) for problem in result.problems]
    assert tiers(result) == {"self-reported"}


def fewer_queries(ranking: Ranking) -> Ranking:
    stop, hidden = ranking.starts[-2], ranking.same_camera_starts[-2]
    return Ranking(
        ranking.starts[:-1], ranking.units[:stop], ranking.ranks[:stop], ranking.distances[:stop],
        ranking.same_camera_starts[:-1], ranking.same_camera_units[:hidden], ranking.same_camera_ranks[:hidden],
        ranking.ranked[:-1], ranking.top[:-1], ranking.top_distances[:-1],
    )  # fmt: skip


def other_positives(ranking: Ranking) -> Ranking:
    units, top = ranking.units.copy(), ranking.top.copy()
    wrong = units[-1]
    top[0][top[0] == units[0]] = wrong
    units[0] = wrong
    return replace(ranking, units=units, top=top)


def excluded_on_top(ranking: Ranking) -> Ranking:
    top = ranking.top.copy()
    place = int(np.flatnonzero(~np.isin(top[0], ranking.units[: ranking.starts[1]]))[0])
    top[0, place] = ranking.same_camera_units[0]
    return replace(ranking, top=top)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (fewer_queries, "queries, the lists have"),
        (other_positives, "query 0 has other positives than the lists"),
        (excluded_on_top, "its closest items hold one twice, or some that the protocol excludes"),
        (lambda r: replace(r, ranked=r.ranked + 1), "has another number of ranked items than the lists give"),
    ],
)
def test_rankings_that_contradict_the_lists_are_named(tmp_path, data_folder, change, text):
    record, ranking = listed(data_folder, "batch_hard")
    forged = change(ranking)
    query, gallery = (getattr(planner(data_folder).plan(record.job).split, name) for name in ("query", "gallery"))
    follow = derived_fields(forged, query.pids[: len(forged)], query.cams[: len(forged)], gallery.cams)
    boards = publish(tmp_path, [(replace(record, **follow), forged)])
    result = verify(boards, planner(data_folder))
    assert any(text in problem.text for problem in result.problems), result.problems
    assert result.rows[record.group].tier == "self-reported"


def test_final_runs_of_a_study_are_verified_and_its_table_is_printed(
    tmp_path, data_folder, reidbench_call, monkeypatch
):
    # The rankings are of random embeddings, not of the untrained network, so it must not be scored.
    monkeypatch.setattr("reidbench.leaderboard.verify.initialised_backbone", None)
    file = tmp_path / "boards" / "studies" / "mine.toml"
    file.parent.mkdir(parents=True)
    items = f'loss = ["batch_hard", "batch_all"]\nprotocol = "{PROTOCOL}"\nbackbone = "tiny"'
    file.write_text(f'{items}\nrecipe = "quick(steps=1, p=4)"\n[study]\ntrials = 0\nseeds = 2\n')
    study = define_study(str(file), {})
    losses = []
    for loss in study.losses:
        runs = [put(tmp_path / "runs" / f"{loss}-{seed}", *listed(data_folder, loss, seed)) for seed in (0, 1)]
        finals = [Final(*run) for run in runs]
        losses.append(LossResult(loss, {"default": finals}))
    result = StudyResult(study, losses, tmp_path / "studies" / "mine")
    store_study(result, result.folder, lambda final: f"../../runs/{final.folder.name}")
    assert reidbench_call("leaderboard", "add", str(result.folder), "--folder", str(file.parents[1])).returncode == 0
    done = reidbench_call("leaderboard", "verify", "--folder", str(file.parents[1]))
    assert done.returncode == 0, done.stdout
    assert "trials of studies are self-reported" in done.stdout
    assert "2 seeds, options as given" in done.stdout
    assert done.stdout.count("  consistent on ") == len(study.losses)


def test_rows_without_local_lists_stay_self_reported(tmp_path):
    record = valid_record("one", items={"protocol": make_item("market1501")})
    add_all(tmp_path / "boards", [record])
    result = verify(tmp_path / "boards", Planner(load(), local_machine(data=tmp_path / "empty")))
    assert tiers(result) == {"self-reported"}
    assert "market1501: not verified, its lists are not here" in result.notes[0]
