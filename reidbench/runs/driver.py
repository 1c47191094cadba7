"""Have tasks executed by other processes, and show them while they run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from reidbench.errors import Interrupted, OptionError, TrainingError
from reidbench.runs.plan import Plan, TimeLeft, pixels_left
from reidbench.runs.record import RECORD, RunRecord, read_record
from reidbench.runs.tasks import Batch, Executor, Task, TaskState, error_file, log_file, make_batch, write_batch
from reidbench.utils.lock import describe_holder
from reidbench.utils.progress import LiveLines

T = TypeVar("T")

LOG_TAIL = 4096
BUSY_SECONDS = 5.0  # between two looks at locks that other processes hold


def distribute(plan: Plan, executor: Executor) -> Iterator[tuple[Path, RunRecord]]:
    """Have ``executor`` run the tasks of a plan, and yield (run folder, record) of each run when it ends.

    Raises TrainingError as ``execute_tasks``.
    """
    batch = make_batch(plan)
    write_batch(batch, plan)
    files = [run.run_folder / RECORD for run in plan.runs]

    def read(number: int) -> tuple[tuple[Path, RunRecord], str] | None:
        run, record = plan.runs[number], read_record(files[number])
        if (record.id, record.code) != (run.id, run.code) or record.status == "interrupted":
            return None
        return (run.run_folder, record), plan.end_line(number, record)

    states = zip(plan.runs, plan.states, strict=True)
    ended = {number: (run.run_folder, state.record) for number, (run, state) in enumerate(states) if state.record}
    time_left = TimeLeft(pixels_left(plan), plan.later_pixels)
    yield from execute_tasks(batch, Results("runs", files, ended, read, time_left), executor)


@dataclass(eq=False)
class Results(Generic[T]):
    """The results of the tasks of a batch, as their files appear in the folder that their processes share.

    ``noun``: what they are, in the plural.
    ``files``: the file of each.
    ``ended``: the results so far by number.
    ``read``: returns the result in the file of a number and a line about it, or None for what is none yet.
    ``time_left``: the time that the rest takes.
    """

    noun: str
    files: Sequence[Path]
    ended: dict[int, T]
    read: Callable[[int], tuple[T, str] | None]
    time_left: TimeLeft

    def __post_init__(self) -> None:
        self._seen = [_changed(file) for file in self.files]

    def new(self) -> Iterator[tuple[T, str]]:
        """Yield each result that appeared since the last call, now among ``ended``, and the line about it."""
        for number, file in enumerate(self.files):
            if number in self.ended or (changed := _changed(file)) == self._seen[number]:
                continue
            self._seen[number] = changed
            if result := self.read(number):
                self.ended[number] = result[0]
                self.time_left.finish(number)
                yield result

    def lacking(self, tasks: Iterable[Task], batch: Batch) -> list[Task]:
        """Return those of the tasks of a batch that have not left all their results."""
        return [task for task in tasks if not self.ended.keys() >= set(batch.results[task.number])]


def _changed(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


def execute_tasks(batch: Batch, results: Results[T], executor: Executor) -> Iterator[T]:
    """Have ``executor`` execute the tasks of a batch that lack results, and yield each result when it appears.

    Those that are there come first. A task whose lock another process holds is looked at again later. One that left no
    result is executed up to ``executor.tries`` times. Raises TrainingError at the end, with the last line of its log,
    for each task without a result.
    """
    yield from list(results.ended.values())
    pending = results.lacking(batch.tasks, batch)
    if pending and (reason := executor.unavailable()):
        raise OptionError(f"--executor: {reason}")
    tries: Counter[Task] = Counter()
    failures: list[str] = []
    held: dict[Task, TaskState] = {}  # tasks whose lock another process held after they were executed
    with LiveLines() as view:
        while pending:
            ready = [task for task in pending if task not in held]
            for task in ready:
                error_file(batch.folder, task.number).unlink(missing_ok=True)
            try:
                with closing(executor.run(ready, batch.folder) if ready else _pause()) as every_state:
                    for states in every_state:
                        for result, line in results.new():
                            view.print(line)
                            yield result
                        now = held | {task: states[task.number] for task in ready}
                        view.show(_status_lines(batch, results, now))
                        running = any(state.state != "ended" for state in states.values())
                        if not running and not results.lacking(ready, batch):
                            break
            except (Interrupted, GeneratorExit):
                view.print(executor.after_interrupt(batch.folder))
                raise
            earlier, held = held, {}
            pending = results.lacking(pending, batch)
            for task in pending.copy():
                if holder := describe_holder(batch.locks[task.number]):
                    held[task] = TaskState("waiting", f"in use by {holder}")
                    if task not in earlier:
                        view.print(f"{task.name}: in use by {holder}; looked at again later")
                elif task in ready:
                    tries[task] += 1
                    line = f"{task.name}: left no result: {_reason(batch.folder, task.number)}"
                    if error_file(batch.folder, task.number).exists() or tries[task] == executor.tries:
                        failures.append(line)
                        pending.remove(task)
                    else:
                        view.print(f"{line}; tried again")
    if failures:
        raise TrainingError("\n".join(failures))


def _pause() -> Generator[Mapping[int, TaskState], None, None]:
    """Yield no states after some seconds, while other processes hold all locks."""
    time.sleep(BUSY_SECONDS)
    yield {}


def _status_lines(batch: Batch, results: Results[T], states: Mapping[Task, TaskState]) -> list[str]:
    """Return the lines that are shown while tasks run: the whole with the time left, then each running task."""
    running = [task for task, state in states.items() if state.state == "running"]
    waiting = [task for task, state in states.items() if state.state == "waiting"]
    halves = {number: 0.5 for task in running for number in batch.results[task.number]}  # half done on average
    rest = results.time_left.describe(halves if results.time_left.done else {})
    head = f"{len(results.ended)} of {len(results.files)} {results.noun} done"
    lines = [f"{head}; tasks running: {len(running)}, waiting: {len(waiting)}{rest}"]
    lines += [f"{task.name}  {states[task].where}  {last_line(batch.folder, task.number)}" for task in running]
    reasons = {states[task].where: task for task in waiting if states[task].where}
    return [*lines, *(f"{task.name}  waiting: {reason}" for reason, task in reasons.items())]


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
    if (error := error_file(folder, number)).exists():
        return error.read_text(encoding="utf-8")
    if line := last_line(folder, number):
        return f"the last line of {log_file(folder, number)}: {line}"
    return f"no log in {folder} either; is the results folder shared with the machine that ran it?"
