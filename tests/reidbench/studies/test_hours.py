"""The choice of trials, seeds and steps by hours: what fits, what was given, and that it is made once."""

import json

import pytest

from reidbench.errors import OptionError
from reidbench.plugins.catalogue import build, load
from reidbench.studies import hours
from reidbench.studies.define import define_study
from reidbench.utils.machine import local_machine
from tests.support.cases import cases
from tests.support.jobs import SMALL_PROTOCOL
from tests.support.records import make_record

TRAINING = 610.0  # seconds: 300 steps of 2 and 10 for the scores


@pytest.fixture
def plans(monkeypatch):
    """The plans that were measured; a step takes 2 seconds and the rest of a training 10."""
    measured = []

    def execute(plan, executor):
        measured.append(plan)
        return ((run.run_folder, make_record(run.job.loss)) for run in plan.runs)

    monkeypatch.setattr(hours, "execute", execute)
    monkeypatch.setattr(hours, "_cost", lambda folder, record: (2.0, 10.0) if record.job.loss != "none" else (0, 0))
    return measured


def choose(data, given, recipe="auto", *, measure=True, workers=1, **numbers):
    choices = {"loss": ["batch_hard", "batch_all"], "protocol": [SMALL_PROTOCOL], "recipe": [recipe]}
    study = define_study(None, {**choices, "hours": given, **numbers})
    machine = local_machine(device="cpu", threads=1, data=data)
    return hours.plan_study(study, machine, load(), build("executor", f"local(workers={workers})"), measure=measure)


def enough(trainings: float) -> float:
    """Return the hours in which so many trainings of each of two losses fit."""
    return 2 * trainings * TRAINING / 3600 / hours.MARGIN * 1.001


@pytest.mark.parametrize(("trainings", "numbers", "chosen"), cases(__file__, "the_largest_study_that_fits_is_chosen"))
def test_the_largest_study_that_fits_is_chosen(plans, data_folder, trainings, numbers, chosen):
    for workers in (1, 3):
        study = choose(data_folder, enough(trainings) / workers, workers=workers, **numbers).study
        assert (study.trials, study.seeds, study.searches, study.recipe) == (*chosen, "auto")
    assert {run.job.recipe for run in plans[0].runs} == {"quick(steps=20)"}


def test_steps_are_chosen_last_and_stay_where_given(plans, data_folder):
    half = choose(data_folder, 2 * 12 * (150 * 2 + 10) / 3600 / hours.MARGIN * 1.001)
    assert (half.study.trials, half.study.seeds, half.study.recipe) == (2, 3, "quick(steps=150)")
    assert "150" in half.notes[0]
    with pytest.raises(OptionError, match="2 trials and 3 seeds"):
        choose(data_folder, 0.01)
    with pytest.raises(OptionError, match="2 trials and 3 seeds"):
        choose(data_folder, enough(11), "quick(steps=300)")


def test_the_choice_is_stored_and_used_again(plans, data_folder):
    before = choose(data_folder, enough(24), measure=False)
    assert (before.study.seeds, before.notes, plans) == (5, [], [])
    first = choose(data_folder, enough(24))
    stored = json.loads((first.folder / hours.CHOICE).read_text())
    assert stored == {"trials": 4, "seeds": 4, "searches": 4, "recipe": "auto"}
    again = choose(data_folder, enough(24), measure=False)
    assert (again.study, again.folder, again.notes) == (first.study, first.folder, first.notes)
    assert len(plans) == 1
    assert "4 trials, 4 seeds" in again.notes[0]
