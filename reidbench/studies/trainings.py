"""The trainings of a study in the order in which they run, and their plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from reidbench.errors import OptionError
from reidbench.plugins.catalogue import Catalogue
from reidbench.runs.job import Job, Memo, resolve
from reidbench.runs.plan import Plan, Request, make_plan, training_images
from reidbench.runs.preflight import in_gib, results_bytes
from reidbench.runs.prepare import Prepared
from reidbench.runs.record import RunRecord
from reidbench.runs.store import RunState
from reidbench.studies.search import trial, trial_seed
from reidbench.studies.search_space import SearchSpace, search_space
from reidbench.studies.study import NONE, Study, Trial
from reidbench.studies.validation import check_validation, validation_protocol
from reidbench.utils.machine import AUTO, Machine

TRIAL, TUNED, DEFAULT = "trial", "tuned", "default"


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
    ``defaults``: those with the options as given, on the test protocol, seed by seed.
    """

    def __init__(self, study: Study, machine: Machine, catalogue: Catalogue) -> None:
        """Plan all trials and the defaults; mistakes of all are raised together, before anything is trained."""
        if machine.world.size > 1:
            raise OptionError("a study starts its own processes: leave out torchrun, and use --executor")
        self.study, self.machine, self._catalogue, self._memo = study, machine, catalogue, Memo()
        self._runs: dict[Job, tuple[Prepared, RunState]] = {}
        job = Job(study.protocol, NONE, study.backbone, study.recipe, AUTO, study.rerank, 0)
        losses = study.trained_losses if study.trials else ()
        self.spaces: dict[str, SearchSpace] = {
            loss: search_space(resolve(replace(job, loss=loss), catalogue, self._memo)) for loss in losses
        }
        self.trials = list(self._trials())
        self.defaults = [self.final(loss, seed) for seed in range(study.seeds) for loss in study.losses]
        self._prepare([*self.trials, *self.defaults])
        test = self.run_of(self.defaults[0].jobs[0])
        for protocol, run in {job.protocol: self.run_of(job) for each in self.trials for job in each.jobs}.items():
            check_validation(run.split, test.split, protocol)

    def final(self, loss: str, seed: int, winner: Trial | None = None) -> Training:
        """Return a training on the whole training set: with a trial's options, or with those given."""
        study = self.study
        texts = (winner.loss_text, winner.recipe_text) if winner else (loss, study.recipe)
        metric = winner.metric if winner else study.metrics[0] if len(study.metrics) == 1 else AUTO
        job = Job(study.protocol, texts[0], study.backbone, texts[1], metric, study.rerank, seed)
        tuning = TUNED if winner else DEFAULT
        return Training(f"seed {seed}, {tuning}, {' · '.join(texts)}", loss, tuning, seed, 0, (job,))

    def run_of(self, job: Job) -> Prepared:
        """Return the prepared run of a planned job."""
        return self._runs[job][0]

    def plan(self, trainings: Sequence[Training]) -> StudyPlan:
        """Return the plan of trainings, in which each run is once."""
        self._prepare(trainings)
        titles: dict[str, tuple[str, Job]] = {}
        for training in trainings:
            for job in training.jobs:
                titles.setdefault(self.run_of(job).id, (training.title, job))
        states = [self._runs[job][1] for _, job in titles.values()]
        return StudyPlan(
            runs=[self.run_of(job) for _, job in titles.values()],
            states=states,
            machine=self.machine,
            titles=[title for title, _ in titles.values()],
            ended={number: state.record for number, state in enumerate(states) if state.record},
        )

    def describe(self) -> list[str]:
        """Return the study in a few lines: its items, what is searched, and the work ahead."""
        study = self.study
        first = self.run_of(self.defaults[0].jobs[0])
        lines = [
            f"Study ({self.machine.device}): "
            + " · ".join(f"{kind} {first.items[kind].short}" for kind in ("protocol", "backbone", "recipe", "rerank"))
        ]
        if study.trials:
            searches = "1 search for all seeds" if study.searches == 1 else f"{study.searches} searches"
            protocol = self.run_of(self.trials[0].jobs[0]).items["protocol"].short
            lines.append(
                f"each loss: {searches} of {study.trials} trials on {protocol}, by {' and '.join(study.metrics)}"
            )
        finals = "tuned and default" if study.trials else "with the options as given"
        lines.append(f"then {study.seeds} seeds, {finals}, on {first.items['protocol'].short}; losses:")
        for loss in study.losses:
            space = self.spaces.get(loss)
            ranges = space.text.replace("\n", "; ") if space else ""
            lines += [
                f"  {loss}{': ' * bool(ranges)}{ranges}",
                *(f"    {note}" for note in (space.notes if space else ())),
            ]
        return [*lines, self._work()]

    def _work(self) -> str:
        """Return how much work is left: trainings, images and disk; of tuned finals as of the defaults."""
        study = self.study
        finals = [each for each in self.defaults for _ in range(1 + (bool(study.trials) and each.loss != NONE))]
        pending = [
            self._runs[each.jobs[0]]
            for each in [*self.trials, *finals]
            if each.loss != NONE and any(self._runs[job][1].status != "done" for job in each.jobs)
        ]
        images = sum(training_images(run, state) for run, state in pending if state.status in ("new", "resumable"))
        size = results_bytes([run for run, _ in pending]) + results_bytes([run for run, _ in pending if study.trials])
        total = len(self.trials) + len([each for each in finals if each.loss != NONE])
        return (
            f"to do: {len(pending):,} of {total:,} trainings, images: {images:,}, results: about {in_gib(size)} at most"
        )

    def _prepare(self, trainings: Sequence[Training]) -> None:
        jobs = list(dict.fromkeys(job for each in trainings for job in each.jobs if job not in self._runs))
        if not jobs:
            return
        scale = None if self._runs else self.study.scale
        plan = make_plan(Request(jobs, scale=scale), self.machine, self._catalogue, self._memo)
        self.machine = plan.machine
        self._runs |= dict(zip(jobs, zip(plan.runs, plan.states, strict=True), strict=True))

    def _trials(self) -> Iterator[Training]:
        study = self.study
        for number in range(1, study.trials + 1):
            for search in range(study.searches):
                protocol = validation_protocol(study.protocol, search, self._catalogue)
                seed = trial_seed(study.seed, search)
                for loss, space in self.spaces.items():
                    loss_text, recipe_text = trial(space, study.seed, search, number)
                    job = Job(protocol, loss_text, study.backbone, recipe_text, AUTO, study.rerank, seed)
                    title = f"search {search}, trial {number} of {study.trials}, {loss_text} · {recipe_text}"
                    jobs = tuple(replace(job, metric=metric) for metric in study.metrics)
                    yield Training(title, loss, TRIAL, search, number, jobs)
