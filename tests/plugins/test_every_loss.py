"""The suite of all losses, and the built-in ones in a few steps; test_pml.py trains those of the library."""

import re

import pytest

from reidbench.plugins.catalogue import load
from reidbench.runs.suite import find_suite, load_suite
from tests.support.jobs import job, run
from tests.support.paths import CHECKOUT

LOSSES = list(dict.fromkeys(each.loss for each in load_suite(find_suite("losses")).jobs))


def test_the_suite_has_every_loss():
    named = {entry.name for loss in LOSSES for entry in load().resolve("loss", loss).plugin_items}
    available = {entry.name for entry in load().list_items("loss") if entry.plugin.distribution == "reidbench"}
    assert available - named == {"contrastive"}, "for networks that compare pairs of images"
    assert "none" in LOSSES


def test_the_page_has_a_row_for_each_loss():
    page = (CHECKOUT / "docs" / "losses" / "trained.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `([^`]+)`.*\| (?:ok|collapsed|failed) \|", page, re.MULTILINE)) == sorted(LOSSES)


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "none" and not loss.startswith("pml/")])
def test_a_few_steps_are_trained_and_scored(loss, tmp_path):
    _, record, _ = run(job(loss=loss, recipe="quick(steps=3, p=6, k=4)"), results=tmp_path)
    assert record.status in ("ok", "collapsed"), record.error
    assert 0 < record.scores["map_market"] < 1
