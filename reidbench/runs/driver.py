"""Have tasks executed by other processes, and show them while they run."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from reidbench.errors import Busy, TrainingError
from reidbench.runs.plan import Plan, pixels_left
from reidbench.runs.record import RECORD, RunRecord, read_record
from reidbench.runs.tasks import Batch, Executor, Task, TaskState, error_file, log_file, make_batch, write_batch
from reidbench.utils.lock import lock
from reidbench.utils.progress import LiveLines, in_words, live_lines

T = TypeVar("T")

LOG_TAIL = 4096
BUSY_SECONDS = 5.0  # between two looks at trainings that another process holds


def distribute(plan: Plan, executor: Executor) -> Iterator[tuple[Path, RunRecord]]:
    """Have ``executor`` run the tasks of a plan, and yield (run folder, record) of each run when it ends.

    Raises TrainingError as ``execute_tasks``.
    """
    batch = make_batch(plan)
    write_batch(batch, plan)
    yield from execute_tasks(batch, _Records(plan), executor)


class Results(ABC, Generic[T]):
    """The results of the tasks of a batch, as they appear in the folder that their processes share.

    Fields:
        noun: what they are, in the plural.
        costs: the work that each takes, in any unit.
        ended: the results so far by number.
    """

    noun: str
    costs: Sequence[float]
    ended: dict[int, T]

    @abstractmethod
    def new(self) -> Iterator[tuple[T, str]]:
        """Yield each result that appeared since the last call, now among ``ended``, and a line about it."""

    @abstractmethod
    def folder(self, number: int) -> Path:
        """Return the folder whose lock a process holds while it computes a result."""

    def complete(self, numbers: Sequence[int]) -> bool:
        """Return whether all these results are there."""
        return self.ended.keys() >= set(numbers)


def execute_tasks(batch: Batch, results: Results[T], executor: Executor) -> Iterator[T]:
    """Have ``executor`` execute the tasks of a batch that lack results, and yield each result when it appears.

    Those that are there come first. A task whose lock another process holds is looked at again later. One that left no
    result is executed up to ``executor.tries`` times. Raises TrainingError at the end, with the last line of its log,
    for each task without a result.
    """
    yield from list(results.ended.values())
    pending = [task for task in batch.tasks if not results.complete(batch.results[task.number])]
    tries: Counter[int] = Counter()
    failures: dict[Task, str] = {}
    status = _Status(batch, results)
    with live_lines() as view:
        while pending:
            for states in executor.run(pending, batch.folder):
                yield from _print_new(results, view)
                view.show(status.lines(pending, states))
            time.sleep(executor.settled)
            yield from _print_new(results, view)
            again = []
            for task in pending:
                numbers = batch.results[task.number]
                if results.complete(numbers):
                    continue
                if busy := _busy(results.folder(numbers[0])):
                    view.print(f"{task.name}: {busy}; looked at again later")
                    again.append(task)
                    continue
                tries[task.number] += 1
                reason = _reason(batch.folder, task.number)
                if error_file(batch.folder, task.number).exists() or tries[task.number] >= executor.tries:
                    failures[task] = reason
                else:
                    view.print(f"{task.name}: left no result ({reason}); tried again")
                    again.append(task)
            if again and len(again) == len(pending) and not any(tries[task.number] for task in again):
                time.sleep(BUSY_SECONDS)
            pending = again
    if failures:
        raise TrainingError("\n".join(f"{task.name}: left no result: {reason}" for task, reason in failures.items()))


def _print_new(results: Results[T], view: LiveLines) -> Iterator[T]:
    for result, line in results.new():
        view.print(line)
        yield result


class _Records(Results[tuple[Path, RunRecord]]):
    """The records of a plan."""

    noun = "runs"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.costs = [sum(pixels) for pixels in zip(*pixels_left(plan), strict=True)]
        states = zip(plan.runs, plan.states, strict=True)
        self.ended = {
            number: (run.run_folder, state.record) for number, (run, state) in enumerate(states) if state.record
        }
        self._seen = {number: _changed(run.run_folder / RECORD) for number, run in enumerate(plan.runs)}

    def folder(self, number: int) -> Path:
        """Return the folder of a run's training."""
        return self.plan.runs[number].training_folder

    def new(self) -> Iterator[tuple[tuple[Path, RunRecord], str]]:
        """Yield ((run folder, record), line about it) of the runs that have ended since the last call."""
        for number, run in enumerate(self.plan.runs):
            file = run.run_folder / RECORD
            if number in self.ended or (changed := _changed(file)) == self._seen[number]:
                continue
            self._seen[number] = changed
            record = read_record(file)
            if (record.id, record.code) == (run.id, run.code) and record.status != "interrupted":
                self.ended[number] = run.run_folder, record
                yield self.ended[number], self.plan.end_line(number, record)


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


class _Status:
    """The lines that are shown while tasks run: the whole with the time left, then each running task."""

    def __init__(self, batch: Batch, results: Results[T]) -> None:
        self.folder, self.results = batch.folder, results
        self.done_before = set(results.ended)
        self.started = time.monotonic()

    def lines(self, tasks: Sequence[Task], states: Mapping[int, TaskState]) -> list[str]:
        """Return the present lines; the time left follows from the results that have appeared so far."""
        ended, costs = self.results.ended.keys(), self.results.costs
        passed = sum(costs[number] for number in ended - self.done_before)
        left = sum(cost for number, cost in enumerate(costs) if number not in ended)
        seconds = time.monotonic() - self.started
        rest = f", about {in_words(seconds / passed * left)} left" if passed and left else ""
        running = [task for task in tasks if states[task.number].state == "running"]
        waiting = [task for task in tasks if states[task.number].state == "waiting"]
        done = f"{len(ended)} of {len(costs)} {self.results.noun} done"
        head = f"{done}, {len(running)} tasks running, {len(waiting)} waiting{rest}"
        lines = [f"{task.name}  {states[task.number].where}  {last_line(self.folder, task.number)}" for task in running]
        reasons = {states[task.number].where: task for task in waiting if states[task.number].where}
        return [head, *lines, *(f"{task.name}  waiting: {reason}" for reason, task in reasons.items())]


def _busy(folder: Path) -> str:
    """Return by which other process a folder is used, or an empty text."""
    if folder.is_dir():
        try:
            with lock(folder / "lock", "looking for a result"):
                return ""
        except Busy as error:
            return str(error)
    return ""


def last_line(folder: Path, number: int) -> str:
    """Return the last line of a task's log, or an empty text."""
    try:
        with log_file(folder, number).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LOG_TAIL))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _reason(folder: Path, number: int) -> str:
    """Return why a task left no result: its error, or the last line of its log."""
    try:
        return error_file(folder, number).read_text(encoding="utf-8")
    except OSError:
        line = last_line(folder, number)
    if line:
        return f"the last line of {log_file(folder, number)}: {line}"
    return f"no log in {folder} either; is the results folder shared with the machine that ran it?"
