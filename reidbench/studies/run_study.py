"""Run a study: all trials, round by round, then the finals, seed by seed; everything is made of ordinary runs."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from reidbench.runs.execute import build_executor, execute, read_choices
from reidbench.runs.plan import KINDS, pixels_left
from reidbench.runs.tasks import Executor
from reidbench.studies.define import define_study
from reidbench.studies.study import (
    TRIALS_FILE,
    TUNINGS,
    Final,
    LossResult,
    StudyResult,
    Trial,
    best_trials,
    store_study,
)
from reidbench.studies.trainings import Trainings, plan_study
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import AUTO, local_machine


def run_study(trainings: Trainings, executor: Executor | None = None) -> StudyResult:
    """Train and score what the results folder lacks of a study, and return its result; the same call resumes.

    Raises as ``execute``. Runs that failed are in the result.
    """
    study = trainings.study
    trials = _run_trials(trainings, executor)
    finals = trainings.finals({key: each.options for key, each in best_trials(trials).items()})
    records = dict(execute(trainings.plan(finals), executor))

    def runs(loss: str, tuning: str) -> list[Final]:
        own = [each for each in finals if (each.loss, each.tuning) == (loss, tuning)]
        folders = [trainings.run_of(each.jobs[0]).run_folder for each in own]
        return [Final(folder, records[folder]) for folder in folders]

    losses = [
        LossResult(
            loss=loss,
            by_tuning={tuning: own for tuning in TUNINGS if (own := runs(loss, tuning))},
            trials=[each for each in trials if each.loss == loss],
            ranges=space.text if (space := trainings.spaces.get(loss)) else "",
            notes=space.notes if space else (),
        )
        for loss in study.losses
    ]
    result = StudyResult(study, losses, trainings.folder)
    store_study(result, result.folder, lambda final: os.path.relpath(final.folder, result.folder))
    return result


def _run_trials(trainings: Trainings, executor: Executor | None) -> list[Trial]:
    """Run all trials and return them by loss, search and number; a file always holds those that have ended."""
    plan, file = trainings.plan(trainings.trials), trainings.folder / TRIALS_FILE
    pixels = [sum(pixels_left(each)) for each in (trainings.expected, plan)]
    plan = replace(plan, later_pixels=pixels[0] - pixels[1])  # those of the finals
    records = dict(plan.records)
    trials = trainings.results(records)
    if trials:  # the same runs may have been those of a study under another name
        write_trials(trials, file)
    for folder, record in execute(plan, executor) if plan.runs else ():
        if folder not in records:
            records[folder] = record
            trials = trainings.results(records)
            write_trials(trials, file)
    return trials


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
    a list of these), protocol, backbone, recipe, metric, rerank, trials, seeds, searches, seed and against. What is
    left out has the command line's default. Raises ReidbenchError where the request is wrong.
    """
    items, catalogue = read_choices({kind: choices.pop(kind) for kind in KINDS if kind in choices})
    definition = define_study(str(file) if file else None, {**items, **choices})
    folders: dict[str, Any] = {"data": data_root or None, "results": results or None, "cache": cache or None}
    machine = local_machine(**folders, device=device, threads=threads, log=partial(print, file=sys.stderr))
    return run_study(plan_study(definition, machine, catalogue), build_executor(executor))
