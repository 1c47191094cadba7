"""Plan all jobs of a call: from a suite, a record or choices of items to runs that are prepared and checked."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from reidbench.errors import DataError, OptionError, ReidbenchError
from reidbench.plugins.catalogue import Catalogue, command_defaults, load
from reidbench.runs.job import Job, Memo
from reidbench.runs.preflight import check_request
from reidbench.runs.prepare import Planner, Prepared
from reidbench.runs.provenance import LOCAL
from reidbench.runs.record import RunRecord, read_record
from reidbench.runs.store import AGAIN, RunState, Store, content_changes, read_state, without_code
from reidbench.runs.suite import KEYS, Scale, expand, find_suite, load_suite, synthesize, trains
from reidbench.utils.machine import SCALES, Machine, no_log
from reidbench.utils.progress import in_words
from reidbench.utils.untrusted_files import real_path

KINDS = ("loss", "protocol", "backbone", "recipe", "metric", "rerank")
PASSES = 3  # of a training image through the network: forward once, backward about twice
Choices = Mapping[str, Sequence[str] | Sequence[int]]


@dataclass(frozen=True)
class Request:
    """The jobs of a call.

    ``jobs``: the jobs, each once.
    ``scale``: the scale of a suite that the jobs are at.
    ``file``: the record that is reproduced.
    ``record``: its content.
    ``data``: the synthesizer that writes each folder of a suite's data, where the scale has none.
    """

    jobs: Sequence[Job]
    scale: Scale | None = None
    file: Path | None = None
    record: RunRecord | None = None
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The runs of a call, before the first is run.

    ``runs``: the prepared runs.
    ``states``: what the results folder held of each when it was planned.
    ``machine``: the machine, with the data of a suite's scale and the results folder of a reproduction.
    ``record``: the record that is reproduced.
    ``changes``: how the content of the images differs from that of its images.
    ``later_pixels``: the pixels that pass the networks after this plan, in what it is a part of.
    """

    runs: Sequence[Prepared]
    states: Sequence[RunState]
    machine: Machine
    record: RunRecord | None = None
    changes: str = ""
    later_pixels: float = 0.0

    def names(self) -> list[str]:
        """Return for each run what tells it from the others: its loss and the other kinds that the runs differ in."""
        kinds = differing_kinds(self.runs)
        texts = [[run.items[kind].short for kind in kinds] for run in self.runs]
        return [", ".join([loss, *(text for text in others if text != "none")]) for loss, *others in texts]

    def title(self, number: int) -> str:
        """Return the name of a run with its place among all."""
        return f"[{number + 1}/{len(self.runs)}] {self.names()[number]}, seed {self.runs[number].job.seed}"

    def start_line(self, number: int) -> str:
        """Return the line that is logged before a run; an empty text for none."""
        state = self.states[number]
        return f"{self.title(number)}: {'starts' if state.status == 'new' else state}"

    def end_line(self, number: int, record: RunRecord) -> str:
        """Return the line that is logged after a run; an empty text for none."""
        seen = self.states[number].record and record.status == "ok"
        return "" if seen else f"{self.title(number)}: {record.result}"


def differing_kinds(runs: Sequence[Prepared]) -> list[str]:
    """Return "loss" and the other kinds of items that the runs have more than one of."""
    return [kind for kind in KINDS if kind == "loss" or len({run.items[kind].short for run in runs}) > 1]


