"""Run a study: all trials, round by round, then the finals, seed by seed; everything is made of ordinary runs."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from reidbench.errors import Interrupted
from reidbench.runs.execute import build_executor, execute, read_choices
from reidbench.runs.record import RunRecord
from reidbench.runs.tasks import Executor
from reidbench.studies.define import define_study
from reidbench.studies.hours import plan_study
from reidbench.studies.study import Final, LossResult, StudyResult, Trial, best_trials
from reidbench.studies.trainings import DEFAULT, TUNED, StudyPlan, Trainings
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import AUTO, local_machine

TRIALS_FILE = "trials.jsonl"


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
    records = plan.before | dict(_until(end, plan, executor))
    folders = {each: trainings.run_of(each.jobs[0]).run_folder for each in finals}
    missing = [each.place for each in finals if folders[each] not in records]
    if missing:
        notes.append(f"Stopped after {study.hours:g} hours, with {min(missing)} of {study.seeds} seeds.")
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
            space=trainings.spaces.get(loss),
        )
        for loss in study.losses
    ]
    return StudyResult(study, losses, trainings.folder, notes)


def _run_trials(trainings: Trainings, executor: Executor | None, end: float) -> list[Trial]:
    """Run all trials and return them by loss, search and number; a file always holds those that have ended."""
    plan, file = trainings.plan(trainings.trials), trainings.folder / TRIALS_FILE
    records = plan.before
    trials = trainings.results(records)
    for folder, record in _until(end, plan, executor):
        if folder not in records:
            records[folder] = record
            trials = trainings.results(records)
            _store(trials, file)
    if len(trials) < len(trainings.trials):
        raise Interrupted("the hours are over before the searches have ended; the same command resumes")
    if trials:
        _store(trials, file)
    return trials


def _until(end: float, plan: StudyPlan, executor: Executor | None) -> Iterator[tuple[Path, RunRecord]]:
    """Yield as ``execute``, until the first new run that ends after ``end``, a time of the monotonic clock."""
    before = plan.before
    for folder, record in execute(plan, executor) if plan.runs else ():
        yield folder, record
        if folder not in before and time.monotonic() > end:
            return


def _store(trials: Sequence[Trial], file: Path) -> None:
    """Write a line of JSON for each trial; nobody but the machine that wrote it has checked the numbers."""
    lines = [{**dataclasses.asdict(trial), "self_reported": True} for trial in trials]
    write_atomic(file, "".join(f"{json.dumps(line, sort_keys=True)}\n" for line in lines))


def study(
    *,
    loss: Any = None,
    file: str | Path | None = None,
    protocol: str | None = None,
    backbone: str | None = None,
    recipe: str | None = None,
    metric: str | Sequence[str] | None = None,
    rerank: str | None = None,
    trials: int | None = None,
    seeds: int | None = None,
    searches: int | None = None,
    seed: int | None = None,
    against: str | None = None,
    hours: float | None = None,
    device: str = AUTO,
    threads: int = 0,
    results: str | Path | None = None,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
    executor: str | None = None,
) -> StudyResult:
    """Compare losses under one tuning budget, as ``reidbench study`` does, and return what was found.

    ``loss`` is a text, a loss class or a factory, or a list of these; ``file`` is a study's file instead. What is left
    out has the command line's default. Raises ReidbenchError where the request is wrong.
    """
    items = {"loss": loss, "protocol": protocol, "backbone": backbone, "recipe": recipe}
    choices, catalogue = read_choices({**items, "metric": metric, "rerank": rerank})
    numbers = {"trials": trials, "seeds": seeds, "searches": searches, "seed": seed, "against": against, "hours": hours}
    definition = define_study(
        str(file) if file else None, choices, {key: value for key, value in numbers.items() if value is not None}
    )
    folders: dict[str, Any] = {"data": data_root or None, "results": results or None, "cache": cache or None}
    machine = local_machine(**folders, device=device, threads=threads, log=partial(print, file=sys.stderr))
    runner = build_executor(executor)
    return run_study(plan_study(definition, machine, catalogue, runner), runner)
