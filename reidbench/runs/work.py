"""Execute one task of a batch in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from socket import gethostname

from reidbench.errors import Busy, DataError, PeerError, ReidbenchError
from reidbench.runs.execute import execute
from reidbench.runs.plan import Plan, Request, make_plan
from reidbench.runs.provenance import changed_files
from reidbench.runs.record import RunRecord
from reidbench.runs.tasks import TaskText, error_file, read_task
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import AUTO, local_machine
from reidbench.utils.processes import World


def work(
    file: Path, number: int, device: str, threads: int, world: World, log: Callable[[str], None]
) -> Iterator[tuple[Path, RunRecord]]:
    """Execute one task and yield (run folder, record) of each of its runs.

    ``device`` and ``threads`` replace the task's own, unless they are "auto" and 0; ``world`` are the processes that
    train it together. An error that a further try would meet again is also written beside the task, for the process
    that waits for it.
    Raises DataError where the file of tasks is not here, since the results folder is not shared with this machine, and
    where the code or the data here give other runs; it names the files that differ. Raises Busy where another process
    holds the training.
    """
    task = read_task(file, number)
    try:
        yield from execute(_plan(task, device, threads, world, log), wait=False)
    except (Busy, PeerError):  # a further try may not meet them
        raise
    except ReidbenchError as error:
        write_atomic(error_file(file.parent, number), str(error))
        raise


def _plan(task: TaskText, device: str, threads: int, world: World, log: Callable[[str], None]) -> Plan:
    overrides = {name: value for name, value in (("device", device), ("threads", threads)) if value not in (AUTO, 0)}
    machine = local_machine(**task.settings | overrides, log=log, world=world)
    plan = world.in_turn(lambda: make_plan(Request(task.jobs), machine))
    for run, run_id in zip(plan.runs, task.ids, strict=True):
        if run.id != run_id:
            raise DataError(f"{gethostname()}: {run.items['loss'].text}: the data in {plan.machine.data} differ here")
    code_files = {name: digest for run in plan.runs for name, digest in run.code_files.items()}
    if changed := changed_files(task.code_files, code_files):
        raise DataError(
            f"{gethostname()}: the code here is not that of the process which planned this task; other files: "
            f"{', '.join(changed)}; install the same version on both"
        )
    return plan
