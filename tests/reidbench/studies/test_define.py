"""The definition of a study: from options and from a file, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from reidbench.errors import OptionError
from reidbench.studies.define import define_study
from tests.support.cases import cases

FILE = cases(__file__, "file")


@pytest.fixture
def file(tmp_path):
    (tmp_path / "mine.toml").write_text(FILE)
    return str(tmp_path / "mine.toml")


def define(numbers=None, **choices):
    return define_study(None, {"loss": ["batch_hard", "batch_all"], **choices, **(numbers or {})})


def test_a_study_has_five_searches_and_the_untrained_network():
    study = define()
    assert (study.trials, study.seeds, study.searches) == (5, 5, 5)
    assert study.losses == ("batch_hard", "batch_all", "none")
    assert study.metrics == ("euclidean", "cosine")
    assert [study.search_of(seed) for seed in range(3)] == [0, 1, 2]
    one = define({"searches": 1})
    assert [one.search_of(seed) for seed in range(3)] == [0, 0, 0]
    assert define({"trials": 0}).metrics == ("auto",)
    assert define({"trials": 0}).searches == 0


def test_a_file_defines_a_study_and_options_replace_its_numbers(file):
    study = define_study(file, {})
    assert (study.losses, study.metrics) == (("batch_hard", "batch_all", "none"), ("cosine",))
    assert (study.trials, study.seeds, study.searches, study.hours, study.name) == (3, 5, 1, 2, "mine")
    assert study.given == ("trials",)
    other = define_study(file, {"seeds": 2}, "less")
    assert (other.protocol, other.seeds, other.given) == ("synthetic(identities=20)", 2, ("trials", "seeds"))
    assert replace(study, name="other").digest == study.digest != other.digest
    Path(file).write_text(FILE.replace("[study]", '[data]\nmade = "market1501"\n[study]'))
    with pytest.raises(OptionError, match="data: a study writes none"):
        define_study(file, {})
    Path(file).write_text(FILE)
    with pytest.raises(OptionError, match="already defines"):
        define_study(file, {"loss": ["batch_hard"]})


def test_names_of_one_function_are_two_losses():
    two = ("batch_hard", "batch_hard(margin=soft)")
    assert define(loss=[*two, "batch_hard"]).losses == (*two, "none")


@pytest.mark.parametrize(
    ("numbers", "choices", "words"), [*cases(__file__, "mistakes_are_named"), ({"seed": 2**63}, {}, ["seed"])]
)
def test_mistakes_are_named(numbers, choices, words):
    with pytest.raises(OptionError) as raised:
        define(numbers, **choices)
    assert all(word in str(raised.value) for word in words)


def test_seeds_of_a_suite_are_no_seeds_of_a_study(tmp_path):
    (tmp_path / "mine.toml").write_text("seed = [0, 1]\n[study]\n")
    with pytest.raises(OptionError, match="seeds"):
        define_study(str(tmp_path / "mine.toml"), {})
