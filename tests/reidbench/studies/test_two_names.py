"""A real study of two names of one function: each name has options of its own, and the two are not told apart."""

import pytest

from reidbench import Loss, StudyFiles, TrainInfo
from reidbench.runs.execute import read_choices
from reidbench.studies.define import define_study
from reidbench.studies.run_study import run_study
from reidbench.studies.trainings import Trainings
from reidbench.utils.machine import local_machine
from tests.support.jobs import SMALL_PROTOCOL


class HardestPair(Loss):
    """The largest distance within an identity minus the smallest to another."""

    def __init__(self, info: TrainInfo) -> None:
        super().__init__()

    def forward(self, embeddings, labels):
        distances = (embeddings[:, None] - embeddings).square().sum(2)
        same = labels[:, None] == labels
        return (distances * same).amax(1) - distances.masked_fill(same, float("inf")).amin(1)


class AnotherName(HardestPair):
    """The same function."""


@pytest.mark.slow
def test_two_names_of_one_function_are_not_told_apart(tmp_path, data_folder):
    choices, catalogue = read_choices(
        {"loss": [HardestPair, AnotherName], "protocol": SMALL_PROTOCOL, "recipe": "quick(steps=2, p=4, k=2)"}
    )
    study = define_study(None, choices, {"trials": 2, "seeds": 3})
    machine = local_machine(device="cpu", threads=1, data=data_folder, results=tmp_path, cache=data_folder / "cache")
    files = StudyFiles(run_study(Trainings(study, machine, catalogue)), machine)
    one, other = files.result.losses[:2]
    assert {trial.recipe_text for trial in one.trials}.isdisjoint(
        {trial.recipe_text for trial in other.trials if trial.number > 1}
    )
    assert files.comparison.claims
    assert [pair.verdict for pair in files.comparison.pairs] == ["not told apart"]
    assert {loss.name for loss in files.comparison.losses if loss.may_be_best} == {"HardestPair", "AnotherName"}
