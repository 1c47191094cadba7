"""Choose the trials, seeds and, last, steps of a study that fit into a number of hours."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from reidbench.errors import OptionError
from reidbench.plugins.catalogue import Catalogue
from reidbench.plugins.spec import Item, Spec
from reidbench.runs.execute import execute
from reidbench.runs.record import RunRecord
from reidbench.runs.tasks import Executor
from reidbench.studies.study import NONE, STUDIES, Study
from reidbench.studies.trainings import Trainings
from reidbench.training.checkpoint import LOG
from reidbench.utils.arrays import load_arrays
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import AUTO, Machine
from reidbench.utils.progress import in_words
from reidbench.utils.untrusted_files import parse_json, read_text

CHOICE = "choice.json"
MEASURED_STEPS = 20
MOST, LEAST_SEEDS, LEAST_TRIALS = 20, 3, 2
MARGIN = 0.9  # of the hours are planned: trials with other options may take longer
# docs/study.md: a gap of 2.9 standard errors is found in 80 % of studies; a seed's sd and the variance that identities
# leave, in points of mAP, as measured on the drawn data.
POWER, SEED_SD, IDENTITY_VARIANCE = 2.9, 1.25, 43.6

Seconds = Callable[[int, int, int], float]  # of a study of so many trials, seeds and steps


def plan_study(
    study: Study, machine: Machine, catalogue: Catalogue, executor: Executor, *, measure: bool = True
) -> Trainings:
    """Return the trainings of a study, with the trials, seeds and steps that fit its ``hours`` if it has any.

    These are chosen once, from the time of a few steps, and stored with the study. What was given is not changed.
    Without ``measure`` only a stored choice is used. Raises OptionError where the recipe has no option ``steps``.
    """
    folder = study_folder(study, machine)
    file = folder / CHOICE
    if study.hours and measure and not file.is_file():
        write_atomic(file, json.dumps(_choose(study, machine, catalogue, executor)) + "\n")
    if not (study.hours and file.is_file()):
        return Trainings(study, machine, catalogue, folder)
    choice: dict[str, Any] = parse_json(read_text(file), str(file))
    searches = 0 if not choice["trials"] else 1 if study.searches == 1 else choice["seeds"]
    trainings = Trainings(replace(study, **choice, searches=searches), machine, catalogue, folder)
    identities = trainings.expected.runs[-1].split.counts["query_identities"]
    trainings.notes.append(_describe(trainings.study, identities))
    return trainings


def study_folder(study: Study, machine: Machine) -> Path:
    """Return the folder of a study in the results folder; another definition under one name has another folder."""
    return machine.results / STUDIES / "-".join(filter(None, [study.name, study.digest[:10]]))


def _describe(study: Study, identities: int) -> str:
    """Return what was chosen and the gap that it finds, by the rule of thumb of docs/study.md."""
    gap = POWER * math.sqrt(2 * SEED_SD**2 / study.seeds + IDENTITY_VARIANCE / identities)
    return (
        f"Chosen for {study.hours:g} hours: {study.trials} trials, {study.seeds} seeds, recipe {study.recipe}. Where "
        f"seeds swing by {SEED_SD} points, as on the drawn data, a gap of {gap:.1f} points is found in 80 % of studies."
    )


def _choose(study: Study, machine: Machine, catalogue: Catalogue, executor: Executor) -> dict[str, Any]:
    assert study.hours is not None
    probe = Trainings(replace(study, trials=0, seeds=1, searches=0, metrics=(AUTO,)), machine, catalogue, Path())
    run = next(run for run in probe.expected.runs if run.trains)
    recipe, given = run.items["recipe"], Spec.parse(run.items["recipe"].given).item
    if "steps" not in recipe.origins:
        raise OptionError(f"--hours: measures a few steps, and recipe {recipe.short} has no option steps")

    def with_steps(steps: int) -> str:
        return str(Item(given.name, tuple({**dict(given.options), "steps": steps}.items())))

    machine.log(f"measuring {MEASURED_STEPS} steps of each loss")
    measured = replace(probe.study, recipe=with_steps(min(MEASURED_STEPS, run.recipe.steps)))
    plan = Trainings(measured, machine, catalogue, Path()).expected
    records = dict(execute(plan, executor))
    costs = [_cost(machine.results / record.training, record) for record in records.values()]

    def seconds(trials: int, seeds: int, steps: int) -> float:
        searches = 0 if not trials else 1 if study.searches == 1 else seeds
        trainings = trials * searches + seeds * (2 if trials else 1)
        return trainings * sum(steps * step + rest for step, rest in costs)

    most = MARGIN * 3600 * study.hours
    steps = run.recipe.steps
    for trials, seeds in _sizes(study):
        if seconds(trials, seeds, steps) <= most:
            break
    else:
        if recipe.origins["steps"] != "given":
            fixed = seconds(trials, seeds, 0)
            steps = int((most - fixed) / max(seconds(trials, seeds, 1) - fixed, 1e-9))
        if steps < MEASURED_STEPS or seconds(trials, seeds, steps) > most:
            needed = in_words(seconds(trials, seeds, max(steps, MEASURED_STEPS)))
            raise OptionError(
                f"--hours {study.hours:g}: {trials} trials and {seeds} seeds take about {needed}; give more hours, or "
                "fewer losses, trials, seeds or steps"
            )
    text = study.recipe if steps == run.recipe.steps else with_steps(steps)
    return {"trials": trials, "seeds": seeds, "recipe": text}


def _sizes(study: Study) -> Iterator[tuple[int, int]]:
    """Yield numbers of trials and seeds, the largest first; a seed costs what a trial costs, so both are equal."""
    for size in range(MOST, LEAST_TRIALS - 1, -1):
        yield (
            study.trials if "trials" in study.given else size,
            study.seeds if "seeds" in study.given else max(size, LEAST_SEEDS),
        )


def _cost(training: Path, record: RunRecord) -> tuple[float, float]:
    """Return the seconds of a step, and those of a training beside its steps."""
    if record.items["loss"].spec == NONE or not record.scored:
        return 0.0, 0.0
    images = record.recipe.p * record.recipe.k
    step = float((images / load_arrays(training / LOG)["images_per_second"][record.recipe.steps // 2 :]).mean())
    return step, record.seconds["embed"] + record.seconds["rank"]