def read_request(what: str | None, choices: Choices, scale: str | None = None) -> Request:
    """Return the jobs of a suite (a name or a TOML file), of a record.json, or of the combinations of ``choices``.

    ``choices`` maps keys of a job to lists; other keys have the command line's defaults. Without anything it is the
    default suite. Raises OptionError or DataError where that cannot be read, or where it is given twice.
    """
    if what is None and not choices:
        what = str(command_defaults()["suite"])
    if what is not None and choices:
        raise OptionError(f"{what} already defines what to run; leave it out, or leave out --{', --'.join(choices)}")
    if scale is not None and (what is None or what.endswith(".json")):
        raise OptionError(f"--scale {scale}: is for suites; name one, e.g. reidbench run paper/table2 --scale {scale}")
    if what is None:
        return Request(expand(choices, command_defaults()))
    if what.endswith(".json"):
        record = read_record(Path(what))
        for kind, item in record.items.items():
            if LOCAL in item.plugin.split(", "):
                reason = f"{kind} {item.spec} was given as a Python object, which no plugin provides"
                raise DataError(f"{what}: {reason}; make it a plugin (reidbench plugins new) and run it again")
        return Request([record.resolved_job()], file=Path(what), record=record)
    suite = replace(load_suite(find_suite(what)), name=what)
    if scale is None:
        return Request(suite.jobs, data=suite.data)
    at_scale = suite.scale(scale)
    return Request(list(dict.fromkeys(at_scale.jobs.values())), scale=at_scale, data=suite.data)


def make_plan(
    request: Request,
    machine: Machine,
    catalogue: Catalogue | None = None,
    memo: Memo | None = None,
    *,
    dry_run: bool = False,
) -> Plan:
    """Return the prepared runs of a request; the mistakes of all jobs are raised together, before anything is trained.

    The data of a suite or its scale are written first, where they are missing; with ``dry_run`` no generator is trained
    for them, and the runs that need its images are left out. Plans with one ``memo`` list each dataset once.
    """
    catalogue = catalogue or load()
    if machine.trackers:
        from reidbench.runs.tracking import build_trackers  # noqa: PLC0415 - most runs have none

        build_trackers(machine.trackers)  # what they lack is an error before anything is written
    if failed := [plugin.name for plugin in catalogue.plugins if plugin.state != "ok"]:
        machine.log(f"plugins that could not be loaded: {', '.join(failed)}; see why: reidbench plugins")
    given, data = machine, request.data
    if request.scale:
        machine, data = _at_scale(request.scale, machine), request.scale.data or data
    if not dry_run and any(trains(text, machine.data / part) for part, text in data.items()):
        # Mistakes elsewhere in the request must not be found after a generator was trained.
        make_plan(request, replace(given, log=no_log), catalogue, memo, dry_run=True)
    left_out = [machine.data / part for part, text in data.items() if not _write_data(part, text, machine, dry_run)]
    if request.record:  # the run that is reproduced must not stand for its reproduction
        machine = replace(machine, results=machine.results / AGAIN)
    planner = Planner(catalogue, machine, memo)
    runs: list[Prepared] = []
    mistakes: list[ReidbenchError] = []
    for job in request.jobs:
        try:
            run = planner.plan(job)
            check_request(run, machine)
            runs.append(run)
        except ReidbenchError as error:
            mistakes.append(error)
    mistakes = [error for error in mistakes if not any(str(folder) in str(error) for folder in left_out)]
    if mistakes:
        lines = dict.fromkeys(line for mistake in mistakes for line in str(mistake).splitlines())
        raise type(mistakes[0])("\n".join(lines))
    changes = ""
    if request.file and request.record:
        _check_reproducible(request.file, request.record, runs[0])
        if changes := content_changes(request.record.dataset.content, runs[0].split, machine):
            machine.log(f"{request.file}: {changes}")
    existing = Store(machine.results).folder_names()
    return Plan(runs, [_planned_state(run, existing, machine) for run in runs], machine, request.record, changes)


def _planned_state(run: Prepared, existing: set[str], machine: Machine) -> RunState:
    folders = (run.training_folder, run.run_folder)
    if existing.isdisjoint(without_code(folder.name) for folder in folders):
        return RunState()
    return read_state(*folders, run.id, run.code, run.split, machine)


def training_images(run: Prepared, state: RunState) -> int:
    """Return the number of images that the steps left of a training take."""
    return (run.recipe.steps - state.step) * run.recipe.p * run.recipe.k * run.recipe.frames


