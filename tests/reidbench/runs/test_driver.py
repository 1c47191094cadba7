"""Plans whose tasks other processes execute: here an executor that executes them in this one, or fails to."""

import json
from pathlib import Path

import pytest

import reidbench
from reidbench import Executor, TaskState
from reidbench.errors import DataError, Interrupted, OptionError, ReidbenchError, TrainingError
from reidbench.runs.driver import distribute, last_line
from reidbench.runs.execute import execute, work
from reidbench.runs.plan import Plan, Request, make_plan
from reidbench.runs.tasks import TASKS, error_file, log_file, make_batch
from reidbench.utils.lock import lock
from reidbench.utils.machine import local_machine
from reidbench.utils.processes import ALONE
from tests.support.jobs import job

JOBS = [job(), job(loss="none"), job(rerank="k_reciprocal")]


class InThisProcess(Executor):
    """Executes tasks here by the worker's own function; ``before`` may raise in its place."""

    tries = 2

    def __init__(self, before=lambda task: None):
        self.before = before
        self.executed: list[int] = []
        self.folder = Path()

    def run(self, tasks, folder):
        self.folder = folder
        states = {task.number: TaskState("waiting") for task in tasks}
        for task in tasks:
            states[task.number] = TaskState("running", "here")
            yield dict(states)
            self.executed.append(task.number)
            try:
                self.before(task)
                list(work(folder / TASKS, task.number, "auto", 0, ALONE, lambda line: None))
            except ReidbenchError as error:
                log_file(folder, task.number).write_text(f"first\n{error}\n")
            states[task.number] = TaskState("ended")
        yield states


