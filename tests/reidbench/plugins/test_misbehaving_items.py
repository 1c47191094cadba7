"""Items that break their contract: each ends in an error that names the item and its plugin, never in a crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reidbench.errors import OptionError, PluginError
from tests.support.misbehaving import ITEMS, OWNER, use

# What a user can write too is a wrong option, not a broken plugin.
OPTION_ERRORS = {("protocol", "dataset_unknown"), ("recipe", "rate_nan")}


def test_there_are_enough_of_every_kind() -> None:
    assert len(ITEMS) > 76
    assert len({kind for kind, _ in ITEMS}) == 9


@pytest.mark.parametrize(("kind", "name"), ITEMS)
def test_a_misbehaving_item_is_named_with_its_plugin(kind: str, name: str, tmp_path: Path) -> None:
    expected = OptionError if (kind, name) in OPTION_ERRORS else PluginError
    with pytest.raises(expected) as caught:
        use(kind, name, tmp_path)
    assert f"{kind} {name} ({OWNER})" in str(caught.value)
    if "raise" in name or "fails" in name:
        assert "misbehaving.py, line" in str(caught.value)


@pytest.mark.slow
def test_no_shape_of_a_metric_crashes_the_process(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.support.misbehaving import ITEMS, use\n"
        "for kind, name in ITEMS:\n"
        "    if kind in ('metric', 'reranker'):\n"
        "        try: use(kind, name, Path(sys.argv[1]))\n"
        "        except Exception as error: print(kind, name, type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = [f"{kind} {name} PluginError" for kind, name in ITEMS if kind in ("metric", "reranker")]
    assert done.stdout.split("\n")[:-1] == expected
