"""Small plans that an executor runs, and what the tests of executors do to them meanwhile."""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from reidbench.runs.driver import distribute
from reidbench.runs.execute import execute
from reidbench.runs.plan import Plan, Request, make_plan
from reidbench.utils.machine import local_machine
from tests.support.distributions import install
from tests.support.jobs import job
from tests.support.paths import CHECKOUT

JOBS = (job(), job(loss="none"))
LONG = job(recipe="quick(steps=600, p=6, k=2)")  # logs have their first line after 15 s, when this must still run


def plan(results, jobs=JOBS):
    machine = local_machine(device="cpu", threads=1, results=results, checkpoint_seconds=0.2)
    return make_plan(Request(jobs), machine)


def scores(plan, executor=None):
    """Return the scores of each run by its id, with the digest of the weights."""
    runs = distribute(plan, executor) if executor else execute(plan)
    return {record.id: (record.weights, record.scores) for _, record in runs}


def has_checkpoint(plan: Plan) -> bool:
    return any(plan.runs[0].training_folder.glob("checkpoint*"))


def workers(folder: Path) -> list[int]:
    """Return the processes that execute a task of a batch below ``folder``."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            if b"work" in arguments and str(folder).encode() in b" ".join(arguments) and b"python" in arguments[0]:
                pids.append(int(process.name))
    return pids


def kill_worker(folder: Path) -> None:
    """Kill one of the processes that execute tasks."""
    os.kill(workers(folder)[0], signal.SIGKILL)


def disturb(executor, when, action):
    """Have ``executor`` call ``action`` once, as soon as ``when()`` holds while it runs; returns what that returned."""
    run, results = executor.run, []

    def disturbed(tasks, folder):
        for states in run(tasks, folder):
            if not results and when():
                results.append(action())
            yield states

    executor.run = disturbed
    return results


def await_(condition):
    """Wait until ``condition()`` holds, for at most some minutes."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def command(results: Path, executor: str, *more: str) -> list[str]:
    """Return the command line that runs the long training with an executor."""
    flags = [f"--{kind}={text}" for kind, text in vars(LONG).items()] + ["--device=cpu", "--threads=1", *more]
    return [sys.executable, "-m", "reidbench", "run", *flags, f"--results={results}", f"--executor={executor}"]


def third_party_package(folder: Path) -> dict[str, str]:
    """Install a third party's package of losses into a folder; return the environment in which Python finds it."""
    code = (CHECKOUT / "tests/support/third_party_plugin/somebodys_losses.py").read_text()
    return install(folder, "somebodys-losses", [("losses", code)])
