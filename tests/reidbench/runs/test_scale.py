"""Drawing a stand-in by its spec."""

from __future__ import annotations

from pathlib import Path

import pytest

from reidbench.errors import OptionError
from reidbench.runs.suite import synthesize


def test_a_tree_is_drawn_once_and_found_again(tmp_path: Path) -> None:
    done, total = synthesize("market1501(identities=4)", tmp_path / "market1501")
    images = len(list((tmp_path / "market1501").rglob("*.jpg")))
    assert done == total == images > 0
    assert synthesize("market1501(identities=4)", tmp_path / "market1501") == (total, total)


def test_an_unknown_synthesizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="there is no synthesizer"):
        synthesize("nothing", tmp_path)
