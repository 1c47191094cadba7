"""What is searched of a loss, and the text of the table in docs/study.md."""

import re

import pytest

from reidbench.plugins.catalogue import Catalogue, load
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.plugins.options import Searched
from reidbench.runs.job import resolve
from reidbench.studies.search import MOST_DIMENSIONS, SearchSpace, search_space
from tests.support.jobs import job
from tests.support.search_table import documented_table, search_table


def space_of(loss: str, catalogue: Catalogue | None = None, **items: str) -> SearchSpace:
    return search_space(resolve(job(loss=loss, **items), catalogue or load()))


def with_loss(factory, version: str = "1") -> Catalogue:
    plugin = Plugin("somebody", "somebodys-losses", version, state="ok")
    installed = load()
    return Catalogue(installed.plugins, (*installed.items, PluginItem("loss", "theirs", factory, plugin)))


def test_every_loss_gets_the_learning_rate_and_its_declared_options():
    assert space_of("batch_hard").text == "learning_rate: 0.0001 to 0.01 (log)\nmargin: soft, 0.1, 0.2, 0.5, 1.0"
    rates = {
        space_of(loss, recipe=recipe).dimensions[0].searched
        for loss in ("lmnn", "pml/ArcFaceLoss", "triplet")
        for recipe in ("quick", "quick(steps=7)")
    }
    assert rates == {Searched(0.0001, 0.01, log=True)}


@pytest.mark.parametrize(("weights", "rate"), [("none", "0.0001 to 0.01"), ("imagenet", "3e-05 to 0.003")])
def test_the_rate_is_searched_around_the_one_that_the_network_gets(weights, rate):
    space = space_of("batch_hard", backbone=f"resnet50(weights={weights})", recipe="hermans2017")
    assert space.text.startswith(f"learning_rate: {rate} (log)\n")
    assert space_of("batch_hard", recipe="ide").text.startswith("learning_rate: 0.1 to 10 (log)\n")


def test_what_is_given_is_not_searched():
    space = space_of("batch_hard(margin=soft)")
    assert [dimension.name for dimension in space.dimensions] == ["learning_rate"]
    assert re.search(r"given: margin", " ".join(space.notes))
    space = space_of("batch_hard(margin=0.3)", recipe="quick(learning_rate=0.002)")
    assert space.dimensions == ()
    assert "learning rate" in space.notes[0]
    assert "nothing is searched" in space.notes[-1]
    space = space_of("none")
    assert (space.dimensions, space.notes, space.text) == ((), (), "")


def test_a_sum_is_searched_in_its_weights_and_the_options_of_its_terms():
    space = space_of("2*batch_hard + 0.5*classification(dropout=0.1) + batch_hard(distance=cosine)")
    assert space.text.splitlines() == [
        "learning_rate: 0.0001 to 0.01 (log)",
        "weight of classification: 0.05 to 5 (log)",
        "weight of batch_hard:2: 0.1 to 10 (log)",
        "batch_hard.margin: soft, 0.1, 0.2, 0.5, 1.0",
        "classification.label_smoothing: 0 to 0.2",
        "batch_hard:2.margin: soft, 0.1, 0.2, 0.5, 1.0",
    ]
    assert space.notes == ("not searched, since given: classification.dropout",)


def test_a_long_sum_leaves_out_its_last_options_and_says_so():
    space = space_of("pml/MultiSimilarityLoss + improved_triplet + pml/SoftTripleLoss")
    assert len(space.dimensions) == MOST_DIMENSIONS
    names = [dimension.name for dimension in space.dimensions]
    assert names[:3] == ["learning_rate", "weight of improved_triplet", "weight of pml/SoftTripleLoss"]
    assert all(name in space.notes[-1] for name in ("improved_triplet.tau", "la", "gamma", "pml/SoftTripleLoss.margin"))


def test_a_loss_without_ranges_gets_the_rate_and_a_note():
    def theirs(info, *, margin: float = 0.1) -> None: ...

    space = space_of("theirs", with_loss(theirs))
    assert space.text == "learning_rate: 0.0001 to 0.01 (log)"
    assert any("theirs declares no option to search" in note for note in space.notes)


def test_the_docs_show_what_is_declared():
    assert documented_table() == search_table(), "rewrite it: python -m tests.support.search_table"
