"""Run a study: all trials, round by round, then the finals, seed by seed; everything is made of ordinary runs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from reidbench.plugins.catalogue import load
from reidbench.runs.execute import build_executor, execute, read_choices
from reidbench.runs.tasks import Executor
from reidbench.studies.define import define_study
from reidbench.studies.study import STUDIES, Final, LossResult, Study, StudyResult, Trial, best_trials
from reidbench.studies.trainings import DEFAULT, TUNED, Trainings
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import AUTO, Machine, local_machine

TRIALS_FILE = "trials.jsonl"


def study_folder(study: Study, machine: Machine) -> Path:
    """Return the folder of a study in the results folder; another definition under one name has another folder."""
    return machine.results / STUDIES / "-".join(filter(None, [study.name, study.digest[:10]]))


def run_study(trainings: Trainings, executor: Executor | None = None) -> StudyResult:
    """Train and score what the results folder lacks of a study, and return its result; the same call resumes.

    Raises as ``execute``. Runs that failed are in the result.
    """
    study = trainings.study
    folder = study_folder(study, trainings.machine)
    trials = _run_trials(trainings, folder / TRIALS_FILE, executor)
    winners = best_trials(trials)
    finals = trainings.finals({key: each.options for key, each in winners.items()})
    records = dict(execute(trainings.plan(finals), executor))

    def ended(loss: str, tuning: str) -> list[Final]:
        own = [each for each in finals if (each.loss, each.tuning) == (loss, tuning)]
        folders = [trainings.run_of(each.jobs[0]).run_folder for each in own]
        return [Final(each.place, run, records[run]) for each, run in zip(own, folders, strict=True)]

    losses = [
        LossResult(
            loss=loss,
            finals=ended(loss, TUNED if loss in trainings.spaces else DEFAULT),
            defaults=ended(loss, DEFAULT),
            trials=[each for each in trials if each.loss == loss],
            winners=[winner for (name, _), winner in winners.items() if name == loss],
            space=trainings.spaces.get(loss),
        )
        for loss in study.losses
    ]
    return StudyResult(study, losses, folder)


def _run_trials(trainings: Trainings, file: Path, executor: Executor | None) -> list[Trial]:
    """Run all trials and return them by loss, search and number; ``file`` always holds those that have ended."""
    if not trainings.trials:
        return []
    plan = trainings.plan(trainings.trials)
    before = {run.run_folder: state.record for run, state in zip(plan.runs, plan.states, strict=True)}
    records = {folder: record for folder, record in before.items() if record}
    _store(trainings.results(records), file)
    for folder, record in execute(plan, executor):
        records[folder] = record
        if not before[folder]:
            _store(trainings.results(records), file)
    return trainings.results(records)


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
    return run_study(Trainings(definition, machine, catalogue or load()), build_executor(executor))
