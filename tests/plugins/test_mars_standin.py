"""The stand-in for MARS: its plan, its files, going on where it stopped, what it refuses, and a training on it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_datasets.mars import CARD, NAME, mars, mars_protocol
from reidbench_datasets.mars_standin import StandIn, plan, synthesize

from reidbench import DataError, OptionError
from reidbench.data.inspection import inspect
from reidbench.plugins.catalogue import load
from tests.support.jobs import job, run

SMALL = {"identities": 6, "frames": 3, "seed": 3}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small stand-in, whole."""
    folder = tmp_path_factory.mktemp("standin") / "mars"
    steps = list(synthesize(folder, **SMALL))
    total = len(plan(StandIn(**SMALL)).pictures())
    assert steps == [(done, total) for done in range(total + 1)]
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# The plan


@settings(max_examples=15, deadline=None)
@given(identities=st.integers(4, 60), frames=st.integers(2, 9), seed=st.integers(0, 2**40))
def test_a_plan_of_any_size_is_a_mars(identities: int, frames: int, seed: int) -> None:
    planned = plan(StandIn(identities, frames, seed))
    names = [picture.name for picture in planned.pictures()]
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) for name in names)
    train, test = ({t.pid for t in part if t.pid > 0} for part in (planned.train, planned.test))
    assert train.isdisjoint(test)
    assert train | test == set(range(1, identities + 1))
    assert min(t.frames for t in (*planned.train, *planned.test)) >= 2
    for part in (planned.train, planned.test):
        assert sum(t.frames for t in part) == frames * len(part)
        assert [(t.pid, t.camera, t.tracklet) for t in part] == sorted((t.pid, t.camera, t.tracklet) for t in part)
    asked = [(planned.test[place].pid, planned.test[place].camera) for place in planned.asked]
    seen = {(t.pid, t.camera) for t in planned.test if t.pid > 0}
    assert sorted(asked) == sorted(seen), "one query for each identity and camera"
    assert all(len({camera for p, camera in seen if p == pid}) >= 2 for pid, _ in asked)
    shots = [picture.shot for picture in planned.pictures()]
    assert len({(s.kind, s.number, s.camera, s.image) for s in shots}) == len(shots), "no picture is drawn twice"


def test_the_plan_is_the_seeds() -> None:
    assert plan(StandIn(9, 4, 5)) == plan(StandIn(9, 4, 5))
    assert plan(StandIn(9, 4, 5)) != plan(StandIn(9, 4, 6))


def test_the_real_size_is_about_that_of_the_real_data() -> None:
    planned = plan(StandIn(1259, 58, 0))
    assert (len(planned.train), len(planned.test)) == (8298, 12180)
    counts = planned.counts()
    assert (counts["junk"], counts["distractors"]) == (870, 3248)
    assert abs(counts["train"] + counts["gallery"] - 1_191_003) < 10_000
    assert max(t.frames for t in planned.test) <= 999
    assert 1700 < len(planned.asked) < 2100


# The tree


def test_the_tree_is_what_the_data_set_reads(tree: Path) -> None:
    split = mars(tree)
    assert split.counts == split.expected
    card = json.loads((tree / CARD).read_text())
    assert {name: len(getattr(split, name)) for name in ("query", "gallery")} == {
        name: card["tracklets"][name] for name in ("query", "gallery")
    }
    assert "stand-in" in card["what"]
    found = inspect(mars_protocol(), split)
    assert found.standin
    assert found.unmatched.total == 0
    assert len(split.digest) == 64, "every image is there"


def test_images_are_jpeg_files_of_128_by_64_that_differ(tree: Path) -> None:
    contents = [path.read_bytes() for path in sorted(tree.rglob("*.jpg"))]
    assert len(set(contents)) == len(contents)
    for content in contents[::25]:
        assert simplejpeg.decode_jpeg(content).shape == (128, 64, 3)


def test_it_is_registered_under_the_name_of_its_data_set(tmp_path: Path) -> None:
    steps = load().resolve("synthesizer", "mars(identities=4, frames=2)").build(tmp_path)
    assert next(iter(steps)) == (0, len(plan(StandIn(4, 2, 0)).pictures()))


# Going on


def test_killed_and_called_again_it_goes_on_where_it_stopped(tree: Path, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from reidbench_datasets.mars_standin import synthesize\n"
        f"for done, _ in synthesize(Path(sys.argv[1]), **{SMALL}):\n"
        "    if done == 100: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    folder = tmp_path / "mars"
    ended = subprocess.run([sys.executable, "-c", script, folder], timeout=240, check=False)
    assert ended.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    assert len(before) >= 100
    with pytest.raises(DataError, match=r"finished by: reidbench data synthesize mars|no tree with the folders"):
        mars(folder)
    steps = list(synthesize(folder, **SMALL))
    assert steps[0][0] == len(before)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert files(folder) == files(tree)


def test_what_is_gone_is_drawn_again_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    list(synthesize(tmp_path, **SMALL))
    (tmp_path / "info" / "query_IDX.mat").unlink()
    lost = next((tmp_path / "bbox_train").rglob("*.jpg"))
    lost.write_bytes(b"")
    assert [done for done, _ in synthesize(tmp_path, **SMALL)][1:] == [len(plan(StandIn(**SMALL)).pictures())]
    assert files(tmp_path) == files(tree)


# What it refuses


@pytest.mark.parametrize("options", [{"identities": 3}, {"identities": 1260}, {"frames": 1}, {"frames": 101}])
def test_numbers_out_of_range_are_refused(options: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"got .*{next(iter(options))}={next(iter(options.values()))}"):
        synthesize(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", SMALL)
def test_other_options_on_one_folder_are_refused(name: str, tree: Path) -> None:
    other = {**SMALL, name: SMALL[name] + 1}
    with pytest.raises(DataError, match=rf"begun with other options.*{name}={SMALL[name]}.*{name}={other[name]}"):
        next(synthesize(tree, **other))


def test_a_folder_that_cannot_be_written_is_an_error_with_advice(tmp_path: Path) -> None:
    folder = tmp_path / "mars"
    next(synthesize(folder, **SMALL))
    (folder / "bbox_train").write_text("in the way")
    with pytest.raises(DataError, match=r"could not be drawn there: .*; make room .* goes on where it stopped"):
        list(synthesize(folder, **SMALL))


# From end to end


def test_a_small_network_is_trained_and_scored_on_it(tree: Path) -> None:
    for protocol, unmatched in (("mars(views=original)", 0), ("mars_val(holdout=1)", None)):
        asked = job(protocol=protocol, backbone="tiny(height=32, width=16)", recipe="quick(steps=2, p=2, k=3)")
        plan_, record, _ = run(asked, data=tree)
        assert record.status == "ok"
        assert record.standin
        assert record.scores["queries"] == len(plan_.split.query)
        assert unmatched in (None, record.scores["unmatched"])
        assert 0 < record.scores["map_market"] <= record.scores["map_step"] <= 1
