"""Durations in words."""

import pytest

from reidbench.utils.progress import in_words
from tests.support.cases import cases


@pytest.mark.parametrize(("seconds", "words"), cases(__file__, "duration_in_its_unit"))
def test_duration_in_its_unit(seconds, words):
    assert in_words(seconds) == words
