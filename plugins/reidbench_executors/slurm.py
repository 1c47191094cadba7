"""A Slurm cluster: one job array, an element for each training."""

from __future__ import annotations

import itertools
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from reidbench import DataError, Executor, OptionError, Task, TaskState, hookimpl
from reidbench_executors.commands import settle, worker_arguments

POLL_SECONDS = 2.0
MOST_POLL_SECONDS = 15.0
TIMEOUT_SECONDS = 60  # of a client; with a dead controller it would wait for minutes
FAILED_POLLS = 20  # in a row, until the controller counts as gone
SAVE_SECONDS = 120  # before the time limit, when Slurm sends SIGUSR1
PENDING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "STOPPED")

# The worker saves its state at SIGUSR1, which Slurm sends before the time limit; the element is then queued again.
SCRIPT = """#!/bin/bash
trap 'requeue=yes; kill -USR1 $worker' USR1
trap 'kill -TERM $worker' TERM
{setup}
{command} &
worker=$!
wait $worker
code=$?
while kill -0 $worker 2>/dev/null; do wait $worker; code=$?; done
if [ "$requeue" = yes ]; then exec scontrol requeue "$SLURM_ARRAY_JOB_ID"_"$SLURM_ARRAY_TASK_ID"; fi
exit $code
"""


class Slurm(Executor):
    """A Slurm cluster: one job array, an element for each training.

    Options:
        partition: The partition; none is the cluster's default.
        gpus: Number of GPUs of a training; 0 trains on CPUs, more than 1 trains one network on all of them.
        cpus: Number of cores of a training, which are its threads.
        memory: Memory of a training, such as 32G; none is the cluster's default.
        hours: Time limit of a training; at its end it is saved and queued again.
        at_once: Most trainings at a time; 0 is as many as the cluster allows.
        account: The account; none is your default.
        setup: Shell commands before each training, such as "module load cuda; source venv/bin/activate".
        options: Further options of sbatch, such as "--constraint=a100 --qos=long".
        tries: How often a training that left no record is submitted.

    It needs sbatch and squeue here, and a results folder, a data folder and a Python environment that the nodes share.
    The same command finds its array again by name; interrupted, it leaves the array alone.
    """

    def __init__(
        self,
        *,
        partition: str | None = None,
        gpus: int = 1,
        cpus: int = 4,
        memory: str | None = None,
        hours: float = 4.0,
        at_once: int = 0,
        account: str | None = None,
        setup: str = "",
        options: str = "",
        tries: int = 3,
    ) -> None:
        if gpus < 0 or cpus < 1 or not 0 < hours <= 24 * 365 or at_once < 0 or tries < 1:
            raise OptionError(
                "slurm: expected gpus >= 0, cpus >= 1, hours above 0, at_once >= 0 and tries >= 1, got "
                f"{gpus=}, {cpus=}, {hours=}, {at_once=}, {tries=}"
            )
        self.gpus, self.cpus, self.at_once, self.setup, self.tries = gpus, cpus, at_once, setup, tries
        limits = {"partition": partition, "mem": memory, "account": account, "gres": f"gpu:{gpus}" if gpus else None}
        self.flags = [f"--{name}={value}" for name, value in limits.items() if value is not None]
        self.flags += [f"--cpus-per-task={cpus}", f"--time={max(1, round(60 * hours))}", *shlex.split(options)]

    def processes(self, device: str, trainings: int) -> int:
        """Return the most trainings at a time; 1 where the cluster decides."""
        return self.at_once or 1

    def unavailable(self) -> str:
        """Return which of Slurm's programs are missing."""
        missing = [name for name in ("sbatch", "squeue") if shutil.which(name) is None]
        return f"slurm needs {' and '.join(missing)}; run this on a machine of the cluster" if missing else ""

    def run(self, tasks: Sequence[Task], folder: Path) -> Generator[Mapping[int, TaskState], None, None]:
        """Submit what is not in the queue, and yield what the queue says until it holds none of the tasks."""
        queue = self._queue(folder)
        if absent := [task for task in tasks if task.number not in queue]:
            _call(self._submission(absent, folder), self._script(absent[0]))
        ended = {task.number: TaskState("ended") for task in tasks}
        pause, failures = POLL_SECONDS, 0
        while True:
            try:
                queue, failures = self._queue(folder), 0
            except DataError:
                failures += 1
                if failures == FAILED_POLLS:
                    raise
            states = {**ended, **{number: state for number, state in queue.items() if number in ended}}
            yield states
            if all(state.state == "ended" for state in states.values()):
                break
            time.sleep(pause)
            pause = min(1.2 * pause, MOST_POLL_SECONDS)
        yield from settle(states)

    def describe(self, tasks: Sequence[Task], folder: Path) -> str:
        """Return the command and the script that are submitted."""
        command = shlex.join(self._submission(tasks, folder))
        return f"{command} <<'END'\n{self._script(tasks[0])}END"

    def after_interrupt(self, folder: Path) -> str:
        """Return how to watch the array again and how to cancel it."""
        name = _job_name(folder)
        return (
            f"the array {name} stays in Slurm's queue: the same command watches it again, squeue --name={name} lists "
            f"it, and scancel --name={name} cancels it"
        )

    def _submission(self, tasks: Sequence[Task], folder: Path) -> list[str]:
        limit = f"%{self.at_once}" if self.at_once else ""
        return [
            *("sbatch", "--parsable", f"--job-name={_job_name(folder)}"),
            f"--array={_ranges([task.number for task in tasks])}{limit}",
            *(f"--output={folder}/%a.log", "--open-mode=append", "--requeue", f"--signal=B:USR1@{SAVE_SECONDS}"),
            *self.flags,
        ]

    def _script(self, task: Task) -> str:
        """Return the script of the array; ``task`` is any of it: their last argument is the element's number."""
        command = shlex.join([sys.executable, *worker_arguments(task, self.gpus, self.cpus)[:-1]])
        return SCRIPT.format(setup=self.setup, command=f'{command} "$SLURM_ARRAY_TASK_ID"')

    def _queue(self, folder: Path) -> dict[int, TaskState]:
        """Return the state of each element in the queue by its number."""
        states = {}
        listing = _call(["squeue", "--me", "-r", "-h", "-n", _job_name(folder), "-o", "%K|%T|%N|%r"])
        for line in listing.splitlines():
            number, state, node, reason = line.split("|", 3)
            if number.isdecimal():
                waits = state in PENDING
                states[int(number)] = TaskState("waiting", reason) if waits else TaskState("running", node)
        return states


def _job_name(folder: Path) -> str:
    return f"reidbench-{folder.name}"


def _ranges(numbers: Sequence[int]) -> str:
    """Return numbers as Slurm writes them: "0-2,5"."""
    groups = itertools.groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in group] for _, group in groups]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _call(command: list[str], text: str = "") -> str:
    """Return what a client of Slurm prints; raises DataError with its own words where it fails."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=TIMEOUT_SECONDS)
    except subprocess.CalledProcessError as error:
        raise DataError(f"slurm: {command[0]} failed: {error.stderr.strip()}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"slurm: {command[0]}: {error}") from None
    return done.stdout


@hookimpl
def register_executors() -> Mapping[str, Callable[..., Executor]]:
    """Return the executor for Slurm clusters."""
    return {"slurm": Slurm}
