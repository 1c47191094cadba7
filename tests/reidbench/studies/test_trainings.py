"""The trainings of a study: their order, seeds and data, and the verdict of a trial; nothing is trained."""

from dataclasses import replace
from itertools import groupby, product

import pytest

from reidbench.errors import OptionError
from reidbench.plugins.catalogue import load
from reidbench.studies.define import define_study
from reidbench.studies.study import best_trials
from reidbench.studies.trainings import Training, Trainings
from reidbench.utils.machine import local_machine
from reidbench.utils.processes import ALONE, World
from tests.support.jobs import SMALL_PROTOCOL, SMALL_RECIPE
from tests.support.jobs import job as make_job
from tests.support.records import make_record

LOSSES = ["batch_hard", "pml/ContrastiveLoss", "triplet"]


def plan(data, *, world=ALONE, protocol=SMALL_PROTOCOL, **numbers):
    choices = {"loss": LOSSES, "protocol": [protocol], "backbone": ["tiny"], "recipe": [SMALL_RECIPE]}
    machine = replace(local_machine(device="cpu", threads=1, data=data), world=world)
    return Trainings(define_study(None, {**choices, "trials": 3, "seeds": 2, **numbers}), machine, load(), data)


@pytest.fixture(scope="module")
def trainings(data_folder):
    return plan(data_folder)


def test_trials_go_round_by_round_with_one_budget_for_all(trainings):
    rounds = [list(group) for _, group in groupby(trainings.trials, lambda each: each.number)]
    assert len(rounds) == 3
    for trials in rounds:
        assert {(each.loss, each.place) for each in trials} == {(loss, search) for loss in LOSSES for search in (0, 1)}
    for search in (0, 1):
        jobs = [job for each in trainings.trials if each.place == search for job in each.jobs]
        assert {job.protocol for job in jobs} == {f"synthetic_val(identities=40, holdout_seed={search})"}
        assert len({job.seed for job in jobs}) == 1
        assert {job.metric for job in jobs} == {"euclidean", "cosine"}
    assert [each.options[:2] for each in rounds[0] if each.place == 0] == [(loss, SMALL_RECIPE) for loss in LOSSES]
    assert len({each.options for each in trainings.trials}) == len(LOSSES) * (1 + 2 * 2)  # no draw is repeated


def winner(*options: str) -> Training:
    job = make_job(**dict(zip(("loss", "recipe", "metric"), options, strict=True)))
    return Training("", options[0], "trial", 0, 1, (job,))


def test_finals_go_seed_by_seed_with_seeds_of_no_trial(trainings):
    winners = {(loss, search): winner(loss, "quick", "cosine") for loss in LOSSES for search in (0, 1)}
    winners["batch_hard", 1] = winner("batch_hard(margin=0.5)", "quick", "euclidean")
    finals = trainings.finals(winners)
    assert [each.place for each in finals] == [0] * 7 + [1] * 7
    assert {each.jobs[0].seed for each in finals}.isdisjoint(each.jobs[0].seed for each in trainings.trials)
    tuned = [each.options for each in finals if (each.loss, each.tuning) == ("batch_hard", "tuned")]
    assert tuned == [("batch_hard", "quick", "cosine"), ("batch_hard(margin=0.5)", "quick", "euclidean")]
    untrained = [(each.tuning, each.options) for each in finals if each.loss == "none"]
    assert untrained == [("default", ("none", SMALL_RECIPE, "auto"))] * 2
    assert {job.protocol for each in finals for job in each.jobs} == {SMALL_PROTOCOL}


def test_one_search_serves_all_seeds_and_none_needs_no_validation(data_folder):
    one = plan(data_folder, searches=1)
    assert {each.place for each in one.trials} == {0}
    winners = {(loss, 0): winner(loss, "quick", "cosine") for loss in LOSSES}
    assert sum(each.tuning == "tuned" for each in one.finals(winners)) == 2 * len(LOSSES)
    without = plan(data_folder, trials=0, protocol="synthetic_val(identities=40)")
    assert not without.trials
    assert {run.job.protocol for run in without.expected.runs} == {"synthetic_val(identities=40)"}
    with pytest.raises(OptionError, match="synthetic_val_val"):
        plan(data_folder, protocol="synthetic_val(identities=40)")


def test_several_processes_are_refused(data_folder):
    with pytest.raises(OptionError, match="torchrun"):
        plan(data_folder, world=World(0, 2))


def test_equal_runs_are_planned_once(trainings):
    """A winner that is the default shares its run, also where the metric is the loss's own by another name."""
    winners = {(loss, search): winner(loss, SMALL_RECIPE, "euclidean") for loss in LOSSES for search in (0, 1)}
    finals = trainings.finals(winners)
    plan = trainings.plan(finals)
    assert len({run.id for run in plan.runs}) == len(plan.runs) < len(finals)
    places = [title.partition("]")[0] for title in dict.fromkeys(plan.titles)]
    assert places == [f"[{number}/{len(places)}" for number in range(1, len(places) + 1)]


def records(trainings, changes):
    """Return an invented record for each run of the trials; ``changes`` are those of the trials of a number."""
    made = {}
    for training in trainings.trials:
        for job in training.jobs:
            own = {"scores": {"map_market": 0.3 + 0.01 * (job.metric == "cosine")}, **changes.get(training.number, {})}
            record = make_record(training.loss, **own)
            made[trainings.run_of(job).run_folder] = replace(record, scores={}) if own.get("error") else record
    return made


def test_a_trial_counts_with_its_verdict(trainings):
    failed = {"status": "failed", "error": "the loss is not finite"}
    collapsed = {"status": "collapsed", "scores": {"map_market": 0.9}}
    trials = trainings.results(records(trainings, {1: failed, 2: collapsed}))
    assert [(each.loss, each.search, each.number) for each in trials] == list(product(LOSSES, (0, 1), (1, 2, 3)))
    first, second, third = trials[:3]
    assert (first.status, first.score, set(first.scores.values())) == ("failed", 0.0, {None})
    assert (second.status, second.score) == ("collapsed", 0.9)
    assert (third.status, third.metric, third.score) == ("ok", "cosine", pytest.approx(0.31))
    assert {key: each.number for key, each in best_trials(trials).items()} == dict.fromkeys(product(LOSSES, (0, 1)), 3)
    tied = best_trials(trainings.results(records(trainings, {})))
    assert {each.number for each in tied.values()} == {1}


def test_an_unfinished_trial_is_no_result(trainings):
    made = records(trainings, {})
    del made[trainings.run_of(trainings.trials[0].jobs[1]).run_folder]
    assert len(trainings.results(made)) == len(trainings.trials) - 1
