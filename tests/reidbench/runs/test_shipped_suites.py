"""The suites that travel with the package, planned; and the walkthrough run whole on two small stand-ins."""

import dataclasses

import numpy as np
import pytest

import reidbench
from reidbench.images.augment import VIEWS
from reidbench.plugins.catalogue import load
from reidbench.reports.sections import build_sections
from reidbench.runs.prepare import Planner
from reidbench.runs.run_job import run_job
from reidbench.runs.store import Store
from reidbench.runs.suite import find_suite, load_suite
from reidbench.utils.arrays import read_arrays
from reidbench.utils.machine import local_machine

MARKET = ("market1501", "market1501_multiquery", "market1501_500k", "market1501_val")
PROTOCOLS = (*MARKET, "mars", "mars_torchreid_gallery", "mars_val")


def jobs():
    return load_suite(find_suite("walkthrough")).jobs


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_view_goes_by_its_name_in_every_protocol(protocol):
    for views in VIEWS:
        assert load().resolve("protocol", f"{protocol}(views={views})").build().views == views


def test_the_first_command_scores_what_readme_says():
    first = [f"{job.loss} {job.metric} {job.rerank}" for job in load_suite(find_suite("synthetic")).jobs]
    plain = ["none auto none", "classification auto none", "classification xqda none", "batch_hard auto none"]
    assert first == [*plain, "classification xqda k_reciprocal", "batch_hard auto k_reciprocal"]


def test_the_curve_is_one_training_in_steps_of_100_000():
    curve = load_suite(find_suite("market1501_500k")).jobs
    assert [job.protocol for job in curve] == [
        f"market1501_500k(distractors={count})" for count in range(0, 500_001, 100_000)
    ]
    assert len({dataclasses.replace(job, protocol="") for job in curve}) == 1


def test_the_walkthrough_has_every_kind_of_evaluation():
    asked = jobs()
    built = [load().resolve("protocol", job.protocol).build() for job in asked]
    for name in ("market1501", "mars"):
        assert {rules.views for rules in built if rules.dataset.startswith(name)} == set(VIEWS)
    assert {job.protocol.partition("(")[0] for job in asked} == set(PROTOCOLS) - {"market1501_val", "mars_val"}
    assert {job.metric for job in asked} == {"auto", "xqda"}
    assert {job.rerank for job in asked} == {"none", "k_reciprocal"}


@pytest.mark.slow
def test_the_walkthrough_trains_twice_and_is_one_table(tmp_path):
    for spec, folder in (("market1501(identities=24, distractors=300)", "market1501"), ("mars(identities=12)", "mars")):
        list(reidbench.build("synthesizer", spec, tmp_path / "data" / folder))
    machine = local_machine(
        device="cpu", threads=1, data=tmp_path / "data", results=tmp_path / "results", cache=tmp_path / "cache"
    )
    planner = Planner(load(), machine)
    small = {"backbone": "tiny(height=32, width=16)", "recipe": "quick(steps=2, p=4, k=2)"}
    plans = [planner.plan(dataclasses.replace(job, **small)) for job in jobs()]
    records = [run_job(plan, machine) for plan in plans]
    assert {record.status for record in records} == {"ok"}
    assert len({record.id for record in records}) == len(records)
    trainings = {plan.training_folder for plan in plans}
    assert len(trainings) == 2
    for folder in trainings:
        for kept in folder.glob("embeddings-*"):
            keys = np.concatenate([read_arrays(file)["keys"] for file in kept.glob("*.npz")])
            assert len(np.unique(keys)) == len(keys)
        assert {kept.name.removeprefix("embeddings-") for kept in folder.glob("embeddings-*")} == set(VIEWS)
    (part,) = build_sections(["table"], records, Store(machine.results))
    assert len(part.tables[0].rows) == len(records)
    for record in records:
        assert record.intervals["map_market"][0] <= record.scores["map_market"] <= record.intervals["map_market"][1]
        assert len(record.cameras.map_market) == len(record.cameras.cameras)
    one, *more = (record.scores["gallery"] for record in records if "500k" in record.items["protocol"].spec)
    assert [count - one for count in more] == [100, 200]
