"""The executor local: its processes with a small program in their place, and the real ones."""

import subprocess

import pytest

from reidbench import Task, build
from reidbench.errors import OptionError
from tests.support.executions import await_, command, disturb, kill_worker, plan, scores, workers

TASKS = [Task(number, f"task {number}", ("work", "tasks.jsonl", str(number)), "auto", 0) for number in range(4)]

# It prints what it was started with; the task 3 runs until it is told to end.
PROGRAM = """
import os, signal, sys, time
def save(number, frame):
    sys.exit(print("saved", flush=True))
signal.signal(signal.SIGTERM, save)
print(os.environ.get("CUDA_VISIBLE_DEVICES"), *sys.argv[1:], flush=True)
while sys.argv[3] == "3":
    time.sleep(0.01)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A folder for logs, in which ``python -m reidbench`` is the program above."""
    (tmp_path / "reidbench").mkdir()
    (tmp_path / "reidbench/__main__.py").write_text(PROGRAM)
    (tmp_path / "reidbench/__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reidbench_executors.local.POLL_SECONDS", 0.02)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(9)))
    return tmp_path


@pytest.mark.parametrize(("text", "processes"), [("local", 0), ("local(workers=1)", 0), ("local(workers=2)", 2)])
def test_one_worker_is_this_process(text, processes):
    assert build("executor", text).processes("cpu", 2) == processes


def test_each_gpu_gets_a_process(program, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    local = build("executor", "local")
    jobs = (("auto", 2), ("auto", 1), ("cpu", 9), ("cuda:1", 9))
    assert [local.processes(*job) for job in jobs] == [2, 0, 0, 0]
    *_, states = local.run(TASKS[:3], program)
    assert {state.state for state in states.values()} == {"ended"}
    logs = [(program / f"{number}.log").read_text() for number in range(3)]
    assert sorted(log.split()[0] for log in logs[:2]) == ["4", "7"]
    assert all(
        log.endswith(f" work tasks.jsonl {number} --follow-stdin --threads 4\n") for number, log in enumerate(logs)
    )


def test_workers_share_the_cores_and_end_when_closed(program):
    states = build("executor", "local(workers=3)").run(TASKS[2:], program)
    log = program / "3.log"
    while not log.exists() or not log.read_text():
        assert next(states)[3].where.startswith("process")
    states.close()
    assert log.read_text() == "None work tasks.jsonl 3 --follow-stdin --threads 3\nsaved\n"


OUT_OF_RANGE = ["local(workers=-1)", "slurm(cpus=0)", "slurm(hours=0)", "ray(gpus=-1)", "ray(address=local)"]


@pytest.mark.parametrize("text", OUT_OF_RANGE)
def test_options_out_of_range_are_refused(text):
    with pytest.raises(OptionError, match=text.partition("(")[0]):
        build("executor", text)


@pytest.mark.slow  # four starts of the program
def test_local_processes_survive_the_loss_of_one(tmp_path):
    local = build("executor", "local(workers=2)")
    killed = disturb(local, lambda: len(workers(tmp_path)) == 2, lambda: kill_worker(tmp_path))
    assert scores(plan(tmp_path / "local"), local) == scores(plan(tmp_path / "here"))
    assert killed


@pytest.mark.slow
def test_local_processes_end_with_their_parent(tmp_path):
    request = command(tmp_path, "local(workers=2)", "--checkpoint-seconds=1000", "--loss=none")
    with subprocess.Popen(request, stderr=subprocess.DEVNULL) as driver:
        await_(lambda: any("training" in log.read_text() for log in tmp_path.glob("batches/*/*.log")))
        driver.kill()
    await_(lambda: not workers(tmp_path))
    assert list(tmp_path.glob("trainings/*/checkpoint*"))  # which only the end has written
