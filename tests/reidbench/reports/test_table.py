"""The table value: default columns, printed cells, sort values."""

import numpy as np
import pytest

from reidbench import Column, Table


def test_default_columns_are_the_keys_of_all_rows():
    table = Table([{"loss": "a", "seconds": 1.5}, {"loss": "b", "seconds": None, "seeds": np.int64(3)}])
    kinds = [(column.key, column.kind) for column in table.columns]
    assert kinds == [("loss", "text"), ("seconds", "number"), ("seeds", "number")]
    assert table.cells() == [["a", "1.5", "–"], ["b", "–", "3"]]
    assert Table([]).cells() == []


@pytest.mark.parametrize(
    ("column", "value", "text", "sort_value"),
    [
        (Column("x", kind="number", format=".2f"), 1.005, "1.00", 1.005),
        (Column("x", kind="number", format=",d"), 1234, "1,234", 1234.0),
        (Column("x", kind="number"), float("nan"), "–", None),
        (Column("x", kind="number", format=".2f"), "2 of 3", "2 of 3", None),
        (Column("x", kind="number", format=lambda row: f"{row['x'] / 60:.0f} min"), 120.0, "2 min", 120.0),
        (Column("x"), None, "", None),
        (Column("x"), "two\nlines\x1b[2J", "two lines\N{REPLACEMENT CHARACTER}[2J", None),
        (Column("x"), 3, "3", None),
    ],
)
def test_a_cell_is_formatted_and_sorted_by_its_value(column, value, text, sort_value):
    assert column.cell({"x": value}) == text
    assert column.sort_value({"x": value}) == sort_value
