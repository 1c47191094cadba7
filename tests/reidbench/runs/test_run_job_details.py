"""What a run calls of each plugin, how often and with what, and which numbers come of it."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from reidbench.embedding.cache import EmbeddingCache
from reidbench.embedding.pooling import pool_units
from reidbench.errors import Interrupted
from reidbench.plugins.catalogue import Catalogue, load
from reidbench.plugins.discovery import PluginItem
from reidbench.ranking.rank import unit_rows
from reidbench.runs.prepare import Planner, Prepared
from reidbench.runs.record import RECORD, RunRecord
from reidbench.runs.run_job import run_job
from reidbench.runs.store import RunState, read_state
from reidbench.training.build import build_backbone
from reidbench.training.checkpoint import SUMMARY, load_weights, read_summary
from reidbench.utils.machine import Machine, local_machine
from reidbench.utils.random_streams import with_seed
from tests.support.jobs import job
from tests.support.plain_items import ITEMS, OWN_ITEMS, PLUGIN, UNIT, Centred, Norms, Patches
from tests.support.rankings import slow_scores


@pytest.fixture(autouse=True)
def _counters():
    Patches.initialised = Norms.steps = 0
    Centred.fits.clear()
    Centred.seen.clear()
    Norms.heads.clear()


@pytest.fixture
def machine(tmp_path):
    return local_machine(data=tmp_path / "data", device="cpu", threads=1, checkpoint_seconds=1e9)


def elsewhere(machine: Machine, name: str) -> Machine:
    """Return the same machine with other, empty results."""
    return dataclasses.replace(machine, results=machine.results / name)


def plan_of(machine: Machine, **changes) -> Prepared:
    known = load()
    own = [PluginItem(kind, name, factory, PLUGIN) for (kind, name), factory in ITEMS.items()]
    return Planner(Catalogue((*known.plugins, PLUGIN), (*known.items, *own)), machine).plan(job(**OWN_ITEMS | changes))


def run(machine: Machine, **changes) -> tuple[Prepared, RunRecord]:
    plan = plan_of(machine, **changes)
    return plan, run_job(plan, machine)


def state_of(plan: Prepared) -> RunState:
    machine = local_machine(device="cpu", threads=1)
    return read_state(plan.training_folder, plan.run_folder, plan.id, plan.code, plan.split, machine)


def embeddings_of(plan, part):
    """Return the kept embeddings [m, D] of a part's images."""
    network = build_backbone(plan.items["backbone"], plan.job.seed)
    if read_summary(plan.training_folder):
        load_weights(network, plan.training_folder)
    else:
        with_seed(network.initialise, plan.job.seed, "initialise")
    network.forward = None  # nothing is embedded again
    cache = EmbeddingCache(plan.training_folder, network, plan.protocol.views, local_machine(device="cpu", threads=1))
    return cache.embeddings(part, "cached")


# --- the scores, by hand ---------------------------------------------------------------------------------------------


def mean_colours(part, pool):
    """Return the six numbers of every unit, straight from its files."""
    units = []
    for unit in range(len(part)):
        images = [np.asarray(Image.open(part.path(unit * UNIT + number))) / 255 for number in range(UNIT)]
        colours = [image.reshape(2, -1, 3).mean(1).ravel() for image in images]
        units.append(np.mean(colours, axis=0) if pool == "mean" else np.max(colours, axis=0))
    return np.array(units)


def scores_by_hand(split, pool, exclude):
    query, gallery = split.query, split.gallery
    distances = ((mean_colours(query, pool)[:, None] - mean_colours(gallery, pool)) ** 2).sum(2)
    return slow_scores(distances, (query.pids, query.cams), (gallery.pids, gallery.cams), exclude)


BOTH = ("junk", "same_camera")
CASES = [("mean", BOTH), ("max", BOTH), ("mean", ("same_camera",)), ("mean", ("junk",))]


@pytest.mark.parametrize("case", CASES)
def test_pool_and_exclusions_reach_the_scores(case, machine):
    pool, exclude = case
    plan, record = run(machine, loss="none", protocol=f"exhibition(pool={pool}, exclude=[{', '.join(exclude)}])")
    assert record.status == "ok", record.error
    expected = {case: scores_by_hand(plan.split, *case) for case in CASES}
    assert len({scores["map_step"] for scores in expected.values()}) == len(CASES), "each of them shows"
    assert {name: record.scores[name] for name in expected[case]} == pytest.approx(expected[case], abs=1e-12)
    assert record.evaluation.pool == pool
    assert record.evaluation.exclude == list(exclude)


def test_other_views_are_other_embeddings_of_the_same_training(machine):
    whole, _ = run(machine, metric="centred", protocol="exhibition(views=original)")
    steps = Norms.steps
    crops, record = run(machine, metric="centred", protocol="exhibition(views=five_crops_flip)")
    assert record.status == "ok", record.error
    assert Norms.steps == steps == 3
    train = whole.split.train
    for plan, (fitted, *_) in zip((whole, crops), Centred.fits, strict=True):
        assert torch.equal(fitted, pool_units(embeddings_of(plan, train), train.starts, plan.evaluation.pool))
    assert crops.training_folder == whole.training_folder
    assert crops.id != whole.id
    assert crops.run_folder != whole.run_folder
    assert record.evaluation.views == "five_crops_flip"
    for part in (whole.split.query, whole.split.gallery):
        one, other = embeddings_of(whole, part), embeddings_of(crops, part)
        assert one.shape == other.shape == (UNIT * len(part), 6)
        assert not torch.equal(one, other)
    assert len(list(whole.training_folder.glob("embeddings-*"))) == 2


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drawn", ["early", "late"])
def test_the_seed_alone_decides_the_first_weights_and_heads(drawn, machine):
    embeddings, heads = [], []
    for number, (loss, seed) in enumerate((("norms", 0), ("norms", 0), ("norms", 1), ("none", 0))):
        torch.manual_seed(number)
        asked = {"backbone": f"patches(drawn={drawn})", "loss": loss, "seed": seed}
        plan, record = run(elsewhere(machine, str(number)), **asked, recipe="short(learning_rate=1e-12)")
        assert record.status == "ok", record.error
        embeddings.append(embeddings_of(plan, plan.split.query))
        heads += Norms.heads[-1:]
    assert torch.equal(embeddings[0], embeddings[1])
    assert torch.equal(embeddings[0], embeddings[3]), "a training starts from the untrained network"
    assert not torch.allclose(embeddings[0], embeddings[2], rtol=1e-3)
    assert heads[0] == heads[1] != heads[2]


