"""Run a study: all trials, round by round, then the finals, seed by seed; everything is made of ordinary runs."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from reidbench.errors import Interrupted, OptionError
from reidbench.plugins.catalogue import Catalogue
from reidbench.plugins.spec import Item, Spec
from reidbench.runs.execute import build_executor, execute, read_choices
from reidbench.runs.plan import KINDS, pixels_left
from reidbench.runs.record import RunRecord
from reidbench.runs.tasks import Executor
from reidbench.studies.define import define_study
from reidbench.studies.stored import TRIALS_FILE, store_study
from reidbench.studies.study import NONE, STUDIES, Final, LossResult, Study, StudyResult, Trial, best_trials, counted
from reidbench.studies.trainings import DEFAULT, TUNED, StudyPlan, Trainings
from reidbench.training.checkpoint import LOG
from reidbench.utils.arrays import load_arrays
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import AUTO, Machine, local_machine
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

    These are chosen once, from the time of a few steps, and stored with the study. What was given is not changed.
    Without ``measure`` only a stored choice is used. Raises OptionError where the recipe has no option ``steps``, and
    where nothing fits.
    """
    # Another definition under one name has another folder.
    folder = machine.results / STUDIES / "-".join(filter(None, [study.name, study.digest[:10]]))
    file = folder / CHOICE
    if study.hours and measure and not file.is_file():
        write_atomic(file, json.dumps(_choose(study, machine, catalogue, executor)) + "\n")
    if not (study.hours and file.is_file()):
        return Trainings(study, machine, catalogue, folder)
    study = replace(study, **parse_json(read_text(file), str(file)))
    trainings = Trainings(study, machine, catalogue, folder)
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
    rates = load_arrays(training / LOG)["images_per_second"][record.recipe.steps // 2 :]  # when all is warm
    return float((record.recipe.p * record.recipe.k / rates).mean()), record.seconds["embed"] + record.seconds["rank"]


def run_study(trainings: Trainings, executor: Executor | None = None) -> StudyResult:
    """Train and score what the results folder lacks of a study, and return its result; the same call resumes.

    When the study's ``hours`` are over, the result holds the final seeds that are complete for all losses. Raises as
    ``execute``, and Interrupted where there is none yet. Runs that failed are in the result.
    """
    study, notes = trainings.study, list(trainings.notes)
    end = time.monotonic() + 3600 * (study.hours or math.inf)
    trials = _run_trials(trainings, executor, end)
    winners = best_trials(trials)
    finals = trainings.finals({key: each.options for key, each in winners.items()})
    plan = trainings.plan(finals)
    records = {**plan.records, **dict(_until(end, plan, executor))}
    folders = {each: trainings.run_of(each.jobs[0]).run_folder for each in finals}
    missing = [each.place for each in finals if folders[each] not in records]
    if missing:
        notes.append(f"Stopped by --hours {study.hours:g}, with {min(missing)} of {counted(study.seeds, 'seed')}.")
        study = replace(study, seeds=min(missing))
        if not study.seeds:
            raise Interrupted(f"{study.hours:g} hours are over before the first seed; the same command resumes")

    def runs(loss: str, tuning: str) -> list[Final]:
        own = [each for each in finals if (each.loss, each.tuning) == (loss, tuning) and each.place < study.seeds]
        return [Final(each.place, folders[each], records[folders[each]]) for each in own]

    losses = [
        LossResult(
            loss=loss,
            finals=runs(loss, TUNED if loss in trainings.spaces else DEFAULT),
            defaults=runs(loss, DEFAULT),
            trials=[each for each in trials if each.loss == loss],
            winners=[winner for (name, _), winner in winners.items() if name == loss],
            ranges=space.text if (space := trainings.spaces.get(loss)) else "",
            notes=space.notes if space else (),
        )
        for loss in study.losses
    ]
    result = StudyResult(study, losses, trainings.folder, notes)
    store_study(result, result.folder, lambda final: os.path.relpath(final.folder, result.folder))
    return result


def _run_trials(trainings: Trainings, executor: Executor | None, end: float) -> list[Trial]:
    """Run all trials and return them by loss, search and number; a file always holds those that have ended."""
    plan, file = trainings.plan(trainings.trials), trainings.folder / TRIALS_FILE
    pixels = [sum(pixels_left(each)) for each in (trainings.expected, plan)]
    plan = replace(plan, later_pixels=pixels[0] - pixels[1])  # those of the finals
    records = dict(plan.records)
    trials = trainings.results(records)
    if trials:  # the same runs may have been those of a study under another name
        write_trials(trials, file)
    for folder, record in _until(end, plan, executor):
        if folder not in records:
            records[folder] = record
            trials = trainings.results(records)
            write_trials(trials, file)
    if len(trials) < len(trainings.trials):
        raise Interrupted("the hours are over before the searches have ended; the same command resumes")
    return trials


def _until(end: float, plan: StudyPlan, executor: Executor | None) -> Iterator[tuple[Path, RunRecord]]:
    """Yield as ``execute``, until the first new run that ends after ``end``, a time of the monotonic clock."""
    before = set(plan.records)
    for folder, record in execute(plan, executor) if plan.runs else ():
        yield folder, record
        if folder not in before and time.monotonic() > end:
            return


def write_trials(trials: Sequence[Trial], file: Path) -> None:
    """Write a line of JSON for each trial; nobody but the machine that wrote it has checked the numbers."""
    lines = [{**dataclasses.asdict(trial), "self_reported": True} for trial in trials]
    write_atomic(file, "".join(f"{json.dumps(line, sort_keys=True)}\n" for line in lines))


def study(
    file: str | Path | None = None,
    *,
    device: str = AUTO,
    threads: int = 0,
    results: str | Path | None = None,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
    executor: str | None = None,
    **choices: Any,
) -> StudyResult:
    """Compare losses under one tuning budget, as ``reidbench study`` does, and return the result.

    ``file`` is a study's file. ``choices`` are the command's other options: loss (a text, a loss class or a factory, or
    a list of these), protocol, backbone, recipe, metric, rerank, trials, seeds, searches, seed, against and hours. What
    is left out has the command line's default. Raises ReidbenchError where the request is wrong.
    """
    items, catalogue = read_choices({kind: choices.pop(kind) for kind in KINDS if kind in choices})
    definition = define_study(str(file) if file else None, {**items, **choices})
    folders: dict[str, Any] = {"data": data_root or None, "results": results or None, "cache": cache or None}
    machine = local_machine(**folders, device=device, threads=threads, log=partial(print, file=sys.stderr))
    runner = build_executor(executor)
    return run_study(plan_study(definition, machine, catalogue, runner), runner)
