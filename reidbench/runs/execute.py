"""Run the jobs of a plan, or of one task of a plan, one after the other; ``reidbench.run`` does so from Python."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any

from reidbench.errors import Busy, DataError, OptionError, PeerError, ReidbenchError, checked
from reidbench.plugins.catalogue import Catalogue, command_defaults, load
from reidbench.runs.plan import Plan, Request, TimeLeft, make_plan, pixels_left
from reidbench.runs.preflight import preflight
from reidbench.runs.provenance import LOCAL, changed_files, local_loss
from reidbench.runs.record import RunRecord
from reidbench.runs.run_job import follow, run_job
from reidbench.runs.suite import expand
from reidbench.runs.tasks import Executor, TaskText, error_file, read_task
from reidbench.training.loop import STAGE
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import AUTO, local_machine
from reidbench.utils.processes import World
from reidbench.utils.progress import Overall

if TYPE_CHECKING:
    from reidbench.runs.records import Records

BUSY_SECONDS = 2.0  # between two looks at folders that another process holds


def execute(plan: Plan, executor: Executor | None = None, wait: bool = True) -> Iterator[tuple[Path, RunRecord]]:
    """Run a plan and yield (run folder, record) of each run when it ends, also of one that failed.

    ``executor`` may run it in other processes. A run whose folders another process holds is looked at again after the
    others, until that process has left them; without ``wait`` Busy is raised. Raises an error of reidbench where a run
    cannot be made at all, and Interrupted after a signal. Of several processes that train together the first yields;
    the others take part in the trainings.
    """
    machine = plan.machine
    elsewhere = executor if executor and not runs_here(plan, executor) else None
    if elsewhere and machine.world.size > 1:
        raise OptionError("--executor: starts processes of its own; leave it out under torchrun")
    if not machine.world.first:
        for run in plan.runs:
            follow(run, machine)
        return
    runs = _execute_here(plan, wait)
    if elsewhere:
        from reidbench.runs.driver import distribute  # noqa: PLC0415 - most runs are executed in this process

        runs = distribute(plan, elsewhere)
    for folder, record in runs:
        yield folder, record
        if plan.record:
            _log_difference(plan.record, record, machine.log, plan.changes)


def _execute_here(plan: Plan, wait: bool) -> Iterator[tuple[Path, RunRecord]]:
    machine = plan.machine
    runs, networks = plan.runs, preflight(plan.runs, plan.states, machine)
    time_left = TimeLeft(pixels_left(plan), plan.later_pixels)
    waiting: set[int] = set()
    queue = deque(range(len(plan.runs)))
    while queue:
        number = queue.popleft()
        run, state = runs[number], plan.states[number]

        def log(line: str, title: str = plan.title(number)) -> None:
            machine.log(f"{title}: {line}")

        if number not in waiting and (line := plan.start_line(number)):
            machine.log(line)
        network = networks.pop((run.items["backbone"].identity, run.job.seed), None)
        overall = _describe_place(time_left, number, len(runs)) if len(runs) > 1 else None
        own = replace(machine, log=log, overall=overall)
        if machine.trackers or machine.validate_every:
            from reidbench.runs.tracking import RunObserver  # noqa: PLC0415 - most runs have none

            own = replace(own, observer=RunObserver(run, own))
        try:
            record = run_job(run, own, state, network)
        except Busy as error:
            if not wait or machine.world.size > 1:
                raise
            if number not in waiting:
                log(f"{error}; looked at again later")
            waiting.add(number)
            queue.append(number)
            if waiting.issuperset(queue):
                time.sleep(BUSY_SECONDS)
            continue
        time_left.finish(number)
        if line := plan.end_line(number, record):
            machine.log(line + time_left.describe({}) * any(time_left.left.values()))
        yield run.run_folder, record


def _describe_place(time_left: TimeLeft, number: int, total: int) -> Overall:
    """Return the function that describes the place of a run among all, and the time left of all."""
    trained = 0.0

    def describe(stage: str, _seconds: float, fraction: float) -> str:
        nonlocal trained
        trained = fraction if stage == STAGE else trained
        return f"job {number + 1} of {total}{time_left.describe({number: trained})}"

    return describe


def runs_here(plan: Plan, executor: Executor) -> bool:
    """Return whether an executor leaves the runs of a plan to this process."""
    trainings = len({run.training_folder for run in plan.runs})
    return executor.processes(plan.machine.requested_device, trainings) == 0


def _log_difference(before: RunRecord, now: RunRecord, log: Callable[[str], None], images: str = "") -> None:
    """Log how the scores of a reproduction differ from the record's, and what else does; ``images``: how images do."""
    primary = before.evaluation.primary
    if primary not in now.scores or primary not in before.scores:
        return
    names = [name for name, value in before.scores.items() if isinstance(value, float) and name in now.scores]
    worst = max(names, key=lambda name: abs(now.scores[name] - before.scores[name]))
    change = f"largest difference {now.scores[worst] - before.scores[worst]:+.6f} in {worst}"
    same = "every score is the same to the last digit" if before.scores.items() <= now.scores.items() else change
    changes = [*filter(None, [images]), *changed_files(before.code_files, now.code_files)]
    for name in ("device_name", "threads", "torch"):
        was, made = getattr(before.environment, name), getattr(now.environment, name)
        changes += [f"{name} ({was} before, {made} now)"] if was != made else []
    if changes:
        log(f"differs: {', '.join(changes)}")
    verdict = "run on other images, not reproduced" if images else "reproduced"
    log(f"{verdict}: {primary} {before.scores[primary]:.6f} before, {now.scores[primary]:.6f} now; {same}")


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
        yield from execute(_plan_task(task, device, threads, world, log), wait=False)
    except (Busy, PeerError):  # a further try may not meet them
        raise
    except ReidbenchError as error:
        write_atomic(error_file(file.parent, number), str(error))
        raise


