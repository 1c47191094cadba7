"""The trials of a search: a function of the study's seed, the search, the loss and the trial's number alone."""

from __future__ import annotations

import math
from typing import Any

from scipy.stats import qmc

from reidbench.plugins.options import Searched
from reidbench.studies.search_space import SearchSpace, rounded, with_values
from reidbench.utils.random_streams import stream_key

FIRST_SEED = 10_000  # of trials; the final seeds are below


def trial(space: SearchSpace, study_seed: int, search: int, number: int) -> tuple[str, str]:
    """Return the specs of loss and recipe of a trial; number 1 is the options as given."""
    if number == 1:
        return str(space.loss), str(space.recipe)
    return with_values(space, trial_values(space, study_seed, search, number))


def trial_values(space: SearchSpace, study_seed: int, search: int, number: int) -> dict[str, Any]:
    """Return the searched values of a trial by the names of the dimensions; those of number 1 are the defaults.

    Trial i is point i - 2 of a Sobol sequence that is scrambled by the random stream of (study seed, search, loss), so
    that it depends neither on the other trials nor on their number.
    """
    if number == 1 or not space.dimensions:
        return {dimension.name: dimension.default for dimension in space.dimensions}
    key = stream_key(study_seed, "search", search, space.stream)
    sobol = qmc.Sobol(len(space.dimensions), scramble=True, rng=key)
    index = number - 2
    point = sobol.random_base2(index.bit_length())[index]
    return {
        dimension.name: value_at(dimension.searched, float(share))
        for dimension, share in zip(space.dimensions, point, strict=True)
    }


def value_at(searched: Searched, share: float) -> Any:
    """Return the value at a share from 0 to below 1 of what is searched, rounded to three significant digits.

    Choices are equally likely; so are the whole numbers of a range whose limits are whole, unless it is a log range.
    """
    if searched.choices:
        return searched.choices[int(share * len(searched.choices))]
    low, high = searched.low, searched.high
    assert low is not None
    assert high is not None
    whole = type(low) is type(high) is int
    if whole:
        low, high = low - 0.5, high + 0.5
    value = low * (high / low) ** share if searched.log else low + share * (high - low)
    if whole:
        return min(max(round(value), math.ceil(low)), math.floor(high))
    return min(max(rounded(value), low), high)


def trial_seed(study_seed: int, search: int) -> int:
    """Return the seed of the trainings of a search's trials: the same for all losses, and never that of a final run.

    All trials of a search share it, so that their options are compared under the same initial weights and batches.
    """
    return FIRST_SEED * (1 + study_seed) + search
