"""The trainings of a study in the order in which they run, and their plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from reidbench.errors import OptionError
from reidbench.plugins.catalogue import Catalogue
from reidbench.runs.job import Job, Memo, resolve
from reidbench.runs.plan import Plan, Request, make_plan
from reidbench.runs.prepare import Prepared
from reidbench.runs.record import RunRecord
from reidbench.runs.store import RunState
from reidbench.studies.search import trial, trial_seed
from reidbench.studies.search_space import search_space
from reidbench.studies.study import NONE, Study, Trial, best_trials
from reidbench.studies.validation import check_validation, validation_protocol
from reidbench.utils.machine import AUTO, Machine

TRIAL, TUNED, DEFAULT = "trial", "tuned", "default"
Options = tuple[str, str, str]  # the texts of loss, recipe and metric
# The worst verdict of a training's runs, which counts.
STATUSES = ("failed", "collapsed", "no_gradient", "ok")


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

    ``titles``: what training each run belongs to.
    ``ended``: the records of the runs that have ended, by their numbers.
    """

    titles: Sequence[str] = ()
    ended: dict[int, RunRecord] = field(default_factory=dict)

    @cached_property
    def groups(self) -> Mapping[Path, Sequence[int]]:
        """The numbers of the runs of each training."""
        groups: dict[Path, list[int]] = {}
        for number, run in enumerate(self.runs):
            groups.setdefault(run.training_folder, []).append(number)
        return groups

    def title(self, number: int) -> str:
        """Return what training a run belongs to."""
        return self.titles[number]

    def start_line(self, number: int) -> str:
        """Return no line."""
        return ""

    def end_line(self, number: int, record: RunRecord) -> str:
        """Return the scores under each metric after the last new run of a training, else an empty text."""
        self.ended[number] = record
        group = self.groups[self.runs[number].training_folder]
        if not self.ended.keys() >= {*group} or all(self.states[each].record for each in group):
            return ""
        records = [self.ended[each] for each in group]
        texts = [f"{record.items['metric'].short} {record.result}" for record in records if record.status == "ok"]
        texts += dict.fromkeys(record.result for record in records if record.status != "ok")
        done = sum(self.ended.keys() >= {*numbers} for numbers in self.groups.values())
        return f"[{done}/{len(self.groups)}] {self.titles[number]}: {'; '.join(texts)}"