def plan(results: Path, **changes) -> Plan:
    return make_plan(Request(JOBS), local_machine(device="cpu", threads=1, results=results, **changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_folder):
    """A plan that an executor ran; shared by tests that only read it."""
    results = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REIDBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        executor = InThisProcess()
        records = [record for _, record in distribute(plan(results, data=data_folder), executor)]
        return results, data_folder, records, executor


def test_tasks_give_the_records_of_this_process(finished, tmp_path):
    _, data, records, executor = finished
    assert executor.executed == [0, 1]  # two runs share a training, and so a task
    here = [record for _, record in execute(plan(tmp_path, data=data))]
    assert {record.id: record.scores for record in records} == {record.id: record.scores for record in here}


def test_finished_tasks_are_not_executed_again(finished):
    results, data, records, _ = finished
    executor = InThisProcess()
    again = [record for _, record in distribute(plan(results, data=data), executor)]
    assert executor.executed == []
    assert {record.id for record in again} == {record.id for record in records}


def test_the_same_command_finds_its_batch_again(finished):
    results, data, _, executor = finished
    done = make_batch(plan(results, data=data))
    assert done.folder == executor.folder
    assert done.results == [[0, 2], [1]]
    assert make_batch(plan(results, data=data, pixels="map")).folder != done.folder


def test_what_leaves_no_record_is_tried_again(tmp_path):
    def fail_first(task):
        if len(executor.executed) == 1:
            raise TrainingError("killed")

    executor = InThisProcess(fail_first)
    small = make_plan(Request([JOBS[1]]), local_machine(device="cpu", threads=1, results=tmp_path))
    records = [record for _, record in distribute(small, executor)]
    assert executor.executed == [0, 0]
    assert [record.status for record in records] == ["ok"]


def test_a_lost_task_is_reported_and_stops_no_other(tmp_path, capsys):
    def fail(task):
        if task.number == 0:
            raise TrainingError("killed by signal 9")

    executor = InThisProcess(fail)
    records = []
    with pytest.raises(TrainingError, match=r"batch_hard.*killed by signal 9"):
        records += [record for _, record in distribute(plan(tmp_path), executor)]
    assert executor.executed == [0, 1, 0]
    assert "mAP (market)" in capsys.readouterr().err  # of the other task


def test_other_code_is_named_and_not_tried_again(tmp_path):
    def edit(task):
        file = Path(task.arguments[1])
        text = json.loads(file.read_text())
        text["code_files"]["reidbench/training/sampler.py"] = "0" * 64
        file.write_text(json.dumps(text))

    executor = InThisProcess(edit)
    small = make_plan(Request([JOBS[0]]), local_machine(device="cpu", threads=1, results=tmp_path))
    with pytest.raises(TrainingError, match=r"reidbench/training/sampler\.py"):
        list(distribute(small, executor))
    assert executor.executed == [0]
    assert error_file(make_batch(small).folder, 0).is_file()


def test_a_missing_file_of_tasks_asks_for_a_shared_folder(tmp_path):
    with pytest.raises(DataError, match="shared"):
        list(work(tmp_path / "batches" / "0" / TASKS, 0, "auto", 0, ALONE, lambda line: None))


def test_no_log_asks_for_a_shared_folder(tmp_path):
    class Elsewhere(InThisProcess):
        def run(self, tasks, folder):
            yield {task.number: TaskState("ended", "node1") for task in tasks}

    with pytest.raises(TrainingError, match="shared"):
        list(distribute(plan(tmp_path), Elsewhere()))


def test_a_training_of_another_process_is_looked_at_later(tmp_path, monkeypatch, capsys):
    small = make_plan(Request([JOBS[1]]), local_machine(device="cpu", threads=1, results=tmp_path))
    holder = lock(small.runs[0].training_folder / "lock", "another driver's run")
    holder.__enter__()

    def release():
        holder.__exit__(None, None, None)
        yield {}

    monkeypatch.setattr("reidbench.runs.driver._pause", release)
    executor = InThisProcess()
    executor.tries = 1
    assert [record.status for _, record in distribute(small, executor)] == ["ok"]
    assert executor.executed == [0, 0]  # more than its tries, and not while the lock is held
    assert "another driver's run" in capsys.readouterr().err


def test_an_interruption_says_what_it_leaves(tmp_path, capsys):
    class Queue(InThisProcess):
        def run(self, tasks, folder):
            try:
                yield {task.number: TaskState("waiting", "Priority") for task in tasks}
                raise Interrupted("interrupted")
            finally:
                self.executed.append(-1)

        def after_interrupt(self, folder: Path) -> str:
            return f"queue {folder.name} stays"

    executor = Queue()
    with pytest.raises(Interrupted):
        list(distribute(plan(tmp_path), executor))
    assert executor.executed == [-1]
    assert f"queue {make_batch(plan(tmp_path)).folder.name} stays" in capsys.readouterr().err


def test_a_missing_tool_is_named_before_anything_runs(tmp_path):
    executor = InThisProcess()
    executor.unavailable = lambda: "it needs sbatch"
    with pytest.raises(OptionError, match="it needs sbatch"):
        list(distribute(plan(tmp_path), executor))
    assert executor.executed == []


def test_a_busy_run_waits_behind_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("reidbench.runs.execute.BUSY_SECONDS", 0.0)
    lines: list[str] = []
    both = plan(tmp_path, log=lines.append)
    holder = lock(both.runs[0].training_folder / "lock", "another driver's run")
    holder.__enter__()
    losses = []
    for _, record in execute(both):
        losses.append(record.job.loss)
        if losses == ["none"]:
            holder.__exit__(None, None, None)
    assert losses[0] == "none"
    assert sorted(losses) == ["batch_hard", "batch_hard", "none"]
    assert any("another driver's run" in line for line in lines)


def test_losses_given_as_classes_stay_in_this_process(tmp_path):
    class Mine(reidbench.Loss):
        def __init__(self, info: reidbench.TrainInfo) -> None:
            super().__init__()

    with pytest.raises(OptionError, match=r"Mine.*plugin"):
        reidbench.run(
            loss=Mine, backbone="tiny", protocol=JOBS[0].protocol, recipe=JOBS[0].recipe, executor="local(workers=2)"
        )


def test_the_last_line_of_a_log(tmp_path):
    assert last_line(tmp_path, 0) == ""
    log_file(tmp_path, 0).write_text("x" * 9000 + "\ntraining 5/10  loss 0.7\n\n")
    assert last_line(tmp_path, 0) == "training 5/10  loss 0.7"
