"""The stand-in for Market-1501: its plan, ground truth, and difference from the real data."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_datasets.market1501 import NAME, PUBLISHED
from reidbench_datasets.market1501_standin import StandIn, name_of, plan, synthesize
from reidbench_datasets.standin_people import Image, counts
from reidbench_datasets.standin_tree import CARD, LOCK
from scipy.io import loadmat

SMALL = {"identities": 8, "distractors": 6, "seed": 3}
FULL = StandIn(identities=1501, distractors=0, seed=0)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A small complete stand-in."""
    folder = tmp_path_factory.mktemp("standin")
    list(synthesize(folder, **SMALL))
    return folder


@pytest.fixture(scope="module")
def full():
    return plan(FULL)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def by_folder(images: list[Image]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for image in images:
        folders.setdefault(image.shot.folder, []).append(name_of(image))
    return folders


# The plan


def test_by_default_folders_have_the_real_numbers_of_images(full):
    assert counts(full) == PUBLISHED
    sizes = {folder: len(names) for folder, names in by_folder(full).items()}
    assert sizes == {"bounding_box_train": 12936, "bounding_box_test": 19732, "query": 3368, "gt_bbox": 25259}


def test_the_full_plan_resembles_the_real_data(full):
    train = Counter(image.shot.pid for image in full if image.shot.folder == "bounding_box_train")
    assert min(train.values()) >= 2
    assert 2 <= sum(count < 4 for count in train.values()) <= 50, "some identities have fewer images than K = 4"
    assert max(train.values()) > 40
    assert all(NAME.fullmatch(name) for folder in by_folder(full).values() for name in folder)


@settings(max_examples=25)
@given(identities=st.integers(4, 90), distractors=st.integers(0, 20), seed=st.integers(0, 2**40))
def test_a_plan_of_any_size_resembles_market1501(identities, distractors, seed):
    standin = StandIn(identities, distractors, seed)
    images = plan(standin)
    folders = by_folder(images)
    assert all(names == sorted(set(names)) for names in folders.values())
    planned = counts(images)
    assert planned["train_identities"] == identities - identities // 2
    assert planned["query_identities"] == identities // 2
    for name in ("train", "query", "junk", "distractors"):
        assert planned[name] == round(PUBLISHED[name] * identities / 1501)
    assert len(folders.get("images", [])) == distractors
    pids = {part: {p.shot.pid for p in images if p.shot.folder == part} for part in ("bounding_box_train", "query")}
    assert pids["bounding_box_train"].isdisjoint(pids["query"])
    assert pids["bounding_box_train"] | pids["query"] == set(range(1, identities + 1))
    seen = {(p.shot.pid, p.shot.camera) for p in images if p.shot.folder == "bounding_box_test"}
    for query in (p.shot for p in images if p.shot.folder == "query"):
        assert any(pid == query.pid and camera != query.camera for pid, camera in seen)
    assert set(folders["query"]) <= set(folders["gt_bbox"])
    assert all(name.endswith("_00.jpg") for name in folders["gt_bbox"])
    assert plan(standin) == images
    assert plan(StandIn(identities, distractors, seed + 1)) != images


def test_a_hand_drawn_box_shows_its_detected_image(full):
    detected = {
        (p.shot.pid, p.shot.camera, p.sequence, p.frame): p.shot.image
        for p in full
        if p.shot.folder not in ("gt_bbox", "query") and p.shot.pid > 0
    }
    boxes = [p for p in full if p.shot.folder == "gt_bbox" and p.shot.image]
    assert len(boxes) > 10_000
    assert all(detected[p.shot.pid, p.shot.camera, p.sequence, p.frame] == p.shot.image for p in boxes)


# The tree


def test_the_tree_has_the_planned_files(tree):
    planned = by_folder(plan(StandIn(**SMALL)))
    assert {path.name for path in tree.iterdir()} == {*planned, "gt_query", CARD, LOCK}
    for folder, expected in planned.items():
        assert names(tree / folder) == expected


def test_ground_truth_agrees_with_the_names(tree):
    gallery = [re.match(r"(-?\d+)_c(\d)", name) for name in names(tree / "bounding_box_test")]
    labels = [(int(match[1]), int(match[2])) for match in gallery if match]
    queries = names(tree / "query")
    expected = {f"{query[:-4]}_{kind}.mat" for query in queries for kind in ("good", "junk")}
    assert set(names(tree / "gt_query")) == expected
    for query in queries:
        pid, camera = int(query[:4]), int(query[6])
        good = loadmat(tree / "gt_query" / f"{query[:-4]}_good.mat")["good_index"]
        junk = loadmat(tree / "gt_query" / f"{query[:-4]}_junk.mat")["junk_index"]
        assert good.shape[0] == junk.shape[0] == 1
        expected_good = [number for number, (p, c) in enumerate(labels, 1) if p == pid and c != camera]
        expected_junk = [number for number, (p, c) in enumerate(labels, 1) if p == -1 or (p == pid and c == camera)]
        assert good[0].tolist() == expected_good
        assert sorted(junk[0].tolist()) == expected_junk
