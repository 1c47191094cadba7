"""Each loss of the suite of all losses trains repeatably: log, weights and scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from reidbench.plugins.catalogue import load
from reidbench.runs.suite import find_suite, load_suite
from reidbench.training.checkpoint import WEIGHTS
from tests.support.jobs import job, run
from tests.support.logs import assert_same_log

LOSSES = [each.loss for each in load_suite(find_suite("losses")).jobs]


def test_the_suite_has_every_loss_but_most_of_pml() -> None:
    named = {entry.name for loss in LOSSES for entry in load().resolve("loss", loss).plugin_items}
    own = {entry.name for entry in load().list_items("loss") if entry.plugin.distribution == "reidbench"}
    assert {name for name in own if "/" not in name} - {"contrastive"} <= named, "all but that of pairs of images"
    assert any("/" in name for name in named)
    assert "none" in LOSSES


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "none"])
def test_a_few_steps_are_repeatable(loss: str, tmp_path: Path) -> None:
    small = job(loss=loss, recipe="quick(steps=5, p=6, k=4)")
    (first, one, _), (second, other, _) = (run(small, results=tmp_path / name) for name in ("first", "second"))
    assert one.status in ("ok", "collapsed"), one.error
    assert one.scores == other.scores
    assert (first.training_folder / WEIGHTS).read_bytes() == (second.training_folder / WEIGHTS).read_bytes()
    assert_same_log(first.training_folder, second.training_folder)
