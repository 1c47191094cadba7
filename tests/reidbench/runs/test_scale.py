"""The data of suites: stand-ins by their specs, folders below the data root, and what a dry run leaves out."""

from dataclasses import replace

import pytest

from reidbench.errors import OptionError
from reidbench.runs.plan import make_plan, read_request
from reidbench.runs.suite import synthesize
from reidbench.utils.machine import local_machine
from tests.support.jobs import SMALL_PROTOCOL, job, plan_of


def test_a_tree_is_drawn_once_and_found_again(tmp_path):
    done, total = synthesize("market1501(identities=4)", tmp_path / "market1501")
    images = len(list((tmp_path / "market1501").rglob("*.jpg")))
    assert done == total == images > 0
    assert synthesize("market1501(identities=4)", tmp_path / "market1501") == (total, total)


def test_an_unknown_synthesizer_is_named(tmp_path):
    with pytest.raises(OptionError, match="there is no synthesizer"):
        synthesize("nothing", tmp_path)


SUITE = f'''
protocol = ["{SMALL_PROTOCOL}", "synthetic(identities=40, unlabelled=made)"]
loss = "classification(unlabelled=uniform)"
backbone = "tiny"
recipe = "ide(steps=1, p=6, k=2)"

[data]
made = "dcgan(protocol={SMALL_PROTOCOL}, size=16, channels=1, steps=1, batch=8, count=4, device=cpu)"
'''


def test_a_dry_run_trains_no_generator_for_the_data_of_a_suite(tmp_path, data_folder):
    plan_of(job())  # renders the people
    data, lines = tmp_path / "data", list[str]()
    data.mkdir()
    (data / "synthetic").symlink_to(data_folder / "synthetic")
    machine = local_machine(data=data, device="cpu", threads=1, log=lines.append)
    for name, text in {"both": SUITE, "alone": SUITE.replace(f'"{SMALL_PROTOCOL}", "syn', '"syn')}.items():
        (tmp_path / f"{name}.toml").write_text(text)
    both, alone = (read_request(str(tmp_path / f"{name}.toml"), {}) for name in ("both", "alone"))

    planned = make_plan(both, machine, dry_run=True).runs
    assert [run.job for run in planned] == both.jobs[:1]
    assert not (data / "made").exists()
    assert "made: a dry run trains no generator" in lines[-1]
    assert make_plan(alone, machine, dry_run=True).runs == []
    mistaken = replace(both.jobs[0], loss="batch_hard(margin=-1)")
    with pytest.raises(OptionError, match="margin"):
        make_plan(replace(both, jobs=[*both.jobs, mistaken]), machine)
    assert not (data / "made").exists()

    planned = make_plan(both, machine).runs
    assert [run.split.counts.get("unlabelled", 0) for run in planned] == [0, 4]
    assert len(make_plan(alone, machine, dry_run=True).runs) == 1  # nothing is left to train
