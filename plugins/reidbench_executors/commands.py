"""Tasks on the machines of a cluster: the command that executes one, and the wait for its files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeVar

from reidbench import Task

T = TypeVar("T")

SETTLE_SECONDS = 60  # after which network file systems show this machine what another has written


def worker_arguments(task: Task, gpus: int, cpus: int) -> list[str]:
    """Return Python's arguments that execute a task with so many GPUs and cores; the last is the task's number.

    More than one GPU train one network together. What the user requested, device or threads, is left as it is.
    """
    command = ["-u", "-m", "reidbench"]
    if gpus > 1:
        command = ["-u", "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}", "-m", "reidbench"]
    *arguments, number = task.arguments
    command += arguments
    if task.device == "auto":  # a node whose GPU cannot be used must not train for days on its cores
        command += ["--device", "cuda" if gpus else "cpu"]
    if not task.threads:
        command += ["--threads", str(max(1, cpus // max(1, gpus)))]
    return [*command, number]


def settle(states: T) -> Iterator[T]:
    """Yield the last states of tasks again until the files of other machines are visible here."""
    for _ in range(SETTLE_SECONDS):
        time.sleep(1.0)
        yield states