class Trainings:
    """The trainings of a study, prepared to run.

    ``study``: its definition.
    ``machine``: the machine, with the data of a scale.
    ``spaces``: what is searched for each trained loss; empty without trials.
    ``trials``: the trainings of the searches, round by round: trial i of all before trial i + 1 of any.
    """

    def __init__(self, study: Study, machine: Machine, catalogue: Catalogue) -> None:
        """Plan all trials and finals; the mistakes of all are raised together, before anything is trained."""
        if machine.world.size > 1:
            raise OptionError("a study starts its own processes: leave out torchrun, and use --executor")
        self.study, self.machine, self._catalogue, self._memo = study, machine, catalogue, Memo()
        self._runs: dict[Job, tuple[Prepared, RunState]] = {}
        job = Job(study.protocol, NONE, study.backbone, study.recipe, AUTO, study.rerank, 0)
        losses = study.losses if study.trials else ()
        self.spaces = {
            loss: search_space(resolve(replace(job, loss=loss), catalogue, self._memo))
            for loss in losses
            if loss != NONE
        }
        self.trials = list(self._trials())
        plan = self.plan(self.trials)
        trials = self.results({plan.runs[number].run_folder: record for number, record in plan.ended.items()})
        winners = {key: each.options for key, each in best_trials(trials).items()}
        if len(trials) < len(self.trials):  # each search's last trial is prepared in the place of the best
            winners = {(each.loss, each.place): each.options for each in self.trials}
        self.expected = self.plan([*self.trials, *self.finals(winners)])
        runs = {run.items["protocol"].text: run for run in self.expected.runs}
        *validations, (_, test) = runs.items()
        for protocol, run in validations:
            check_validation(run.split, test.split, protocol)

    def finals(self, winners: Mapping[tuple[str, int], Options]) -> list[Training]:
        """Return the trainings on the whole training set, seed by seed: with the winners' options, and as given.

        ``winners`` are the options of the best trial by loss and search.
        """
        study = self.study
        metric = study.metrics[0] if len(study.metrics) == 1 else AUTO
        trainings = []
        for seed in range(study.seeds):
            for loss in study.losses:
                if tuned := winners.get((loss, study.search_of(seed))):
                    trainings.append(self._final(loss, seed, TUNED, tuned))
                trainings.append(self._final(loss, seed, DEFAULT, (loss, study.recipe, metric)))
        return trainings

    def plan(self, trainings: Sequence[Training]) -> StudyPlan:
        """Return the plan of trainings, in which each run is once."""
        new = list(dict.fromkeys(job for each in trainings for job in each.jobs if job not in self._runs))
        if new:
            scale = None if self._runs else self.study.scale
            plan = make_plan(Request(new, scale=scale), self.machine, self._catalogue, self._memo)
            self.machine = plan.machine
            self._runs |= dict(zip(new, zip(plan.runs, plan.states, strict=True), strict=True))
        titles: dict[str, tuple[str, Job]] = {}
        for training in trainings:
            for job in training.jobs:
                titles.setdefault(self.run_of(job).id, (training.title, job))
        states = [self._runs[job][1] for _, job in titles.values()]
        return StudyPlan(
            [self.run_of(job) for _, job in titles.values()],
            states,
            self.machine,
            titles=[title for title, _ in titles.values()],
            ended={number: state.record for number, state in enumerate(states) if state.record},
        )

    def run_of(self, job: Job) -> Prepared:
        """Return the prepared run of a planned job."""
        return self._runs[job][0]

    def describe(self) -> list[str]:
        """Return what is trained and searched, in a few lines."""
        study = self.study
        given = f"{study.seeds} seeds with the options as given"
        if not study.trials:
            return [f"Study of {study.protocol}: for each loss {given}"]
        count = "1 search" if study.searches == 1 else f"{study.searches} searches"
        held_out = self.trials[0].jobs[0].protocol
        return [
            f"Study of {study.protocol}: for each loss {count} of {study.trials} trials on {held_out}, scored by "
            f"{' and '.join(study.metrics)}; then {study.seeds} seeds with the options of the best, and {given}",
            *(f"searched for {loss}: {'; '.join(space.text.splitlines())}" for loss, space in self.spaces.items()),
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

    def _final(self, loss: str, seed: int, tuning: str, options: Options) -> Training:
        study = self.study
        job = Job(study.protocol, options[0], study.backbone, options[1], options[2], study.rerank, seed)
        return Training(f"seed {seed}, {tuning}, {' · '.join(options[:2])}", loss, tuning, seed, 0, (job,))


def _trial(training: Training, runs: Sequence[RunRecord]) -> Trial:
    worst = min(runs, key=lambda record: STATUSES.index(record.status))
    primary, job = worst.evaluation.primary, training.jobs[0]
    metrics = [each.metric for each in training.jobs]
    return Trial(
        loss=training.loss,
        search=training.place,
        number=training.number,
        loss_text=job.loss,
        recipe_text=job.recipe,
        seed=job.seed,
        runs=dict(zip(metrics, (record.id for record in runs), strict=True)),
        scores=dict(zip(metrics, (record.scores.get(primary) for record in runs), strict=True)),
        primary=primary,
        status=worst.status,
        error=worst.error,
        images=worst.recipe.steps * worst.recipe.p * worst.recipe.k,
        seconds=round(_seconds(runs), 3),
        peak_memory_mib=max(record.peak_memory_mib for record in runs),
        code=worst.code,
    )


def _seconds(runs: Sequence[RunRecord]) -> float:
    """Return the seconds of one training with all runs scored from it; the runs after the first embed nothing."""
    train = max(record.seconds.get("train", 0.0) for record in runs)
    embed = max(record.seconds.get("embed", 0.0) for record in runs)
    return train + embed + sum(record.seconds.get("rank", 0.0) for record in runs)