def test_a_network_is_initialised_once(machine):
    plan_of(machine)
    assert Patches.initialised == 0
    plan, record = run(machine)
    assert Patches.initialised == 1
    run(machine)
    for scored_otherwise in ({"protocol": "exhibition(views=center)"}, {"metric": "centred"}):
        assert run(machine, **scored_otherwise)[1].status == "ok"
    assert (Patches.initialised, Norms.steps) == (1, 3)
    (plan.training_folder / SUMMARY).unlink()
    (plan.run_folder / RECORD).unlink()
    assert run(machine)[1].scores == record.scores
    assert (Patches.initialised, Norms.steps) == (2, 6), "a training without a summary is repeated"


# --- stops and failures ----------------------------------------------------------------------------------------------


def test_a_stopped_training_resumes_with_its_own_weights(machine):
    asked = {"loss": "norms(stop_at=2)", "backbone": "patches(drawn=late)"}
    plan = plan_of(machine, **asked)
    with pytest.raises(Interrupted, match="stopped at step 2 of 3"):
        run_job(plan, machine)
    assert json.loads((plan.run_folder / RECORD).read_text())["status"] == "interrupted"
    assert (Patches.initialised, Norms.steps) == (1, 2)
    record = run_job(plan_of(machine, **asked), machine)
    assert record.status == "ok", record.error
    assert (Patches.initialised, Norms.steps) == (1, 3)
    stopped = embeddings_of(plan, plan.split.query)
    whole, _ = run(elsewhere(machine, "whole"), **asked)  # the count is past stop_at
    assert torch.equal(stopped, embeddings_of(whole, whole.split.query))


def test_a_plugins_bug_is_recorded_and_tried_again(machine):
    plan, record = run(machine, loss="norms(fails=true)")
    assert record.status == "failed"
    assert record.error.startswith("ZeroDivisionError: a bug of the plugin's (")
    assert "plain_items.py" in record.error, "it says where"
    assert "in forward" in (plan.run_folder / "traceback.txt").read_text()
    assert state_of(plan).status == "new"
    before = Norms.steps
    assert run(machine, loss="norms(fails=true)")[1].status == "failed"
    assert Norms.steps == before + 1


# --- a learned metric ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("normalize", "rerank"), [(False, "k_reciprocal(k1=4, k2=2)"), (True, "none")])
def test_a_metric_is_fitted_once_on_the_units_to_train_on(normalize, rerank, machine):
    plan, record = run(machine, loss="largest", metric=f"centred(normalize={str(normalize).lower()})", rerank=rerank)
    assert record.status == "ok", record.error
    assert record.evaluation.learned
    assert record.evaluation.normalize is normalize
    train = plan.split.train
    ((embeddings, pids, cams),) = Centred.fits
    pooled = pool_units(embeddings_of(plan, train), train.starts, "max")
    expected = unit_rows(pooled) if normalize else pooled
    assert torch.equal(embeddings, expected), "once, and not twice"
    np.testing.assert_array_equal(pids, train.pids)
    np.testing.assert_array_equal(cams, train.cams)
    lengths = torch.cat([rows.double().norm(dim=1) for rows in Centred.seen])
    assert bool(((lengths - 1).abs() < 1e-6).all()) is normalize


# --- records that answer ---------------------------------------------------------------------------------------------


def edit(plan: Prepared, **changes) -> None:
    file = plan.run_folder / RECORD
    content = json.loads(file.read_text()) | changes
    content.pop("checksum", None)
    file.write_text(json.dumps(content))


def test_a_record_of_another_run_or_code_is_not_reused(machine):
    plan, record = run(machine)
    marked = {**record.scores, "r1": 0.123}
    edit(plan, scores=marked)
    assert run(machine)[1].scores == marked, "a record that fits answers as it is"
    for change in ({"id": "0" * 64}, {"code": "0" * 64}, {"status": "failed"}):
        edit(plan, scores=marked, **change)
        assert state_of(plan).record is None
        again = run(machine)[1]
        assert (again.scores, again.id, again.code, again.status) == (record.scores, record.id, record.code, "ok")
        assert json.loads((plan.run_folder / RECORD).read_text())["scores"] == record.scores
    assert Norms.steps == 3, "the training was its own and still counts"


# --- factories that are partials -------------------------------------------------------------------------------------


def test_a_partial_is_an_item_with_the_code_of_its_function(machine):
    plan, record = run(machine, loss="halved")
    assert record.status == "ok", record.error
    assert Norms.steps == 3
    assert "scale=0.5" in plan.items["loss"].text
    assert plan.items["loss"].short == "halved", "what was bound is its default"
    assert "tests/support/plain_items.py" in record.code_files
    given = plan_of(machine, loss="halved(scale=0.25)")
    assert given.train_id != plan.train_id
    assert given.items["loss"].short == "halved(scale=0.25)"
