"""The trainings of a study in the order in which they run, and their plans."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from reidbench.errors import OptionError
from reidbench.images.contents import split_contents
from reidbench.plugins.catalogue import Catalogue
from reidbench.runs.job import Job, Memo, resolve
from reidbench.runs.plan import Plan, Request, make_plan
from reidbench.runs.prepare import Prepared
from reidbench.runs.record import RECORD, RunRecord, read_record
from reidbench.runs.store import RunState
from reidbench.studies.search import check_validation, search_space, trial, trial_seed, validation_protocol
from reidbench.studies.study import DEFAULT, NONE, TUNED, Study, Trial, best_trials, counted
from reidbench.utils.machine import AUTO, Machine

TRIAL = "trial"
Options = tuple[str, str, str]  # the texts of loss, recipe and metric
# The worst verdict of a training's runs, which counts.
STATUSES = ("failed", "collapsed", "no_gradient", "ok")
# The reason of a training that failed by its options, so that it would fail again: a loss or an embedding is no number.
_DIVERGED = re.compile(r" is (nan|-?inf) at step | is not finite")


@dataclass(frozen=True)
class Training:
    """One training of a study with the runs that are scored from it.

    ``title``: what it is, for lines about it.
    ``loss``: the loss as given.
    ``tuning``: "trial", "tuned" or "default".
    ``place``: the search of a trial, or the seed of a final.
    ``number``: the number of the trial in its search, from 1; 0 for a final.
    ``jobs``: its runs, one for each metric.
    """

    title: str
    loss: str
    tuning: str
    place: int
    number: int
    jobs: tuple[Job, ...]

    @property
    def options(self) -> Options:
        """The options of its first run."""
        return self.jobs[0].loss, self.jobs[0].recipe, self.jobs[0].metric


@dataclass(frozen=True)
class StudyPlan(Plan):
    """A plan that logs one line for each training that has ended.

    ``titles``: for each run that of its training, with its place among all.
    ``records``: the records so far, by run folder.
    """

    titles: Sequence[str] = ()
    records: dict[Path, RunRecord] = field(default_factory=dict)

    def title(self, number: int) -> str:
        """Return the title of a run's training."""
        return self.titles[number]

    def start_line(self, number: int) -> str:
        """Return no line."""
        return ""

    def end_line(self, number: int, record: RunRecord) -> str:
        """Return the scores under each metric after the last run of a training, else an empty text."""
        self.records[self.runs[number].run_folder] = record
        title = self.titles[number]
        if self.states[number].record or title in self.titles[number + 1 :]:
            return ""
        own = [run.run_folder for run, each in zip(self.runs, self.titles, strict=True) if each == title]
        records = [self.records[folder] for folder in own if folder in self.records]
        texts = [f"{each.items['metric'].short} {each.result}" for each in records if each.status == "ok"]
        return f"{title}: {'; '.join(texts or [record.result])}"


