"""The settings of a machine from Python: folders below the home folder, values of wrong types."""

from pathlib import Path

import pytest

import reidbench
from reidbench.utils.machine import default_cache, local_machine


def test_folders_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("REIDBENCH_CACHE", "~nobody-of-this-name/x")
    machine = local_machine(data="~/data", results=Path("~/results"))
    assert (machine.data, machine.results) == (tmp_path / "data", tmp_path / "results")
    assert default_cache() == machine.cache == Path("~nobody-of-this-name/x")


WRONG = {"threads": "x", "results": 5, "data_root": b"x", "device": 7, "seed": "x", "metric": 3}


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_a_setting_of_a_wrong_type_is_refused(name, value):
    with pytest.raises(reidbench.OptionError, match=name.partition("_")[0]):
        reidbench.run(**{name: value})
