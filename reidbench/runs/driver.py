"""Have the tasks of a plan executed by other processes, and show them while they run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reidbench.errors import Busy, TrainingError
from reidbench.runs.plan import Plan, pixels_left
from reidbench.runs.record import RECORD, RunRecord, read_record
from reidbench.runs.tasks import Executor, Task, TaskState, error_file, log_file, make_batch, write_batch
from reidbench.utils.lock import lock
from reidbench.utils.progress import in_words, live_lines

LOG_TAIL = 4096
BUSY_SECONDS = 5.0  # between two looks at trainings that another process holds


def distribute(plan: Plan, executor: Executor) -> Iterator[tuple[Path, RunRecord]]:
    """Have ``executor`` run the tasks of a plan, and yield (run folder, record) of each run when it ends.

    Runs that are done come first. A task whose training another process holds is looked at again later. One that left
    no record is executed up to ``executor.tries`` times. Raises TrainingError at the end, with the last line of its
    log, for each task without a record.
    """
    batch = make_batch(plan)
    write_batch(batch, plan)
    records = _Records(plan)
    yield from records.done()
    pending = [task for task in batch.tasks if not records.complete(batch.runs[task.number])]
    tries: Counter[int] = Counter()
    failures: dict[Task, str] = {}
    status = _Status(plan, batch.folder, batch.runs, records)
    with live_lines() as view:
        while pending:
            for states in executor.run(pending, batch.folder):
                for folder, record, line in records.new():
                    view.print(line)
                    yield folder, record
                view.show(status.lines(pending, states))
            time.sleep(executor.settled)
            for folder, record, line in records.new():
                view.print(line)
                yield folder, record
            again = []
            for task in pending:
                runs = batch.runs[task.number]
                if records.complete(runs):
                    continue
                training_folder = plan.runs[runs[0]].training_folder
                if busy := _busy(training_folder):
                    view.print(f"{task.name}: {busy}; looked at again later")
                    again.append(task)
                    continue
                tries[task.number] += 1
                reason = _reason(batch.folder, task.number)
                if error_file(batch.folder, task.number).exists() or tries[task.number] >= executor.tries:
                    failures[task] = reason
                else:
                    view.print(f"{task.name}: left no record ({reason}); tried again")
                    again.append(task)
            if again and len(again) == len(pending) and not any(tries[task.number] for task in again):
                time.sleep(BUSY_SECONDS)
            pending = again
    if failures:
        raise TrainingError("\n".join(f"{task.name}: left no record: {reason}" for task, reason in failures.items()))


class _Records:
    """The records of a plan as they appear in the results folder."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ended: dict[int, RunRecord] = {
            number: state.record for number, state in enumerate(plan.states) if state.record
        }
        self._seen = {number: _changed(run.run_folder / RECORD) for number, run in enumerate(plan.runs)}

    def done(self) -> Iterator[tuple[Path, RunRecord]]:
        """Yield the runs that were done when they were planned."""
        for number, record in self.ended.items():
            yield self.plan.runs[number].run_folder, record

    def complete(self, numbers: Sequence[int]) -> bool:
        """Return whether all these runs have ended with a record."""
        return self.ended.keys() >= set(numbers)

    def new(self) -> Iterator[tuple[Path, RunRecord, str]]:
        """Yield (run folder, record, line about it) of the runs that have ended since the last call."""
        for number, run in enumerate(self.plan.runs):
            file = run.run_folder / RECORD
            if number in self.ended or (changed := _changed(file)) == self._seen[number]:
                continue
            self._seen[number] = changed
            record = read_record(file)
            if (record.id, record.code) == (run.id, run.code) and record.status != "interrupted":
                self.ended[number] = record
                yield run.run_folder, record, f"{self.plan.title(number)}: {record.result}"


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


class _Status:
    """The lines that are shown while tasks run: the whole with the time left, then each running task."""

    def __init__(self, plan: Plan, folder: Path, runs: Sequence[Sequence[int]], records: _Records) -> None:
        self.plan, self.folder, self.runs, self.records = plan, folder, runs, records
        self.costs = [sum(pixels) for pixels in zip(*pixels_left(plan), strict=True)]
        self.done_before = set(records.ended)
        self.started = time.monotonic()

    def lines(self, tasks: Sequence[Task], states: Mapping[int, TaskState]) -> list[str]:
        """Return the present lines; the time left follows from the runs that have ended so far."""
        ended = self.records.ended.keys() - self.done_before
        passed = sum(self.costs[number] for number in ended)
        left = sum(cost for number, cost in enumerate(self.costs) if number not in self.records.ended)
        seconds = time.monotonic() - self.started
        rest = f", about {in_words(seconds / passed * left)} left" if passed and left else ""
        running = [task for task in tasks if states[task.number].state == "running"]
        waiting = [task for task in tasks if states[task.number].state == "waiting"]
        done = f"{len(self.records.ended)} of {len(self.plan.runs)} runs done"
        head = f"{done}, {len(running)} tasks running, {len(waiting)} waiting{rest}"
        lines = [f"{task.name}  {states[task.number].where}  {last_line(self.folder, task.number)}" for task in running]
        reasons = {states[task.number].where: task for task in waiting if states[task.number].where}
        return [head, *lines, *(f"{task.name}  waiting: {reason}" for reason, task in reasons.items())]


def _busy(folder: Path) -> str:
    """Return by which other process a folder is used, or an empty text."""
    if folder.is_dir():
        try:
            with lock(folder / "lock", "looking for a record"):
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
    """Return why a task left no record: its error, or the last line of its log."""
    try:
        return error_file(folder, number).read_text(encoding="utf-8")
    except OSError:
        line = last_line(folder, number)
    if line:
        return f"the last line of {log_file(folder, number)}: {line}"
    return f"no log in {folder} either; is the results folder shared with the machine that ran it?"