class Trainings:
    """The trainings of a study, prepared to run.

    ``study``: its definition.
    ``machine``: the machine, with the data of a scale.
    ``folder``: the study's folder in the results folder.
    ``notes``: sentences about the whole, for the result.
    ``spaces``: what is searched for each trained loss; empty without trials.
    ``trials``: the trainings of the searches, round by round: trial i of all before trial i + 1 of any.
    """

    def __init__(self, study: Study, machine: Machine, catalogue: Catalogue, folder: Path) -> None:
        """Plan all trials and finals; the mistakes of all are raised together, before anything is trained."""
        if machine.world.size > 1:
            raise OptionError("a study starts its own processes: leave out torchrun, and use --executor")
        self.study, self.machine, self.folder, self.notes = study, machine, folder, list[str]()
        self._catalogue, self._memo = catalogue, Memo()
        self._runs: dict[Job, tuple[Prepared, RunState]] = {}
        job = Job(study.protocol, NONE, study.backbone, study.recipe, AUTO, study.rerank, 0)
        self.spaces = {
            loss: search_space(resolve(replace(job, loss=loss), catalogue, self._memo), self._memo)
            for loss in study.losses
            if loss != NONE and study.trials
        }
        self.trials = list(self._trials())
        trials = self.results(self.plan(self.trials).records)
        # Before all trials have ended, the last of each search is prepared in the place of the best.
        ended = len(trials) == len(self.trials)
        best = best_trials(trials) if ended else {(each.loss, each.place): each for each in self.trials}
        self.expected = self.plan([*self.trials, *self.finals(best)])
        runs = {run.items["protocol"].text: run for run in self.expected.runs}
        *validations, (_, test) = runs.items()
        for protocol, run in validations:
            check_validation(run.split, test.split, protocol)

    def finals(self, winners: Mapping[tuple[str, int], Trial | Training]) -> list[Training]:
        """Return the trainings on the whole training set, seed by seed: with the winners' options, and as given.

        ``winners`` are the best trials by loss and search.
        """
        study = self.study
        metric = study.metrics[0] if len(study.metrics) == 1 else AUTO
        trainings = []
        for seed, loss in itertools.product(range(study.seeds), study.losses):
            winner = winners.get((loss, study.search_of(seed)))
            tuned = {TUNED: winner.options} if winner else {}
            for tuning, (text, recipe, by) in {**tuned, DEFAULT: (loss, study.recipe, metric)}.items():
                job = Job(study.protocol, text, study.backbone, recipe, by, study.rerank, seed)
                title = f"seed {seed}, {tuning}, {text} · {recipe}"
                trainings.append(Training(title, loss, tuning, seed, 0, (job,)))
        return trainings

    def plan(self, trainings: Sequence[Training]) -> StudyPlan:
        """Return the plan of trainings, in which each run is once."""
        new = list(dict.fromkeys(job for each in trainings for job in each.jobs if job not in self._runs))
        if new:
            scale = None if self._runs else self.study.scale
            plan = make_plan(Request(new, scale=scale), self.machine, self._catalogue, self._memo)
            self.machine = plan.machine
            ended = map(self._with_divergence, plan.runs, plan.states)
            self._runs |= dict(zip(new, zip(plan.runs, ended, strict=True), strict=True))
        unique: dict[str, tuple[Training, Job]] = {}
        for training in trainings:
            for job in training.jobs:
                unique.setdefault(self.run_of(job).id, (training, job))
        pairs = [self._runs[job] for _, job in unique.values()]
        records = {run.run_folder: state.record for run, state in pairs if state.record}
        owners = dict.fromkeys(training for training, _ in unique.values())  # those whose runs are no other's
        places = {each: f"[{place}/{len(owners)}] {each.title}" for place, each in enumerate(owners, 1)}
        titles = [places[training] for training, _ in unique.values()]
        runs, states = [run for run, _ in pairs], [state for _, state in pairs]
        return StudyPlan(runs, states, self.machine, titles=titles, records=records)

    def _with_divergence(self, run: Prepared, state: RunState) -> RunState:
        """Return the state of a run, which is done too where its training diverged by this code on these images."""
        file = run.run_folder / RECORD
        if state.record or state.superseded or not file.is_file():
            return state
        record, contents = read_record(file), split_contents(run.split, self.machine)
        same = (record.id, record.code, record.dataset.content) == (run.id, run.code, contents)
        return RunState(record=record) if same and _DIVERGED.search(record.error) else state

    def run_of(self, job: Job) -> Prepared:
        """Return the prepared run of a planned job."""
        return self._runs[job][0]

    def describe(self) -> list[str]:
        """Return what is trained and searched, in a few lines."""
        study, seeds = self.study, counted(self.study.seeds, "seed")
        lines = [f"Study of {study.protocol}: for each loss {seeds} with the options as given"]
        if study.trials:
            searches = "1 search" if study.searches == 1 else f"{study.searches} searches"
            held_out, metrics = self.trials[0].jobs[0].protocol, " and ".join(study.metrics)
            lines[0] += f", and {seeds} with the best of {searches} of {counted(study.trials, 'trial')}"
            lines.append(f"trials are run on {held_out} and scored by {metrics}")
        return lines + [
            f"searched for {loss}: {'; '.join(each.text.splitlines())}" for loss, each in self.spaces.items()
        ]

    def results(self, records: Mapping[Path, RunRecord]) -> list[Trial]:
        """Return the trials whose runs all have a record, in the order of loss, search and number."""
        trials = []
        order = list(self.spaces)
        for training in sorted(self.trials, key=lambda each: (order.index(each.loss), each.place, each.number)):
            folders = [self.run_of(job).run_folder for job in training.jobs]
            if records.keys() >= {*folders}:
                trials.append(_trial(training, [records[folder] for folder in folders]))
        return trials

    def _trials(self) -> Iterator[Training]:
        study = self.study
        for number in range(1, study.trials + 1):
            for search in range(study.searches):
                protocol = validation_protocol(study.protocol, search, self._catalogue)
                seed = trial_seed(study.seed, search)
                for loss, space in self.spaces.items():
                    texts = trial(space, study.seed, search, number)
                    job = Job(protocol, texts[0], study.backbone, texts[1], AUTO, study.rerank, seed)
                    title = f"search {search}, trial {number} of {study.trials}, {' · '.join(texts)}"
                    jobs = tuple(replace(job, metric=metric) for metric in study.metrics)
                    yield Training(title, loss, TRIAL, search, number, jobs)


def _trial(training: Training, runs: Sequence[RunRecord]) -> Trial:
    worst = min(runs, key=lambda record: STATUSES.index(record.status))
    primary, job = worst.evaluation.primary, training.jobs[0]
    by_metric = {each.metric: record for each, record in zip(training.jobs, runs, strict=True)}
    phases = [[record.seconds.get(phase, 0.0) for record in runs] for phase in ("train", "embed", "rank")]
    return Trial(
        loss=training.loss,
        search=training.place,
        number=training.number,
        loss_text=job.loss,
        recipe_text=job.recipe,
        seed=job.seed,
        runs={metric: record.id for metric, record in by_metric.items()},
        scores={metric: record.scores.get(primary) for metric, record in by_metric.items()},
        primary=primary,
        status=worst.status,
        error=worst.error,
        seconds=round(max(phases[0]) + max(phases[1]) + sum(phases[2]), 3),  # trained and embedded once
        code=worst.code,
    )
