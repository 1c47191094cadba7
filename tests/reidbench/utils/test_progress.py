"""Durations in words."""

from __future__ import annotations

import pytest

from reidbench.utils.progress import in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (360_000, "100.0 h"),
    ],
)
def test_duration_in_its_unit(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
