"""Processes on this machine: one for each GPU, or a number of them that share the cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from reidbench import Executor, OptionError, Task, TaskState, hookimpl

POLL_SECONDS = 0.25
MOST_WORKERS = 1024


@dataclass(frozen=True)
class Slot:
    """A place for one process.

    ``name``: what it is, for display.
    ``variables``: environment variables of its process.
    """

    name: str
    variables: Mapping[str, str]


class Local(Executor):
    """Processes on this machine.

    Options:
        workers: Number of processes; 0 is one for each GPU, and without GPUs this process alone.
        tries: How often a training that left no record is started.

    With GPUs each process sees one of them, in turn. Without, each gets max(1, cores // workers) threads unless
    ``--threads`` says otherwise. One worker is this process. A process ends with the one that started it, and saves
    its state first.
    """

    def __init__(self, *, workers: int = 0, tries: int = 3) -> None:
        if not 0 <= workers <= MOST_WORKERS or tries < 1:
            expected = f"workers from 0 to {MOST_WORKERS:,} and tries >= 1"
            raise OptionError(f"local: expected {expected}, got {workers=}, {tries=}")
        self.workers = workers
        self.tries = tries

    def processes(self, device: str, trainings: int) -> int:
        """Return the number of workers; 0 for one, which is this process."""
        count = len(self._slots(device, trainings))
        return count if count > 1 else 0

    def run(self, tasks: Sequence[Task], folder: Path) -> Generator[Mapping[int, TaskState], None, None]:
        """Run each task in a process as soon as a slot is free; closing the iterator has all processes save and end."""
        states = {task.number: TaskState("waiting") for task in tasks}
        free = self._slots(tasks[0].device, len(tasks))
        threads = max(1, len(os.sched_getaffinity(0)) // len(free))
        waiting = list(tasks)
        running: dict[int, tuple[subprocess.Popen[bytes], Slot]] = {}
        try:
            while waiting or running:
                while waiting and free:
                    task, slot = waiting.pop(0), free.pop(0)
                    running[task.number] = _start(task, slot, threads, folder), slot
                    states[task.number] = TaskState("running", slot.name)
                yield dict(states)
                time.sleep(POLL_SECONDS)
                for number, (process, slot) in list(running.items()):
                    if process.poll() is not None:
                        process.communicate()
                        del running[number]
                        free.append(slot)
                        states[number] = TaskState("ended", slot.name)
            yield states
        finally:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.communicate()

    def describe(self, tasks: Sequence[Task], folder: Path) -> str:
        """Return the slots and the tasks."""
        slots = self._slots(tasks[0].device, len(tasks))
        return "\n".join([f"{len(slots)} processes: {', '.join(slot.name for slot in slots)}", *map(str, tasks)])

    def _slots(self, device: str, trainings: int) -> list[Slot]:
        gpus = _visible_gpus() if device in ("auto", "cuda") else []
        count = self.workers or max(1, min(len(gpus), trainings))
        if not gpus:
            return [Slot(f"process {number}", {}) for number in range(count)]
        chosen = [gpus[number % len(gpus)] for number in range(count)]
        return [Slot(f"GPU {gpu}", {"CUDA_VISIBLE_DEVICES": gpu}) for gpu in chosen]


def _visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] or [str(number) for number in range(count)]


def _start(task: Task, slot: Slot, threads: int, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-u", "-m", "reidbench", *task.arguments, "--follow-stdin"]
    if not task.threads:
        command += ["--threads", str(threads)]
    with (folder / f"{task.number}.log").open("ab") as log:
        # Its stdin closes when this process ends, however it ends.
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env={**os.environ, **slot.variables}
        )


@hookimpl
def register_executors() -> Mapping[str, Callable[..., Executor]]:
    """Return the local executor."""
    return {"local": Local}
