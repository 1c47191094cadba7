"""The stand-in for Market-1501: its plan, its files, going on where it stopped, and what it refuses."""

from __future__ import annotations

import fcntl
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_datasets.market1501 import NAME, PUBLISHED, market1501, market1501_protocol, market1501_val_protocol
from reidbench_datasets.market1501_standin import Picture, StandIn, counts, plan, synthesize
from reidbench_datasets.standin_tree import CARD, LOCK
from scipy.io import loadmat

from reidbench import DataError, OptionError
from reidbench.plugins.catalogue import load

SMALL = {"identities": 8, "distractors": 6, "seed": 3}
FULL = StandIn(identities=1501, distractors=0, seed=0)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small stand-in, whole."""
    folder = tmp_path_factory.mktemp("standin") / "below" / "tree"
    steps = list(synthesize(folder, **SMALL))
    total = len(plan(StandIn(**SMALL)))
    assert steps == [(done, total) for done in range(total + 1)]
    return folder


@pytest.fixture(scope="module")
def full() -> list[Picture]:
    return plan(FULL)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def by_folder(pictures: list[Picture]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for picture in pictures:
        folders.setdefault(picture.shot.folder, []).append(picture.name)
    return folders


# The plan


def test_by_default_every_folder_holds_as_many_images_as_the_real_one(full: list[Picture]) -> None:
    assert counts(full) == PUBLISHED
    assert {folder: len(names) for folder, names in by_folder(full).items()} == {
        "bounding_box_train": 12936,
        "bounding_box_test": 19732,
        "query": 3368,
        "gt_bbox": 25259,
    }


def test_the_full_plan_looks_like_the_real_data_and_has_other_names(full: list[Picture]) -> None:
    train = Counter(picture.shot.pid for picture in full if picture.shot.folder == "bounding_box_train")
    assert min(train.values()) >= 2
    assert 2 <= sum(count < 4 for count in train.values()) <= 50, "some identities have fewer images than K = 4"
    assert max(train.values()) > 40
    assert all(NAME.fullmatch(name) for folder in by_folder(full).values() for name in folder)


@settings(max_examples=25, deadline=None)
@given(identities=st.integers(4, 90), distractors=st.integers(0, 20), seed=st.integers(0, 2**40))
def test_a_plan_of_any_size_is_a_market(identities: int, distractors: int, seed: int) -> None:
    standin = StandIn(identities, distractors, seed)
    pictures = plan(standin)
    folders = by_folder(pictures)
    assert all(names == sorted(set(names)) for names in folders.values())
    found = counts(pictures)
    assert found["train_identities"] == identities - identities // 2
    assert found["query_identities"] == identities // 2
    for name in ("train", "query", "junk", "distractors"):
        assert found[name] == round(PUBLISHED[name] * identities / 1501)
    assert len(folders.get("images", [])) == distractors
    people = {part: {p.shot.pid for p in pictures if p.shot.folder == part} for part in ("bounding_box_train", "query")}
    assert people["bounding_box_train"].isdisjoint(people["query"])
    assert people["bounding_box_train"] | people["query"] == set(range(1, identities + 1))
    seen = {(p.shot.pid, p.shot.camera) for p in pictures if p.shot.folder == "bounding_box_test"}
    for query in (p.shot for p in pictures if p.shot.folder == "query"):
        assert any(pid == query.pid and camera != query.camera for pid, camera in seen)
    assert set(folders["query"]) <= set(folders["gt_bbox"])
    assert all(name.endswith("_00.jpg") for name in folders["gt_bbox"])
    assert plan(standin) == pictures
    assert plan(StandIn(identities, distractors, seed + 1)) != pictures


def test_a_hand_drawn_box_shows_what_its_detected_twin_shows(full: list[Picture]) -> None:
    detected = {
        (p.shot.pid, p.shot.camera, p.sequence, p.frame): p.shot.image
        for p in full
        if p.shot.folder not in ("gt_bbox", "query") and p.shot.pid > 0
    }
    drawn = [p for p in full if p.shot.folder == "gt_bbox" and p.shot.image]
    assert len(drawn) > 10_000
    assert all(detected[p.shot.pid, p.shot.camera, p.sequence, p.frame] == p.shot.image for p in drawn)


# The tree


def test_the_tree_is_what_the_data_set_reads(tree: Path) -> None:
    split = market1501(tree)
    assert split.counts == split.expected
    assert not split.ignored
    planned = by_folder(plan(StandIn(**SMALL)))
    assert {path.name for path in tree.iterdir()} == {*planned, "gt_query", CARD, LOCK}
    for folder, expected in planned.items():
        assert names(tree / folder) == expected


def test_images_are_jpeg_files_of_128_by_64_that_differ(tree: Path) -> None:
    contents = [path.read_bytes() for path in sorted((tree / "bounding_box_test").iterdir())]
    assert len(set(contents)) == len(contents)
    for content in contents[::10]:
        assert simplejpeg.decode_jpeg(content).shape == (128, 64, 3)


def test_a_stand_in_is_told_from_the_real_data(tree: Path) -> None:
    split = market1501(tree)
    for part, digest in market1501_protocol().names.items():
        assert getattr(split, part).name_digest != digest
    held = market1501(tree, holdout=0.4)
    assert (held.train + held.gallery).name_digest != market1501_val_protocol().names["train+gallery"]
    card = json.loads((tree / CARD).read_text())
    assert "stand-in" in card["what"]
    assert card["options"] == SMALL


def test_ground_truth_agrees_with_the_names(tree: Path) -> None:
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
        wanted_good = [place for place, (p, c) in enumerate(labels, 1) if p == pid and c != camera]
        wanted_junk = [place for place, (p, c) in enumerate(labels, 1) if p == -1 or (p == pid and c == camera)]
        assert good[0].tolist() == wanted_good
        assert sorted(junk[0].tolist()) == wanted_junk


def test_it_is_registered_under_the_name_of_its_data_set(tmp_path: Path) -> None:
    steps = load().resolve("synthesizer", "market1501(identities=4)").build(tmp_path)
    assert next(iter(steps)) == (0, len(plan(StandIn(4, 0, 0))))


# Going on


def test_killed_and_called_again_it_goes_on_where_it_stopped(tree: Path, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from reidbench_datasets.market1501_standin import synthesize\n"
        f"for done, _ in synthesize(Path(sys.argv[1]), **{SMALL}):\n"
        "    if done == 150: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    folder = tmp_path / "tree"
    ended = subprocess.run([sys.executable, "-c", script, folder], timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    assert len(before) >= 150
    steps = list(synthesize(folder, **SMALL))
    assert steps[0][0] == len([path for path in before if not path.name.startswith(".")])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert files(folder) == files(tree)


def test_an_unfinished_tree_is_not_taken_for_a_whole_one(tree: Path, tmp_path: Path) -> None:
    steps = synthesize(tmp_path, **SMALL)
    whole = market1501(tree).counts
    for done, total in steps:
        if done == total - 1:
            break
    steps.close()  # type: ignore[attr-defined]
    left = sorted((tmp_path / "bounding_box_train").iterdir())
    left[0].unlink()
    left[1].write_bytes(b"")
    split = market1501(tmp_path)
    assert split.expected == whole
    assert split.counts["train"] < whole["train"]
    assert [done for done, _ in synthesize(tmp_path, **SMALL)][-1] == total
    assert files(tmp_path) == files(tree)


def test_nothing_is_drawn_where_all_is_there(tree: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*.*")}
    ((done, total),) = synthesize(tree, **SMALL)
    assert done == total
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*.*")} == before


# What it refuses


@pytest.mark.parametrize(
    "options", [{"identities": 3}, {"identities": 10_000}, {"distractors": -1}, {"distractors": 500_001}]
)
def test_numbers_out_of_range_are_refused(options: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"got .*{next(iter(options))}={next(iter(options.values()))}"):
        synthesize(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", SMALL)
def test_other_options_on_one_folder_are_refused(name: str, tree: Path) -> None:
    other = {**SMALL, name: SMALL[name] + 1}
    with pytest.raises(DataError, match=rf"begun with other options.*{name}={SMALL[name]}.*{name}={other[name]}"):
        next(synthesize(tree, **other))


def begun(folder: Path, **changed: int) -> None:
    next(synthesize(folder, **SMALL))
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, **changed}))


def test_a_folder_begun_by_another_version_is_refused(tmp_path: Path) -> None:
    begun(tmp_path, drawing_version=0)
    with pytest.raises(DataError, match="begun by another version"):
        next(synthesize(tmp_path, **SMALL))


def test_a_damaged_card_is_refused(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text("{")
    with pytest.raises(DataError, match=r"STANDIN\.json: cannot be read"):
        next(synthesize(tmp_path, **SMALL))


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "query").mkdir()
    with pytest.raises(DataError, match=r"holds something else already \(query\)"):
        next(synthesize(tmp_path, **SMALL))
    assert [path.name for path in tmp_path.iterdir()] == ["query"]


def test_two_do_not_draw_into_one_folder(tmp_path: Path) -> None:
    begun(tmp_path)
    with (tmp_path / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is drawing"):
            next(synthesize(tmp_path, **SMALL))


@pytest.mark.parametrize("blocked", ["", "gt_query", "gt_bbox"])
def test_a_folder_that_cannot_be_written_is_an_error_with_advice(blocked: str, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    if blocked:
        begun(folder)
    (folder / blocked if blocked else folder).write_text("in the way")
    with pytest.raises(DataError, match=r"could not be drawn there: .*; make room .* goes on where it stopped"):
        list(synthesize(folder, **SMALL))


@pytest.mark.slow
def test_the_full_stand_in_is_counted_as_the_real_data(tmp_path: Path) -> None:
    *_, (done, total) = synthesize(tmp_path)
    assert done == total == 12936 + 19732 + 3368 + 25259
    split = market1501(tmp_path)
    assert split.counts == split.expected == PUBLISHED
    assert len(list((tmp_path / "gt_query").iterdir())) == 6736
