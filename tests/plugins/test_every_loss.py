"""Each loss of the suite of all losses trains and is scored."""

import pytest

from reidbench.plugins.catalogue import load
from reidbench.runs.suite import find_suite, load_suite
from tests.support.jobs import job, run

LOSSES = [each.loss for each in load_suite(find_suite("losses")).jobs]


def test_the_suite_has_every_loss_but_most_of_pml():
    named = {entry.name for loss in LOSSES for entry in load().resolve("loss", loss).plugin_items}
    own = {entry.name for entry in load().list_items("loss") if entry.plugin.distribution == "reidbench"}
    assert {name for name in own if "/" not in name} - {"contrastive"} <= named, "all but that of pairs of images"
    assert any("/" in name for name in named)
    assert "none" in LOSSES


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "none"])
def test_a_few_steps_are_trained_and_scored(loss, tmp_path):
    _, record, _ = run(job(loss=loss, recipe="quick(steps=3, p=6, k=4)"), results=tmp_path)
    assert record.status in ("ok", "collapsed"), record.error
    assert 0 < record.scores["map_market"] < 1
