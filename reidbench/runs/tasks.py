"""Tasks: the trainings of a plan, each with every run scored from it, as JSON text that any process can execute."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from reidbench.errors import DataError, OptionError
from reidbench.runs.job import Job
from reidbench.runs.plan import Plan
from reidbench.runs.provenance import LOCAL
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import Machine
from reidbench.utils.untrusted_files import LIST_BYTES, read_text

BATCHES = "batches"
TASKS = "tasks.jsonl"
# The fields of a machine that travel with a task beside device and threads as requested.
SETTINGS = ("data", "results", "cache", "checkpoint_seconds", "allow_partial", "pixels", "trackers", "validate_every")


@dataclass(frozen=True)
class Task:
    """One training with every run scored from it.

    ``number``: its line in the batch's file of tasks, from 0.
    ``name``: the title of its first run, for display.
    ``arguments``: those of ``python -m reidbench`` that execute it in any process that sees the results folder.
    ``device``: the device as requested: "auto", "cpu", "cuda" or "cuda:N".
    ``threads``: the number of threads as requested; 0 leaves it to the executor, which may add ``--threads N``.
    """

    number: int
    name: str
    arguments: tuple[str, ...]
    device: str
    threads: int


@dataclass(frozen=True)
class TaskState:
    """What an executor knows of a task.

    ``state``: "waiting", "running" or "ended", however it ended.
    ``where``: the machine or device it runs on, or why it waits, as the system that executes it says.
    """

    state: Literal["waiting", "running", "ended"]
    where: str = ""


class Executor(ABC):
    """Runs tasks in other processes, here or on other machines; the results folder is all that it shares with them.

    ``tries``: how often a task that left no result is executed.
    """

    tries: int = 3

    def processes(self, device: str, trainings: int) -> int:
        """Return how many processes run so many trainings on a device, as requested, at a time; 1 where nobody knows.

        0 runs them in this process, one after another, without a call of ``run``.
        """
        return 1

    def unavailable(self) -> str:
        """Return why it cannot run tasks on this machine, such as a missing program, or an empty text."""
        return ""

    @abstractmethod
    def run(self, tasks: Sequence[Task], folder: Path) -> Generator[Mapping[int, TaskState], None, None]:
        """Execute tasks and yield the state of each by its number, every few seconds, until all have ended.

        ``folder`` is the batch's; the output of task N goes to its file ``N.log``, appended. Tasks of the same folder
        that an earlier call left running are reattached, not started twice. Where files become visible here with a
        delay, it continues for that long. Closing it either stops the tasks, which then save their state, or leaves
        them running. Raises DataError or OptionError with the message of what refuses them.
        """

    def describe(self, tasks: Sequence[Task], folder: Path) -> str:
        """Return what ``run`` would do, such as the script that it submits."""
        return "\n".join(task.name for task in tasks)

    def after_interrupt(self, folder: Path) -> str:
        """Return what an interruption leaves running and how to end that, or an empty text where it leaves nothing."""
        return ""


@dataclass(frozen=True)
class TaskText:
    """The content of a task.

    ``settings``: arguments of ``local_machine``, with absolute paths; device and threads as requested.
    ``jobs``: its runs.
    ``ids``: the ids of the runs.
    ``code_files``: sha256 of each source file of the runs by its name.
    """

    settings: dict[str, Any]
    jobs: list[Job]
    ids: list[str]
    code_files: dict[str, str]


@dataclass(frozen=True)
class Batch:
    """Tasks in their folder.

    ``folder``: a folder among the results whose name follows from what is computed.
    ``tasks``: the tasks by number.
    ``results``: for each task the numbers of its results; of a plan's tasks those are the numbers of the runs.
    ``locks``: for each task the file that a process locks while it executes it.
    """

    folder: Path
    tasks: Sequence[Task]
    results: Sequence[Sequence[int]]
    locks: Sequence[Path]


def make_batch(plan: Plan) -> Batch:
    """Return the tasks of a plan, one for each training or untrained network; nothing is written.

    The folder and the numbers depend on the runs and the settings, not on the states of the runs, so that the same
    command finds its batch again, and two commands with other settings have a batch each.
    Raises OptionError where a loss is a Python object, which no other process has.
    """
    machine = plan.machine
    groups: dict[Path, list[int]] = {}
    for number, run in enumerate(plan.runs):
        for kind, item in run.items.items():
            if any(offer.plugin.name == LOCAL for offer in item.plugin_items):
                advice = "make it a plugin (reidbench plugins new), or run it in this process: local(workers=1)"
                raise OptionError(f"{kind} {item.text}: is a Python object, which no other process has; {advice}")
        groups.setdefault(run.training_folder, []).append(number)
    content = json.dumps([_settings(machine), [[run.id, run.code] for run in plan.runs]])
    digest = hashlib.sha256(content.encode()).hexdigest()
    folder = machine.results.absolute() / BATCHES / digest[:10]
    arguments, requested = ("work", str(folder / TASKS)), (machine.requested_device, machine.requested_threads)
    tasks = [
        Task(number, plan.title(runs[0]), (*arguments, str(number)), *requested)
        for number, runs in enumerate(groups.values())
    ]
    return Batch(folder, tasks, list(groups.values()), [training / "lock" for training in groups])


def write_batch(batch: Batch, plan: Plan) -> None:
    """Write the file of tasks, a line of JSON each."""
    lines = []
    for numbers in batch.results:
        runs = [plan.runs[number] for number in numbers]
        text = TaskText(
            settings=_settings(plan.machine),
            jobs=[run.job for run in runs],
            ids=[run.id for run in runs],
            code_files={name: digest for run in runs for name, digest in run.code_files.items()},
        )
        lines.append(json.dumps(dataclasses.asdict(text), sort_keys=True))
    write_atomic(batch.folder / TASKS, "".join(f"{line}\n" for line in lines))


def _settings(machine: Machine) -> dict[str, Any]:
    values = {name: getattr(machine, name) for name in SETTINGS}
    values |= {"device": machine.requested_device, "threads": machine.requested_threads}
    return {name: str(value.absolute()) if isinstance(value, Path) else value for name, value in values.items()}


def read_task(file: Path, number: int) -> TaskText:
    """Return one task of a batch; raises DataError where the file is not here, so that the folder is not shared."""
    try:
        lines = read_text(file, LIST_BYTES).splitlines()  # several KiB for each task
    except DataError as error:
        advice = "is the results folder shared with this machine? name a shared one with --results"
        raise DataError(f"{gethostname()}: {error}; {advice}") from None
    if not 0 <= number < len(lines):
        raise OptionError(f"{file}: has {len(lines)} tasks, numbered from 0; there is no task {number}")
    try:
        return TypeAdapter(TaskText).validate_json(lines[number])
    except (ValidationError, OptionError) as error:
        raise DataError(f"{file}: task {number} is damaged: {error}") from None


def error_file(folder: Path, number: int) -> Path:
    """Return the file for the error of a task that a further try would meet again."""
    return folder / f"{number}.error"


def log_file(folder: Path, number: int) -> Path:
    """Return the file that a task's output is appended to."""
    return folder / f"{number}.log"
