"""Stand-in trees of every dataset: images, resuming, and what is refused."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import simplejpeg
from reidbench_datasets import market1501_standin, mars_standin
from reidbench_datasets.dataset_trees import CARD
from reidbench_datasets.market1501 import market1501
from reidbench_datasets.mars import mars
from reidbench_datasets.standin_tree import LOCK

from reidbench import DataError, OptionError, lock
from tests.support.cases import cases
from tests.support.trees import contents


class Case(NamedTuple):
    """A stand-in: its module, small options, the reader of its dataset, and folders that may be blocked."""

    module: Any
    options: dict[str, int]
    read: Callable[..., Any]
    blocked: tuple[str, ...]


CASES = {
    "market1501": Case(
        market1501_standin, {"identities": 8, "distractors": 6, "seed": 3}, market1501, ("gt_query", "gt_bbox")
    ),
    "mars": Case(mars_standin, {"identities": 6, "frames": 3, "seed": 3}, mars, ("bbox_train",)),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def tree(case, tmp_path_factory):
    """A small complete stand-in."""
    folder = tmp_path_factory.mktemp("standin") / "below" / "tree"
    steps = list(case.module.synthesize(folder, **case.options))
    total = len(list(folder.rglob("*.jpg")))
    assert steps == [(done, total) for done in range(total + 1)]
    return folder


def begin(case, folder, **changed):
    next(case.module.synthesize(folder, **case.options))
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, **changed}))


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file() and path.name != LOCK}


def test_the_dataset_finds_the_counts_of_the_card(tree, case):
    split = case.read(tree)
    assert split.counts == split.expected
    assert not split.ignored
    card = json.loads((tree / CARD).read_text())
    assert "stand-in" in card["what"]
    assert card["options"] == case.options


def test_images_are_different_jpegs_of_128_by_64(tree):
    images = [path.read_bytes() for path in sorted(tree.rglob("*.jpg")) if path.parent.name != "gt_bbox"]
    assert len(set(images)) == len(images)
    for image in images[::25]:
        assert simplejpeg.decode_jpeg(image).shape == (128, 64, 3)


def test_a_killed_call_is_resumed(tree, case, tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        f"from {case.module.__name__} import synthesize\n"
        f"for done, _ in synthesize(Path(sys.argv[1]), **{case.options}):\n"
        "    if done == 100: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    folder = tmp_path / "tree"
    ended = subprocess.run([sys.executable, "-c", script, folder], timeout=240, check=False)
    assert ended.returncode == -signal.SIGKILL
    before = {path: time for path, time in times(folder).items() if path.suffix == ".jpg"}
    assert len(before) >= 100
    steps = list(case.module.synthesize(folder, **case.options))
    assert steps[0][0] == len([path for path in before if not path.name.startswith(".")])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert contents(folder) == contents(tree)


def test_only_missing_and_empty_files_are_written(tree, case, tmp_path):
    folder = shutil.copytree(tree, tmp_path / "tree")
    images = sorted(folder.rglob("*.jpg"))
    total = len(images)
    images[0].unlink()
    images[1].write_bytes(b"")
    next(folder.rglob("*.mat")).unlink()
    before = times(folder)
    assert [done for done, _ in case.module.synthesize(folder, **case.options)] == [total - 2, total - 1, total]
    assert contents(folder) == contents(tree)
    after = times(folder)
    assert [path for path in before if after[path] != before[path]] == [images[1]]


@pytest.mark.parametrize(("name", "option", "value"), cases(__file__, "options_out_of_range_are_refused"))
def test_options_out_of_range_are_refused(name, option, value, tmp_path):
    with pytest.raises(OptionError, match=f"{name}: .*got .*{option}={value}"):
        CASES[name].module.synthesize(tmp_path / "new", **{option: value})
    assert not (tmp_path / "new").exists()


def test_other_options_on_one_folder_are_refused(tree, case):
    for option, value in case.options.items():
        with pytest.raises(DataError, match=rf"other options.*{option}={value}.*{option}={value + 1}"):
            next(case.module.synthesize(tree, **{**case.options, option: value + 1}))


def test_a_folder_of_another_version_is_refused(case, tmp_path):
    begin(case, tmp_path, drawing_version=0)
    with pytest.raises(DataError, match="another version"):
        next(case.module.synthesize(tmp_path, **case.options))


def test_a_damaged_card_is_refused(case, tmp_path):
    (tmp_path / CARD).write_text("{")
    with pytest.raises(DataError, match=r"STANDIN\.json: "):
        next(case.module.synthesize(tmp_path, **case.options))


def test_a_folder_with_other_content_is_unchanged(case, tmp_path):
    (tmp_path / "query").mkdir()
    with pytest.raises(DataError, match=r"is not empty \(query\)"):
        next(case.module.synthesize(tmp_path, **case.options))
    assert [path.name for path in tmp_path.iterdir()] == ["query"]


def test_two_processes_do_not_write_one_folder(case, tmp_path):
    begin(case, tmp_path)
    with lock(tmp_path / LOCK, "another call"), pytest.raises(DataError, match=r"in use .*\(another call\)"):
        next(case.module.synthesize(tmp_path, **case.options))


def test_a_folder_that_cannot_be_written_is_an_error(case, tmp_path):
    for number, blocked in enumerate(("", *case.blocked)):
        folder = tmp_path / str(number)
        if blocked:
            begin(case, folder)
        (folder / blocked if blocked else folder).write_text("in the way")
        with pytest.raises(DataError, match=rf"{folder}: cannot write .* images .*resume"):
            list(case.module.synthesize(folder, **case.options))
