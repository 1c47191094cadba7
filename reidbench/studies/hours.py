"""The size of a study that fits into a number of hours."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from reidbench.errors import OptionError
from reidbench.plugins.catalogue import Catalogue
from reidbench.plugins.spec import Item, Spec
from reidbench.runs.execute import execute
from reidbench.runs.record import RunRecord
from reidbench.runs.tasks import Executor
from reidbench.studies.study import NONE, STUDIES, Study, counted
from reidbench.studies.trainings import Trainings
from reidbench.training.checkpoint import LOG
from reidbench.utils.arrays import read_arrays
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import AUTO, Machine
from reidbench.utils.progress import in_words
from reidbench.utils.untrusted_files import parse_json, read_text

CHOICE = "choice.json"
MEASURED_STEPS = 20
MOST, LEAST_SEEDS, LEAST_TRIALS = 20, 3, 2
MARGIN = 0.9  # of the hours are planned: trials with other options may take longer
# docs/study.md: a gap of 2.9 standard errors is found in 80 % of studies; a seed's sd and the variance that identities
# leave, in points of mAP, as measured on the built-in data.
POWER, SEED_SD, IDENTITY_VARIANCE = 2.9, 1.25, 43.6


def plan_study(
    study: Study, machine: Machine, catalogue: Catalogue, executor: Executor, *, measure: bool = True
) -> Trainings:
    """Return the trainings of a study, with the trials, seeds and steps that fit its ``hours`` if it has any.

    These are chosen once, from the time of a few steps, and stored in the study's folder in the results, which is named
    by its name and definition. What was given is not changed. Without ``measure`` only a stored choice is used. Raises
    OptionError where the recipe has no option ``steps``, and where nothing fits.
    """
    folder = machine.results / STUDIES / "-".join(filter(None, [study.name, study.digest[:10]]))
    file = folder / CHOICE
    if study.hours and measure and not file.is_file():
        write_atomic(file, json.dumps(_choose(study, machine, catalogue, executor)) + "\n")
    if not (study.hours and file.is_file()):
        return Trainings(study, machine, catalogue, folder)
    trainings = Trainings(replace(study, **parse_json(read_text(file), str(file))), machine, catalogue, folder)
    study = trainings.study
    variance = IDENTITY_VARIANCE / trainings.expected.runs[-1].split.counts["query_identities"]
    gap = POWER * math.sqrt(2 * SEED_SD**2 / study.seeds + variance)
    trainings.notes.append(
        f"Chosen for --hours {study.hours:g}: {counted(study.trials, 'trial')}, {counted(study.seeds, 'seed')}, recipe "
        f"{study.recipe}. Where seeds have a standard deviation of {SEED_SD} points, as on the built-in data, a gap of "
        f"{gap:.1f} points is found in 80 % of studies."
    )
    return trainings


def _choose(study: Study, machine: Machine, catalogue: Catalogue, executor: Executor) -> dict[str, Any]:
    """Return the trials, seeds, searches and recipe of a study that fit its hours with the executor's processes."""
    probe = replace(study, trials=0, seeds=1, searches=0, metrics=(AUTO,))
    run = Trainings(probe, machine, catalogue, Path()).expected.runs[0]
    recipe, given = run.items["recipe"], Spec.parse(run.items["recipe"].given).item
    if "steps" not in recipe.origins:
        raise OptionError(f"--hours: measures a few steps, and recipe {recipe.short} has no option steps")

    def with_steps(steps: int) -> str:
        return str(Item(given.name, tuple({**dict(given.options), "steps": steps}.items())))

    machine.log(f"measuring {MEASURED_STEPS} steps of each loss")
    measured = replace(probe, recipe=with_steps(min(MEASURED_STEPS, run.recipe.steps)))
    plan = Trainings(measured, machine, catalogue, Path()).expected
    costs = [_cost(machine.results / record.training, record) for _, record in execute(plan, executor)]
    per_step, fixed = (sum(part) for part in zip(*costs, strict=True))
    processes = max(executor.processes(machine.requested_device, len(study.losses)), 1)
    most, steps = MARGIN * 3600 * (study.hours or 0) * processes, run.recipe.steps
    for size in range(MOST, LEAST_TRIALS - 1, -1):  # a seed costs what a trial costs, so there are as many of both
        trials = study.trials if "trials" in study.given else size
        seeds = study.seeds if "seeds" in study.given else max(size, LEAST_SEEDS)
        searches = 0 if not trials else 1 if study.searches == 1 else seeds
        trainings = trials * searches + seeds * (2 if trials else 1)
        if trainings * (steps * per_step + fixed) <= most:
            break
    else:
        least = steps if recipe.origins["steps"] == "given" else MEASURED_STEPS
        steps = int((most / trainings - fixed) / per_step)
        if steps < least:
            needed = in_words(trainings * (least * per_step + fixed) / MARGIN / processes)
            raise OptionError(
                f"--hours {study.hours:g}: {trials} trials and {seeds} seeds of {least} steps take about {needed}; "
                "give more hours, or fewer losses, trials or seeds"
            )
    text = study.recipe if steps == run.recipe.steps else with_steps(steps)
    return {"trials": trials, "seeds": seeds, "searches": searches, "recipe": text}


def _cost(training: Path, record: RunRecord) -> tuple[float, float]:
    """Return the seconds of a step, and those of a training beside its steps."""
    if record.items["loss"].spec == NONE or not record.scored:
        return 0.0, 0.0
    rates = read_arrays(training / LOG)["images_per_second"][record.recipe.steps // 2 :]  # when all is warm
    return float((record.recipe.p * record.recipe.k / rates).mean()), record.seconds["embed"] + record.seconds["rank"]
