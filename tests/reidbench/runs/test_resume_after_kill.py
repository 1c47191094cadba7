"""A run killed at ten moments, its pixels or checkpoints half written, ends as an undisturbed one."""

import os
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest

from reidbench.training.checkpoint import latest_step
from tests.support.jobs import SMALL_RECIPE, small_run
from tests.support.logs import assert_same_log, outcome

STEPS = 300  # enough that none of the kills comes too late, however busy the machine
KILLS = 10


def begin(asked, folder):
    """Start a run with results and cache of its own, writing its state after every step."""
    folders = {"REIDBENCH_RESULTS": str(folder / "results"), "REIDBENCH_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "reidbench", *asked, "--checkpoint-seconds", "0"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | folders,
    )  # fmt: skip


def wait(process, reached):
    for _ in range(300_000):
        if reached():
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.001)
    raise AssertionError("it never came so far")


def step_of(folder):
    return max((latest_step(place) for place in (folder / "results").glob("trainings/*")), default=0)


def asides(folder, pattern):
    """Return the files that are being written aside, each with its time of change."""
    found = set()
    for file in folder.rglob(pattern):
        with suppress(FileNotFoundError):
            found.add((file, file.stat().st_mtime_ns))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["batch_hard", "triplet_ohm(pool=60, refresh=25)"])
def test_ten_kills_leave_no_trace(loss, tmp_path):
    asked = small_run("--loss", loss)
    asked[asked.index(SMALL_RECIPE)] = f"quick(steps={STEPS}, p=6, k=3)"
    drawn = np.random.default_rng(0)
    killed = tmp_path / "killed"
    torn = dict.fromkeys(("cache", "results"), 0)
    for number in range(KILLS):
        # Two kills in the middle of the cache, four in the middle of a checkpoint, the others anywhere.
        place, pattern = ("cache", ".*.pixels.*.tmp") if number < 2 else ("results", ".checkpoint-*.tmp")
        left = asides(killed / place, pattern)
        process = begin(asked, killed)
        if number >= 2:
            target = step_of(killed) + int(drawn.integers(1, 10))
            wait(process, lambda target=target: step_of(killed) >= target)
        if number < 6:
            wait(process, lambda place=place, pattern=pattern, left=left: bool(asides(killed / place, pattern) - left))
        else:
            time.sleep(drawn.random() * 0.05)
        process.kill()
        process.communicate()
        torn[place] += bool(asides(killed / place, pattern) - left)
    assert torn["cache"]
    assert torn["results"]
    assert 0 < step_of(killed) < STEPS
    for folder in (killed, tmp_path / "undisturbed"):
        process = begin(asked, folder)
        said = process.communicate()[1]
        assert process.returncode == 0, said
        assert ("resumed at step" in said) == (folder == killed)
    assert outcome(killed) == outcome(tmp_path / "undisturbed")
    places = [next((folder / "results" / "trainings").iterdir()) for folder in (killed, tmp_path / "undisturbed")]
    assert_same_log(*places)
