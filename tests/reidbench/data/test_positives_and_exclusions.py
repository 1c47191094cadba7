"""Queries without a positive, stand-ins and the published dataset, and datasets with wrong counts."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from reidbench import DataError, Protocol, Samples, Split
from reidbench.data.positives_and_exclusions import (
    OWN_IMAGES,
    TWO_PIDS,
    contradiction_notes,
    contradictions,
    own_units,
    unmatched,
)
from reidbench.data.protocol import is_standin, verdict
from reidbench.data.split import SHARED_IDENTITIES, SHARED_IMAGES
from tests.support.jobs import SMALL_RECIPE, job, plan_of, run

OWN = "query/0.jpg"
PROTOCOL = Protocol(dataset="x", version=1, recipe="y", views="center")


def split(query: list[tuple[int, int]], gallery: list[tuple[int, int]], root: Path = Path("root")) -> Split:
    def part(name: str, units: list[tuple[int, int]]) -> Samples:
        names = (f"{name}/{number}.jpg" for number in range(len(units)))
        return Samples.of_images(root, names, (pid for pid, _ in units), (cam for _, cam in units))

    return Split(part("train", [(1, 1), (1, 2), (2, 1)]), part("query", query), part("gallery", gallery))


def test_unmatched_queries_by_the_rule_that_excludes_the_last():
    queries = [(1, 1), (2, 1), (3, 1), (3, 2)]
    found = unmatched(PROTOCOL, split(queries, [(1, 1), (1, 2), (3, 1), (-1, 1), (0, 2)]))
    # Identity 1 has a positive in camera 2, 2 has none, 3 one in camera 1: that of a query, but not of the other.
    assert (found.absent, found.excluded, found.total) == (1, 1, 2)
    without_cameras = dataclasses.replace(PROTOCOL, exclude=("junk",))
    assert unmatched(without_cameras, split(queries, [(1, 1), (3, 1)])).excluded == 0


def test_own_units_have_the_same_images():
    def units(*groups):
        starts = np.cumsum([0, *map(len, groups)])
        ids = np.ones(len(groups), dtype=np.int64)
        return Samples(Path("tree"), np.array(list("".join(groups))), ids, ids, starts)

    assert own_units(units("ab", "c", "d", "ef"), units("x", "d", "ab", "e", "cy")).tolist() == [2, -1, 1, -1]


@pytest.mark.parametrize("test_root", ["/nowhere", "/nowhere/test"])
def test_images_of_two_parts_are_contradictions(test_root):
    def part(root, images, pids):
        return Samples.of_images(Path(root), images, pids, [1] * len(pids))

    # One root for all parts, or one for each.
    inside = "test/" if test_root == "/nowhere" else ""
    train = part("/nowhere", ["a", "test/b", "test/c"], [1, 2, 3])
    gallery = part(test_root, [f"{inside}d", f"{inside}b"], [3, 7])
    shared = contradictions(PROTOCOL, Split(train, part(test_root, [f"{inside}b"], [7]), gallery))
    assert shared == {SHARED_IMAGES: [f"{inside}b"], SHARED_IDENTITIES: ["3"]}
    both = contradictions(PROTOCOL, Split(train, gallery.take(np.array([0])), part("/nowhere", ["test/d"], [4])))
    pair = "test/d (4)" if inside else "d (3)"
    assert both.keys() == {TWO_PIDS, SHARED_IDENTITIES}
    assert pair in both[TWO_PIDS][0]


def test_queries_that_find_their_own_image_are_named():
    def data(camera, pid=3):
        base = split([(3, 1)], [(3, camera), (pid, 2)])
        return dataclasses.replace(base, gallery=dataclasses.replace(base.gallery, images=np.array([OWN, "other.jpg"])))

    assert contradictions(PROTOCOL, data(camera=1)) == {}  # excluded by the rule
    without, itself = (dataclasses.replace(PROTOCOL, exclude=rules) for rules in (("junk",), ("self",)))
    assert contradictions(without, data(camera=1)) == {OWN_IMAGES: [OWN]}
    assert contradictions(itself, data(camera=1)) == {}
    # Its own image is all that the gallery has of identity 3, or there is another one in the same camera.
    assert (unmatched(itself, data(camera=1, pid=4)).excluded, unmatched(itself, data(camera=2)).total) == (1, 0)
    found = contradictions(PROTOCOL, data(camera=2, pid=1))
    assert found == {SHARED_IDENTITIES: ["1"], OWN_IMAGES: [OWN]}
    notes = contradiction_notes(found)
    assert len(notes) == 2
    assert OWN in notes[1]
    counts = str(unmatched(PROTOCOL, split([(3, 1), (3, 2), (5, 1)], [(3, 2)])))
    assert counts == "2 of 3 (1 whose identity is not in the gallery, 1 because of the rule same_camera or self)"


def test_names_distinguish_real_data_from_a_stand_in():
    data = split([(1, 1)], [(1, 2)])
    real = {"train": data.train.name_digest, "query+gallery": (data.query + data.gallery).name_digest}
    known = dataclasses.replace(PROTOCOL, names=real)
    assert not is_standin(known, data)
    assert verdict(known, data).startswith("the real data")
    other = split([(1, 1)], [(1, 2), (1, 3)])
    assert is_standin(known, other)
    assert verdict(known, other).startswith("a STAND-IN")
    assert "not a published benchmark" in verdict(PROTOCOL, other)


def test_wrong_counts_name_both_numbers():
    data = dataclasses.replace(split([(1, 1)], [(1, 2)]), expected={"train": 3, "gallery": 1200, "cameras": 2})
    assert data.wrong_counts == ["gallery: 1,200 expected, 1 found"]


@pytest.fixture
def partial(data_folder, tmp_path, reidbench_main):
    """A stand-in tree that lacks one gallery image."""
    import reidbench

    folder = tmp_path / "market"
    for _ in reidbench.build("synthesizer", "market1501(identities=12)", folder):
        pass
    next((folder / "bounding_box_test").glob("0*.jpg")).unlink()
    return folder


def test_partial_data_is_refused_or_allowed_and_recorded(partial):
    asked = job(
        protocol="market1501(views=original)", backbone="tiny(height=64,width=32)", recipe=SMALL_RECIPE, loss="none"
    )
    with pytest.raises(DataError, match=r"gallery: \d+ expected, \d+ found.*--allow-partial"):
        plan_of(asked, data=partial)
    plan, record, _ = run(asked, data=partial, allow_partial=True)
    assert record.standin
    (said,) = [text for text in record.deviations if "gallery" in text]
    assert said.startswith("partial data: gallery: ")
    assert record.dataset.wrong_counts == plan.split.wrong_counts
