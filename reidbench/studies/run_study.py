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
from reidbench.runs.execute import build_executor, execute, read_choices
from reidbench.runs.plan import KINDS, pixels_left
from reidbench.runs.record import RunRecord
from reidbench.runs.tasks import Executor
from reidbench.studies.define import define_study
from reidbench.studies.hours import plan_study
from reidbench.studies.study import TRIALS_FILE, Final, LossResult, StudyResult, Trial, best_trials, store_study
from reidbench.studies.trainings import StudyPlan, Trainings
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import AUTO, local_machine, user_path


def run_study(trainings: Trainings, executor: Executor | None = None) -> StudyResult:
    """Train and score what the results folder lacks of a study, and return its result; the same call resumes.

    When the study's ``hours`` are over, the result holds the final seeds that are complete for all losses. Raises as
    ``execute``, and Interrupted where there is none yet. Runs that failed are in the result.
    """
    study, notes = trainings.study, list(trainings.notes)
    end = time.monotonic() + 3600 * (study.hours or math.inf)
    trials = _run_trials(trainings, executor, end)
    finals = trainings.finals(best_trials(trials))
    plan = trainings.plan(finals)
    records = {**plan.records, **dict(_until(end, plan, executor))}
    folders = {each: trainings.run_of(each.jobs[0]).run_folder for each in finals}
    missing = [each.place for each in finals if folders[each] not in records]
    if missing:
        notes.append(f"Stopped by --hours {study.hours:g}, with {min(missing)} of {study.seeds} seeds.")
        study = replace(study, seeds=min(missing))
        if not study.seeds:
            raise Interrupted(f"{study.hours:g} hours are over before the first seed; the same command resumes")

    losses = []
    for loss in study.losses:
        by_tuning: dict[str, list[Final]] = {}
        for each in finals:
            if each.loss == loss and each.place < study.seeds:
                final = Final(folders[each], records[folders[each]])
                by_tuning.setdefault(each.tuning, []).append(final)
        own, space = [each for each in trials if each.loss == loss], trainings.spaces.get(loss)
        losses.append(LossResult(loss, by_tuning, own, space.text if space else "", space.notes if space else ()))
    result = StudyResult(study, losses, trainings.folder, notes)
    store_study(result, result.folder, lambda final: os.path.relpath(final.folder, result.folder))
    return result


def _run_trials(trainings: Trainings, executor: Executor | None, end: float) -> list[Trial]:
    """Run all trials and return them by loss, search and number; a file always holds those that have ended."""
    plan, file = trainings.plan(trainings.trials), trainings.folder / TRIALS_FILE
    plan = replace(plan, later_pixels=sum(pixels_left(trainings.expected)) - sum(pixels_left(plan)))
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

    ``file`` is a study's file, or the folder of a finished study, which is only read. ``choices`` are the command's
    other options: loss (a text, a loss class or a factory, or a list of these), protocol, backbone, recipe, metric,
    rerank, trials, seeds, searches, seed, against and hours. What is left out has the command line's default. Raises
    ReidbenchError where the request is wrong.
    """
    if file and (folder := user_path(file)).is_dir():
        if choices:
            raise OptionError(f"{file}: a finished study takes no further options, got {', '.join(choices)}")
        from reidbench.studies.study import read_study  # noqa: PLC0415 - trains nothing

        return read_study(folder)
    items, catalogue = read_choices({kind: choices.pop(kind) for kind in KINDS if kind in choices})
    definition = define_study(str(file) if file else None, {**items, **choices})
    folders: dict[str, Any] = {"data": data_root or None, "results": results or None, "cache": cache or None}
    machine = local_machine(**folders, device=device, threads=threads, log=partial(print, file=sys.stderr))
    runner = build_executor(executor)
    return run_study(plan_study(definition, machine, catalogue, runner), runner)
