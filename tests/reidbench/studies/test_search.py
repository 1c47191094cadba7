"""The trials of a search: points of scipy's sequence, independent of everything but four arguments."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from reidbench.plugins.catalogue import load
from reidbench.plugins.options import Searched
from reidbench.plugins.spec import Spec
from reidbench.runs.job import resolve
from reidbench.studies.search import search_space, trial, trial_seed, trial_values, value_at
from reidbench.utils.random_streams import stream_key
from tests.support.jobs import job

LOSSES = ("batch_hard", "2*pml/CircleLoss(gamma=100) + 0.5*classification", "pml/LargeMarginSoftmaxLoss")


@pytest.fixture(scope="module")
def spaces():
    return {loss: search_space(resolve(job(loss=loss), load())) for loss in LOSSES}


def test_the_first_trial_has_the_options_as_given(spaces):
    for loss, space in spaces.items():
        assert trial(space, 3, 1, 1) == (loss, job().recipe)


def test_the_others_are_points_of_scipys_scrambled_sobol_sequence(spaces):
    space = spaces[LOSSES[1]]
    points = qmc.Sobol(5, scramble=True, rng=stream_key(7, "search", 2, space.stream)).random_base2(3)
    for number, (rate, weight, m, smoothing, dropout) in enumerate(points, start=2):
        values = trial_values(space, 7, 2, number)
        expected = [1e-4 * 100**rate, 0.05 * 100**weight, 0.1 + 0.5 * m, 0.2 * smoothing, 0.5 * dropout]
        np.testing.assert_allclose(list(values.values()), expected, rtol=5.1e-3)  # three digits


def test_a_trial_is_a_function_of_its_four_arguments(spaces):
    space = spaces["batch_hard"]
    forwards = [trial(space, 0, 0, number) for number in range(1, 12)]
    assert [trial(space, 0, 0, number) for number in range(11, 0, -1)] == forwards[::-1]
    assert len(set(forwards)) == 11
    others = [(1, 0, 2), (0, 1, 2), (0, 0, 3)]
    assert len({forwards[1], *(trial(space, *arguments) for arguments in others)}) == 4
    assert len({trial_values(each, 0, 0, 2)["learning_rate"] for each in spaces.values()}) == len(spaces)


def test_choices_and_digits_are_equally_likely(spaces):
    values = [trial_values(spaces["batch_hard"], 0, search, number) for search in range(64) for number in range(2, 10)]
    margins = [value["margin"] for value in values]
    counts = [margins.count(margin) for margin in ("soft", 0.1, 0.2, 0.5, 1.0)]
    assert sum(counts) == 512
    assert min(counts) > 80
    below = sum(value["learning_rate"] < 1e-3 for value in values)
    assert below == pytest.approx(256, abs=3)  # half of each eight points: the sequence is balanced


@settings(max_examples=60)
@given(seed=st.integers(0, 2**40), search=st.integers(0, 50), number=st.integers(2, 200), loss=st.sampled_from(LOSSES))
def test_trials_are_valid_specs_inside_the_ranges(spaces, seed, search, number, loss):
    space = spaces[loss]
    texts = trial(space, seed, search, number)
    resolved = resolve(job(loss=texts[0], recipe=texts[1]), load())
    for text, kind in zip(texts, ("loss", "recipe"), strict=True):
        assert str(Spec.parse(text)) == text
        assert resolved.items[kind].given == text
    values = trial_values(space, seed, search, number)
    for dimension in space.dimensions:
        searched, value = dimension.searched, values[dimension.name]
        assert value in searched.choices if searched.choices else searched.low <= value <= searched.high
    if loss == LOSSES[1]:
        assert resolved.items["loss"].terms[0].values["gamma"] == 100
        assert resolved.items["loss"].terms[0].values["m"] == values["pml/CircleLoss.m"]
        assert resolved.items["loss"].terms[1].weight == values["weight of classification"]
    assert f"learning_rate={values['learning_rate']}" in texts[1]


@given(st.floats(1e-6, 1e6), st.floats(1.001, 1e6), st.booleans(), st.floats(0, 1, exclude_max=True))
def test_values_stay_inside_and_follow_the_scale(low, factor, log, share):
    high = low * factor
    value = value_at(Searched(low, high, log), share)
    assert low <= value <= high
    exact = math.exp(math.log(low) + share * math.log(factor)) if log else low + share * (high - low)
    assert value == pytest.approx(exact, rel=0.0051)
    digits = f"{value:.12g}".partition("e")[0].replace(".", "").strip("0")
    assert len(digits) <= 3 or value in (low, high)


@given(low=st.integers(1, 50), width=st.integers(1, 50), log=st.booleans(), share=st.floats(0, 1, exclude_max=True))
def test_whole_limits_give_whole_numbers(low, width, log, share):
    value = value_at(Searched(low, low + width, log), share)
    assert type(value) is int
    assert low <= value <= low + width
    shares = (np.arange(600) + 0.5) / 600
    counts = np.bincount([value_at(Searched(2, 4), each) for each in shares])
    assert counts.tolist() == [0, 0, 200, 200, 200]


def test_seeds_of_trials_are_no_final_seeds_and_all_different():
    seeds = [trial_seed(study, search) for study in (0, 1, 2, 1000) for search in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 10_000
