"""The executors local and slurm: real processes, a Slurm made of four scripts, and a real one where it is installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from reidbench import Executor, Task, build
from reidbench.errors import DataError, OptionError
from reidbench.runs.driver import distribute
from reidbench.runs.execute import execute
from reidbench.runs.plan import Plan, Request, make_plan
from reidbench.runs.tasks import log_file
from reidbench.utils.machine import local_machine
from tests.support.jobs import job
from tests.support.paths import CHECKOUT

JOBS = [job(), job(loss="none")]
TASKS = [Task(number, f"task {number}", ("work", "tasks.jsonl", str(number)), "cpu", 0) for number in (0, 1, 2, 5)]


def plan(results: Path) -> Plan:
    return make_plan(Request(JOBS), local_machine(device="cpu", threads=1, results=results, checkpoint_seconds=0))


def scores(plan: Plan, executor: Executor | None) -> dict[str, object]:
    run = distribute(plan, executor) if executor else execute(plan)
    return {record.id: record.scores for _, record in run}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> dict[str, object]:
    """The scores of the jobs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REIDBENCH_DATA", str(data_folder))
        patch.setenv("REIDBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return scores(plan(tmp_path_factory.mktemp("expected")), None)


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        (folder / name).write_text(f"#!{sys.executable}\n{(CHECKOUT / 'tests/support/fake_slurm.py').read_text()}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setattr("reidbench_executors.slurm.POLL_SECONDS", 0.2)
    monkeypatch.setattr("reidbench_executors.commands.SETTLE_SECONDS", 1)
    return folder


# --- local ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "here"), [("local", True), ("local(workers=1)", True), ("local(workers=2)", False)])
def test_one_worker_is_this_process(text: str, here: bool) -> None:
    assert build("executor", text).uses_this_process("cpu", 2) is here


def test_each_gpu_gets_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    executor = build("executor", "local")
    assert [slot.variables["CUDA_VISIBLE_DEVICES"] for slot in executor._slots("auto", 9)] == ["4", "6", "7"]
    assert not executor.uses_this_process("auto", 2)
    assert executor.uses_this_process("auto", 1)
    assert executor.uses_this_process("cpu", 9)
    assert executor.uses_this_process("cuda:1", 9)


def test_local_processes_survive_the_loss_of_one(tmp_path: Path, expected: dict[str, object]) -> None:
    local = build("executor", "local(workers=2)")
    killed: list[int] = []
    states = local.run

    def run(tasks: Sequence[Task], folder: Path) -> object:
        for state in states(tasks, folder):
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            if not killed:
                killed.append(int(children[0]))
                os.kill(killed[0], signal.SIGKILL)
            yield state

    local.run = run
    assert scores(plan(tmp_path), local) == expected
    assert killed


@pytest.mark.slow  # two starts of the program
def test_local_processes_end_with_their_parent(tmp_path: Path) -> None:
    flags = [f"--{kind}={text}" for kind, text in vars(job(recipe="quick(steps=3000, p=6, k=2)")).items()]
    command = [*(sys.executable, "-m", "reidbench", "run"), *flags, "--loss=none", "--executor=local(workers=2)"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + 200
        while not list((tmp_path / "results").glob("trainings/*/checkpoint*")):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        driver.kill()
    while _workers(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _workers(folder: Path) -> list[Path]:
    """Return the processes whose arguments name a file in ``folder``."""
    found = []
    for arguments in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in arguments.read_bytes():
                found.append(arguments)
        except OSError:
            continue
    return found


# --- slurm ------------------------------------------------------------------------------------------------------------


def test_slurm_gives_the_scores_of_this_process(tmp_path: Path, fake_slurm: Path, expected: dict[str, object]) -> None:
    assert scores(plan(tmp_path), build("executor", "slurm(gpus=0, cpus=1)")) == expected
    assert (fake_slurm / "submissions").read_text().split() == [
        "--array=0-1",
        "--parsable",
        "--open-mode=append",
        "--requeue",
    ]


def test_slurm_submits_what_was_asked_for(tmp_path: Path) -> None:
    text = (
        'slurm(partition=gpu, gpus=2, cpus=8, memory="32G", hours=1.5, at_once=3, account=lab, '
        'setup="module load cuda", options="--qos=long --comment=\'two words\'")'
    )
    script = build("executor", text).describe(TASKS, tmp_path / "abc")
    for part in (
        *("--array=0-2,5%3", "--partition=gpu", "--gres=gpu:2", "--cpus-per-task=8", "--mem=32G", "--time=90"),
        *("--account=lab", "--qos=long", "'--comment=two words'", f"--output={tmp_path}/abc/%a.log"),
        *("\nmodule load cuda\n", "--nproc-per-node=2", 'tasks.jsonl --threads 4 "$SLURM_ARRAY_TASK_ID"'),
    ):
        assert part in script


def test_slurm_finds_its_array_again(tmp_path: Path, fake_slurm: Path) -> None:
    executor = build("executor", "slurm(gpus=0)")
    executor._script = lambda task: "#!/bin/bash\nexec sleep 30\n"
    first = executor.run(TASKS[:2], tmp_path)
    assert {state.state for state in next(first).values()} == {"running"}
    first.close()
    second = executor.run(TASKS[:2], tmp_path)
    assert {state.where for state in next(second).values()} == {"n1"}
    second.close()
    subprocess.run(["scancel"], check=True)
    assert len((fake_slurm / "submissions").read_text().splitlines()) == 1


def test_slurm_refuses_in_its_own_words(tmp_path: Path, fake_slurm: Path) -> None:
    (fake_slurm / "refuse").write_text("sbatch: error: invalid partition specified: nowhere")
    with pytest.raises(DataError, match="invalid partition specified: nowhere"):
        next(build("executor", "slurm(partition=nowhere)").run(TASKS, tmp_path))


def test_slurm_says_which_program_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sbatch and squeue" in build("executor", "slurm").unavailable()


@pytest.mark.parametrize("text", ["slurm(cpus=0)", "slurm(hours=0)", "slurm(gpus=-1)", "local(workers=-1)"])
def test_options_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match=text.partition("(")[0]):
        build("executor", text)


def test_slurm_queues_a_saved_training_again(tmp_path: Path, fake_slurm: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import signal, sys, time, pathlib\n"
        f"mark = pathlib.Path({str(tmp_path)!r}) / 'saved'\n"
        "if mark.exists(): sys.exit(print('resumed', flush=True))\n"
        "def save(number, frame):\n    mark.write_text('')\n    sys.exit(1)\n"
        "signal.signal(signal.SIGUSR1, save)\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    executor = build("executor", "slurm(gpus=0)")
    script = executor._script(TASKS[0])
    command = next(line for line in script.splitlines() if line.endswith("&"))
    executor._script = lambda task: script.replace(command, f"{sys.executable} {worker} &")
    log = log_file(tmp_path, 0)
    for _ in executor.run(TASKS[:1], tmp_path):
        if "ready" in log.read_text() and not (tmp_path / "saved").exists():
            subprocess.run(["scancel", "--signal=USR1", "--batch"], check=True)
    assert (fake_slurm / "requeued").read_text() == "0\n"
    assert log.read_text() == "ready\nresumed\n"
