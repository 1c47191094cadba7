"""The stand-in for MARS: its plan, its lists and tables, and a training on it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_datasets.mars import NAME, mars, mars_protocol
from reidbench_datasets.mars_standin import StandIn, plan, synthesize

from reidbench import DataError
from reidbench.data.positives_and_exclusions import unmatched
from reidbench.data.protocol import is_standin
from tests.support.jobs import job, run

SMALL = {"identities": 6, "frames": 3, "seed": 3}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A small complete stand-in."""
    folder = tmp_path_factory.mktemp("standin")
    list(synthesize(folder, **SMALL))
    return folder


# The plan


@settings(max_examples=15)
@given(identities=st.integers(4, 60), frames=st.integers(2, 9), seed=st.integers(0, 2**40))
def test_a_plan_of_any_size_resembles_mars(identities, frames, seed):
    planned = plan(StandIn(identities, frames, seed))
    names = [path.rpartition("/")[2] for path, _ in planned.images()]
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) for name in names)
    train, test = ({t.pid for t in part if t.pid > 0} for part in (planned.train, planned.test))
    assert train.isdisjoint(test)
    assert train | test == set(range(1, identities + 1))
    assert min(t.frames for t in (*planned.train, *planned.test)) >= 2
    for part in (planned.train, planned.test):
        assert sum(t.frames for t in part) == frames * len(part)
        assert [(t.pid, t.camera, t.tracklet) for t in part] == sorted((t.pid, t.camera, t.tracklet) for t in part)
    queries = [(planned.test[row].pid, planned.test[row].camera) for row in planned.queries]
    seen = {(t.pid, t.camera) for t in planned.test if t.pid > 0}
    assert sorted(queries) == sorted(seen), "one query for each identity and camera"
    assert all(len({camera for p, camera in seen if p == pid}) >= 2 for pid, _ in queries)
    shots = [shot for _, shot in planned.images()]
    assert len({(s.kind, s.number, s.camera, s.image) for s in shots}) == len(shots), "no image is rendered twice"


def test_a_plan_depends_on_its_seed():
    assert plan(StandIn(9, 4, 5)) == plan(StandIn(9, 4, 5))
    assert plan(StandIn(9, 4, 5)) != plan(StandIn(9, 4, 6))


def test_the_full_plan_has_about_the_real_size():
    planned = plan(StandIn(1259, 58, 0))
    assert (len(planned.train), len(planned.test)) == (8298, 12180)
    counts = planned.counts()
    assert (counts["junk"], counts["distractors"]) == (870, 3248)
    assert abs(counts["train"] + counts["gallery"] - 1_191_003) < 10_000
    assert max(t.frames for t in planned.test) <= 999
    assert 1700 < len(planned.queries) < 2100


# The tree


def test_the_tree_is_a_stand_in_with_a_positive_for_every_query(tree):
    split = mars(tree)
    assert is_standin(mars_protocol(), split)
    assert split.standin
    assert mars(tree, holdout=1).standin
    assert unmatched(mars_protocol(), split).total == 0
    assert len(split.digest) == 64, "every image is there"


def test_an_unfinished_tree_is_not_found(tmp_path):
    next(synthesize(tmp_path, **SMALL))
    with pytest.raises(DataError, match="no folder with bbox_train, bbox_test"):
        mars(tmp_path)
    for part in ("bbox_train", "bbox_test"):
        (tmp_path / part).mkdir()
    with pytest.raises(DataError, match="reidbench data synthesize mars"):
        mars(tmp_path)


# A training


def test_a_small_network_is_trained_and_scored_on_it(tree):
    video = ("mars(views=original, frames=per_tracklet, key_frames=2, pool=max)", 0, ", frames=2")
    for protocol, expected, frames in (("mars(views=original)", 0, ""), ("mars_val(holdout=1)", None, ""), video):
        backbone = "cnn_video(height=64, width=32, channels=0.1, features=8)" if frames else "tiny(height=32, width=16)"
        small = job(protocol=protocol, backbone=backbone, recipe=f"quick(steps=2, p=2, k=3{frames})")
        plan_, record, _ = run(small, data=tree)
        assert record.status == "ok"
        assert record.standin
        assert record.scores["queries"] == len(plan_.split.query)
        assert expected in (None, record.scores["unmatched"])
        assert 0 < record.scores["map_market"] <= record.scores["map_step"] <= 1
