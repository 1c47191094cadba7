"""A report's tables as texts: what a column sorts by."""

from __future__ import annotations

import pandas as pd

from reidbench.reports.table import values_of


def test_cells_sort_by_the_number_they_begin_with() -> None:
    frame = pd.DataFrame({"x": ["34.56 ±1.00", "–", "1,234", "-6.62", "−1.5", "+0.43", "16.6*", "1e-3", None]})
    assert values_of(frame, 0) == [34.56, None, 1234.0, -6.62, -1.5, 0.43, 16.6, 0.001, None]


def test_a_table_may_say_what_a_column_sorts_by() -> None:
    frame = pd.DataFrame({"a": ["1"], "time": ["2 min"]})
    frame.attrs["values"] = {"time": [120.0]}
    assert values_of(frame, 1) == [120.0]
