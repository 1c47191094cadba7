"""Validation protocols: the options of the protocol, held-out identities of each search, never those of the test."""

from dataclasses import replace

import numpy as np
import pytest

from reidbench import Protocol, Split
from reidbench.errors import DataError, OptionError
from reidbench.plugins.catalogue import Catalogue, load
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.plugins.options import files_below
from reidbench.runs.job import build_protocol, resolve_dataset
from reidbench.studies.search import check_validation, validation_protocol
from reidbench.training.build import build_split
from tests.support.cases import cases
from tests.support.jobs import SMALL_PROTOCOL


def split_of(protocol, data):
    built = build_protocol(load().resolve("protocol", protocol))
    return build_split(resolve_dataset(built.dataset, load()), data)


def test_a_protocol_becomes_its_variant_with_the_same_options(tmp_path):
    (tmp_path / "list.csv").write_text("path,pid,split\n")
    variants = cases(__file__, "variants")
    with files_below(tmp_path):
        for protocol, validation in ((text.format(folder=tmp_path) for text in pair) for pair in variants):
            assert validation_protocol(protocol, 3, load()) == validation
            assert load().resolve("protocol", validation).terms[0].values["holdout_seed"] == 3


def theirs(*, size: int = 4, colour: str = "red") -> Protocol:
    return Protocol("synthetic", 1, "quick", "center")


def theirs_val(*, size: int = 4, holdout_seed: int = 0) -> Protocol:
    return Protocol("synthetic", 1, "quick", "center")


def test_what_a_variant_lacks_is_an_error_that_says_what_to_do():
    plugin = Plugin("somebody", "somebodys-data", "1", state="ok")
    factories = {"theirs": theirs, "theirs_val": theirs_val, "bare": theirs, "bare_val": theirs}
    items = tuple(PluginItem("protocol", name, factory, plugin) for name, factory in factories.items())
    catalogue = Catalogue((plugin,), (*load().items, *items))
    assert validation_protocol("theirs(size=5)", 1, catalogue) == "theirs_val(size=5, holdout_seed=1)"
    for protocol, words in {
        "theirs(colour=blue)": ("theirs_val", "colour", "somebodys-data", "--trials 0"),
        "bare": ("bare_val", "holdout_seed", "--trials 0"),
        "market1501_500k": ("market1501_500k_val", "synthetic, theirs", "--trials 0"),
        "synthetic_val": ("synthetic_val_val", "--trials 0"),
    }.items():
        with pytest.raises(OptionError) as caught:
            validation_protocol(protocol, 0, catalogue)
        assert all(word in str(caught.value) for word in words), caught.value


def test_searches_hold_out_different_identities_and_never_see_the_test(data_folder):
    test = split_of(SMALL_PROTOCOL, data_folder)
    tested = {int(pid) for part in (test.query, test.gallery) for pid in part.pids if pid > 0}
    held_out = []
    for search in range(4):
        validation = split_of(validation_protocol(SMALL_PROTOCOL, search, load()), data_folder)
        seen = {int(pid) for part in validation.parts for pid in part.pids}
        assert seen == {int(pid) for pid in test.train.pids}
        assert not seen & tested
        check_validation(validation, test, "synthetic_val")
        held_out.append(tuple(sorted({int(pid) for pid in validation.gallery.pids})))
    assert len(set(held_out)) == 4


def test_data_that_share_anything_with_the_test_are_refused(data_folder):
    test = split_of(SMALL_PROTOCOL, data_folder)
    with pytest.raises(DataError, match=r"mine_val: .* images are in the test"):
        check_validation(Split(test.train, test.query, test.train), test, "mine_val")
    other_images = replace(test.train, pids=np.full_like(test.train.pids, test.query.pids[0]))
    with pytest.raises(DataError, match=rf"mine_val: 1 of its identities are in the test.*: {test.query.pids[0]};"):
        check_validation(Split(other_images, test.train, test.train), test, "mine_val")