def pixels_left(plan: Plan) -> list[float]:
    """Return for each run the pixels left to pass its network, in training (by all passes) and in test.

    A training that several runs share counts for the first.
    """
    trained: set[str] = set()
    pixels: list[float] = []
    for run, state in zip(plan.runs, plan.states, strict=True):
        images = (len(run.split.query.images) + len(run.split.gallery.images)) * (state.status != "done")
        if state.status in ("new", "resumable") and run.trains and run.train_id not in trained:
            images += PASSES * training_images(run, state)
        trained.add(run.train_id)
        pixels.append(images * run.info.preprocess.height * run.info.preprocess.width)
    return pixels


class TimeLeft:
    """The time left of work in parts, from the seconds that the parts done so far took.

    ``costs``: the work left of each part, in any unit.
    ``later``: the work that comes after all of them.
    """

    def __init__(self, costs: Sequence[float], later: float = 0.0) -> None:
        self.left, self.later, self.done = dict(enumerate(costs)), later, 0.0
        self.started = time.monotonic()

    def finish(self, number: int) -> None:
        """Count a part as done."""
        self.done += self.left.pop(number, 0.0)

    def describe(self, fractions: Mapping[int, float]) -> str:
        """Return ", about 5 min left", or an empty text while nothing is done; ``fractions`` are done of parts."""
        begun = sum(self.left.get(number, 0.0) * fraction for number, fraction in fractions.items())
        left, seconds = sum(self.left.values()) + self.later - begun, time.monotonic() - self.started
        return f", about {in_words(seconds / (self.done + begun) * left)} left" if self.done + begun else ""


def _at_scale(scale: Scale, machine: Machine) -> Machine:
    """Log what a scale replaces, and return the machine with the folder of its data."""
    machine.log(f"scale {scale.name}: smaller than the suite; its scores are not the suite's")
    pairs = [(asdict(job), asdict(small)) for job, small in scale.jobs.items()]
    for key, text, other in dict.fromkeys((key, job[key], small[key]) for key in KEYS for job, small in pairs):
        if other != text:
            machine.log(f"scale {scale.name}: {key} {other} replaces {text}")
    digest = hashlib.sha256(json.dumps(dict(scale.data), sort_keys=True).encode()).hexdigest()
    return replace(machine, data=machine.cache / SCALES / f"{scale.name}-{digest[:12]}") if scale.data else machine


def _write_data(part: str, synthesizer: str, machine: Machine, dry_run: bool) -> bool:
    """Log and write a folder of data, where it is missing; returns whether it was, on a dry run without a training."""
    folder = machine.data / part
    if dry_run and trains(synthesizer, folder):
        machine.log(f"data {synthesizer} in {folder}: a dry run trains no generator; runs that need it are left out")
        return False
    machine.log(f"data {synthesizer} in {folder}")
    torch.set_num_threads(machine.threads)
    synthesize(synthesizer, folder)
    return True


def _check_reproducible(file: Path, record: RunRecord, run: Prepared) -> None:
    """Refuse a record of other data, one that was edited, and one in the folder of its own reproduction."""
    if real_path(file).parent == real_path(run.run_folder):
        raise DataError(f"{file}: is in the folder of its own reproduction; name another folder with --results")
    if record.dataset.digest != run.split.digest:
        theirs, ours = (f"{each.digest[:16]} with counts {each.counts}" for each in (record.dataset, run.split))
        raise DataError(f"{file}: the record is of other data: digest {theirs}, here {ours}")
    if record.id != run.id:
        wrong = f"its items have the id {run.id[:12]}, but the record says {record.id[:12]}"
        versions = f"from version {record.evaluation.version} to {run.protocol.version}"
        changed = f"protocol {run.items['protocol'].text} has changed {versions}"
        raise DataError(f"{file}: {wrong}: it was edited, or {changed}")