def _plan_task(task: TaskText, device: str, threads: int, world: World, log: Callable[[str], None]) -> Plan:
    overrides = {name: value for name, value in (("device", device), ("threads", threads)) if value not in (AUTO, 0)}
    machine = local_machine(**task.settings | overrides, log=log, world=world)
    plan = world.in_turn(lambda: make_plan(Request(task.jobs), machine))
    for run, run_id in zip(plan.runs, task.ids, strict=True):
        if run.id != run_id:
            raise DataError(f"{gethostname()}: {run.items['loss'].text}: the data in {plan.machine.data} differ here")
    code_files = {name: digest for run in plan.runs for name, digest in run.code_files.items()}
    if changed := changed_files(task.code_files, code_files):
        reason = "the code here is not that of the process which planned this task"
        files = ", ".join(changed)
        raise DataError(f"{gethostname()}: {reason}; other files: {files}; install the same version on both")
    return plan


Texts = str | Sequence[str] | None


def run(
    *,
    loss: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] | None = None,
    backbone: Texts = None,
    protocol: Texts = None,
    recipe: Texts = None,
    metric: Texts = None,
    rerank: Texts = None,
    seed: int | Sequence[int] | None = None,
    device: str = AUTO,
    threads: int = 0,
    results: str | Path | None = None,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
    executor: str | None = None,
    tracker: Texts = None,
    validate_every: int = 0,
) -> Records:
    """Train and score every combination, as ``reidbench run`` does, and return the records in the order of the jobs.

    Items are texts as on the command line, or lists of such; what is left out has the command line's default. A loss
    may also be a class or a factory: it is used under its own name, in this process only, and a change of its source
    trains again. Runs that failed are among the records. Raises ReidbenchError where the request is wrong.
    """
    from reidbench.runs.records import Records  # noqa: PLC0415 - the command line has no use for it

    items = {"protocol": protocol, "loss": loss, "backbone": backbone, "recipe": recipe, "metric": metric}
    choices, catalogue = read_choices({**items, "rerank": rerank, "seed": seed})
    settings: dict[str, Any] = {"data": data_root or None, "results": results or None, "cache": cache or None}
    settings |= {"trackers": _as_list(tracker or ()), "validate_every": validate_every}
    machine = local_machine(**settings, device=device, threads=threads, log=partial(print, file=sys.stderr))
    plan = make_plan(Request(expand(choices, command_defaults())), machine, catalogue)
    # By default the processes of other GPUs take part, which do not have losses that are Python objects.
    local = any(item.plugin.name == LOCAL for item in catalogue.items)
    records = dict(execute(plan, None if local and executor is None else build_executor(executor)))
    run_folders = [run.run_folder for run in plan.runs if run.run_folder in records]
    return Records((folder, records[folder]) for folder in run_folders)


def read_choices(given: Mapping[str, Any]) -> tuple[dict[str, list[Any]], Catalogue]:
    """Return values of a job's keys as lists of texts, and the catalogue with the losses that are Python objects.

    Keys of the value None are left out. Raises OptionError where a loss is neither text nor callable, and where two
    losses have one name.
    """
    choices = {key: _as_list(value) for key, value in given.items() if value is not None}
    catalogue = load()
    for number, each in enumerate(choices.get("loss", [])):
        if callable(each):
            item = local_loss(each)
            same = [other for other in catalogue.items if (other.kind, other.name) == (item.kind, item.name)]
            if any(other.factory is not each for other in same):
                raise OptionError(f"{item.kind} {item.name}: there is another item of this name; rename yours")
            catalogue = catalogue if same else replace(catalogue, items=(*catalogue.items, item))
            choices["loss"][number] = item.name
        elif not isinstance(each, str):
            raise OptionError(f"loss: expected a text, a loss class or a factory, or a list of these, got {each!r}")
    return choices, catalogue


def build_executor(text: str | None) -> Executor:
    """Return the executor of a spec, by default the command line's; raises OptionError and PluginError."""
    spec = load().resolve("executor", str(command_defaults()["executor"]) if text is None else text)
    return checked(spec.owner, spec.build(), Executor)  # type: ignore[type-abstract]


def _as_list(value: object) -> list[Any]:
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
