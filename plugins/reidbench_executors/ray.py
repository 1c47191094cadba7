"""A Ray cluster: a task of Ray for each training."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reidbench import DataError, Executor, OptionError, Task, TaskState, hookimpl
from reidbench_executors.commands import settle, worker_arguments

POLL_SECONDS = 1.0
STOP_SECONDS = 60  # in which interrupted trainings save their state


class Ray(Executor):
    """A Ray cluster: a task of Ray for each training.

    Options:
        address: Address of the cluster, such as 10.0.0.1:6379; auto is the one that this machine belongs to.
        gpus: Number of GPUs of a training; 0 trains on CPUs, more than 1 trains one network on all of them.
        cpus: Number of cores of a training, which are its threads.
        tries: How often a training that left no record is started.

    It joins a cluster and never starts one. It needs ray here and on the nodes, in one version, and a results folder
    and a data folder that the nodes share. Trainings end with this process, and save their state first.
    """

    def __init__(self, *, address: str = "auto", gpus: int = 1, cpus: int = 4, tries: int = 3) -> None:
        if address == "local" or gpus < 0 or cpus < 1 or tries < 1:
            raise OptionError(
                "ray: expected the address of a cluster that runs, gpus >= 0, cpus >= 1 and tries >= 1, got "
                f"{address=}, {gpus=}, {cpus=}, {tries=}"
            )
        self.address, self.gpus, self.cpus, self.tries = address, gpus, cpus, tries

    def unavailable(self) -> str:
        """Return that Ray is not installed."""
        return "" if find_spec("ray") else "ray is not installed: python -m pip install 'reidbench[ray]'"

    def run(self, tasks: Sequence[Task], folder: Path) -> Generator[Mapping[int, TaskState], None, None]:
        """Submit all tasks, and yield which of them run until all have ended; closing it has them save and end."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray  # noqa: PLC0415 - it takes a second, and is an extra

        handler = signal.getsignal(signal.SIGTERM)  # which ray.init replaces
        try:
            host, _, port = self.address.rpartition("/")[2].rpartition(":")
            if host and port.isdecimal():  # where nobody listens, ray.init would try for minutes
                socket.create_connection((host.strip("[]"), int(port)), timeout=20).close()
            ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            raise DataError(
                f"ray: {self.address}: {str(error).strip()}; start a cluster (ray start), name its address, and set "
                "RAY_AUTH_MODE and RAY_AUTH_TOKEN as on its nodes"
            ) from None
        finally:
            signal.signal(signal.SIGTERM, handler)
        run = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0, max_calls=1)(execute)
        numbers: dict[Any, int] = {}
        try:
            for task in tasks:
                _place(folder, task.number).unlink(missing_ok=True)
                arguments = worker_arguments(task, self.gpus, self.cpus)
                numbers[run.remote(arguments, str(folder), task.number)] = task.number
            states = {task.number: TaskState("waiting", self._shortage(ray.nodes())) for task in tasks}
            while numbers:
                yield states
                time.sleep(POLL_SECONDS)  # which signals interrupt
                ended, _ = ray.wait(list(numbers), num_returns=len(numbers), timeout=0)
                for number in numbers.values():
                    if node := _read(_place(folder, number)):
                        states[number] = TaskState("running", node)
                for reference in ended:
                    number = numbers.pop(reference)
                    states[number] = TaskState("ended")
                    try:
                        ray.get(reference)
                    except ray.exceptions.RayError as error:
                        with (folder / f"{number}.log").open("a", encoding="utf-8") as log:
                            log.write(f"ray: {' '.join(str(error).split()):.300}\n")
            yield from settle(states)
        finally:
            for reference in numbers:
                ray.cancel(reference)
            if numbers:
                ray.wait(list(numbers), num_returns=len(numbers), timeout=STOP_SECONDS)
            ray.shutdown()

    def describe(self, tasks: Sequence[Task], folder: Path) -> str:
        """Return the resources of a training and the commands that Ray runs."""
        commands = [" ".join(["python", *worker_arguments(task, self.gpus, self.cpus)]) for task in tasks]
        return "\n".join([f"ray at {self.address}: {self.cpus} cores and {self.gpus} GPUs for each of", *commands])

    def _shortage(self, nodes: Sequence[Mapping[str, Any]]) -> str:
        """Return that no node has the resources of a training, or an empty text."""
        required = {"CPU": self.cpus, "GPU": self.gpus}
        offers = [node["Resources"] for node in nodes if node["Alive"]]
        if any(all(offer.get(name, 0) >= count for name, count in required.items()) for offer in offers):
            return ""
        return f"none of the {len(offers)} nodes has {self.cpus} cores and {self.gpus} GPUs"


def execute(arguments: list[str], folder: str, number: int) -> None:
    """Execute a task in a process of its own on a node of the cluster; it saves its state when this process ends."""
    place = _place(Path(folder), number)
    if not place.parent.is_dir():
        raise FileNotFoundError(f"{folder}: is not on {socket.gethostname()}; is the results folder shared with it?")
    place.write_text(socket.gethostname(), encoding="utf-8")
    with (place.parent / f"{number}.log").open("ab") as log:
        command = [sys.executable, *arguments[:-1], "--follow-stdin", arguments[-1]]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        while process.poll() is None:  # ray.cancel interrupts a sleep, not a wait
            time.sleep(0.2)
    finally:
        process.terminate()
        process.communicate()


def _place(folder: Path, number: int) -> Path:
    """Return the file that names the node of a task."""
    return folder / f"{number}.node"


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


@hookimpl
def register_executors() -> Mapping[str, Callable[..., Executor]]:
    """Return the executor for Ray clusters."""
    return {"ray": Ray}
