"""The recipe's checks: values out of range are refused, all at once."""

import pytest

from reidbench.errors import OptionError
from reidbench.training.recipe import Recipe
from tests.support.cases import cases

SOUND = {"steps": 10, "decay_start": 6, "learning_rate": 1e-3, "p": 4, "k": 2}


@pytest.mark.parametrize(("changes", "message"), cases(__file__, "values_out_of_range_are_refused"))
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(OptionError, match=message):
        Recipe(**SOUND | {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()})
