"""The executor slurm: a Slurm made of four scripts, and a real one of two nodes on loopback where it is installed."""

import os
import shutil
import subprocess
import sys

import pytest

from reidbench import Task, build
from reidbench.errors import DataError
from tests.support import executions as runs
from tests.support.jobs import job
from tests.support.paths import CHECKOUT
from tests.support.slurm_cluster import slurm_cluster

TASKS = [Task(number, f"task {number}", ("work", "tasks.jsonl", str(number)), "auto", 0) for number in (0, 1, 2, 5)]
SPEC = "slurm(gpus=0, cpus=1)"


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        (folder / name).write_text(f"#!{sys.executable}\n{(CHECKOUT / 'tests/support/fake_slurm.py').read_text()}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr("reidbench_executors.slurm.POLL_SECONDS", 0.2)
    monkeypatch.setattr("reidbench_executors.slurm.MOST_POLL_SECONDS", 1.0)
    monkeypatch.setattr("reidbench_executors.commands.SETTLE_SECONDS", 1)


@pytest.mark.skipif(bool(shutil.which("slurmctld")), reason="a real Slurm is installed, and runs the same task below")
def test_slurm_gives_the_scores_of_this_process(tmp_path, fake_slurm):
    there, here = (runs.plan(folder, runs.JOBS[1:]) for folder in (tmp_path, tmp_path / "here"))
    assert runs.scores(there, build("executor", SPEC)) == runs.scores(here)
    submitted = (fake_slurm / "submissions").read_text().split()
    assert {"--array=0", "--parsable", "--open-mode=append", "--requeue", "--signal=B:USR1@120"} <= set(submitted)


def test_slurm_submits_what_was_asked_for(tmp_path):
    text = (
        'slurm(partition=gpu, gpus=2, cpus=8, memory="32G", hours=1.5, at_once=3, account=lab, '
        'setup="module load cuda", options="--qos=long --comment=\'two words\'")'
    )
    executor = build("executor", text)
    script = executor.describe(TASKS, tmp_path / "abc")
    for part in (
        *("--array=0-2,5%3", "--partition=gpu", "--gres=gpu:2", "--cpus-per-task=8", "--mem=32G", "--time=90"),
        *("--account=lab", "--qos=long", "'--comment=two words'", f"--output={tmp_path}/abc/%a.log"),
        *("\nmodule load cuda\n", "--nproc-per-node=2", '--device cuda --threads 4 "$SLURM_ARRAY_TASK_ID"'),
    ):
        assert part in script
    assert "scancel --name=reidbench-abc" in executor.after_interrupt(tmp_path / "abc")
    assert '--device cpu --threads 1 "$SLURM_ARRAY_TASK_ID"' in build("executor", SPEC).describe(TASKS, tmp_path)


def test_slurm_finds_its_array_again(tmp_path, fake_slurm):
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


def test_slurm_refuses_in_its_own_words(tmp_path, fake_slurm):
    (fake_slurm / "refuse").write_text("sbatch: error: invalid partition specified: nowhere")
    with pytest.raises(DataError, match="invalid partition specified: nowhere"):
        next(build("executor", "slurm(partition=nowhere)").run(TASKS, tmp_path))


def test_slurm_is_listed_with_the_programs_that_are_missing(tmp_path, reidbench_call):
    listed = reidbench_call("plugins", env={"PATH": str(tmp_path)}).stdout
    assert "slurm is unavailable: slurm needs sbatch and squeue" in listed
    assert "local is unavailable" not in listed


def test_slurm_queues_a_saved_training_again(tmp_path, fake_slurm):
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
    background = next(line for line in script.splitlines() if line.endswith("&"))
    executor._script = lambda task: script.replace(background, f"{sys.executable} {worker} &")
    log = tmp_path / "0.log"
    for _ in executor.run(TASKS[:1], tmp_path):
        if "ready" in log.read_text() and not (tmp_path / "saved").exists():
            subprocess.run(["scancel", "--signal=USR1", "--batch"], check=True)
    assert (fake_slurm / "requeued").read_text() == "0\n"
    assert log.read_text() == "ready\nresumed\n"


# --- a real Slurm -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster():
    with slurm_cluster(2) as started:
        yield started


def test_real_slurm_runs_a_task(tmp_path, cluster):
    there, here = (runs.plan(folder, runs.JOBS[1:]) for folder in (tmp_path, tmp_path / "here"))
    assert runs.scores(there, build("executor", SPEC)) == runs.scores(here)
    with pytest.raises(DataError, match="nowhere"):
        next(build("executor", "slurm(gpus=0, partition=nowhere)").run(TASKS, tmp_path))


@pytest.mark.slow  # several starts of the program
def test_real_slurm_gives_the_scores_of_local(tmp_path, cluster):
    slurm, local = build("executor", SPEC), build("executor", "local(workers=2)")
    both = runs.disturb(
        slurm, lambda: len(runs.workers(tmp_path)) == 2, lambda: None
    )  # a job takes the memory of its node
    assert runs.scores(runs.plan(tmp_path / "slurm"), slurm) == runs.scores(runs.plan(tmp_path / "local"), local)
    assert both


@pytest.mark.slow
def test_real_slurm_resumes_after_every_loss(tmp_path, cluster, capsys):
    """The driver is killed, a worker is killed, the time limit comes near, and the node is lost."""
    training, here = runs.plan(tmp_path / "slurm", [runs.LONG]), runs.plan(tmp_path / "here", [runs.LONG])
    killed = runs.command(tmp_path / "slurm", SPEC, "--checkpoint-seconds=0.2")
    with subprocess.Popen(killed, stderr=subprocess.DEVNULL) as driver:
        runs.await_(lambda: bool(runs.workers(tmp_path)))
        driver.kill()
    (log,) = (tmp_path / "slurm").glob("batches/*/0.log")
    first, slurm = _queue("%A"), build("executor", SPEC)

    def resumed(times):
        return log.read_text().count("resumed at") == times and bool(runs.workers(tmp_path))

    def send_usr1():
        subprocess.run(["scancel", "--signal=USR1", "--batch", *_queue("%A")], check=True)

    jobs = runs.disturb(
        slurm, lambda: runs.has_checkpoint(training), lambda: (_queue("%A"), runs.kill_worker(tmp_path))[0]
    )
    saved = runs.disturb(slurm, lambda: bool(jobs) and resumed(1), send_usr1)
    lost = runs.disturb(slurm, lambda: bool(saved) and resumed(2), lambda: cluster.kill_node(_queue("%N")[0]))
    assert runs.scores(training, slurm) == runs.scores(here)
    assert jobs == [first]
    assert lost
    assert capsys.readouterr().err.count("tried again") == 1  # the killed worker; Slurm itself queues the others again


@pytest.mark.slow
def test_real_slurm_saves_before_its_time_limit(tmp_path, cluster):
    jobs = [job(recipe="quick(steps=1000, p=6, k=2)")]  # more than half a minute
    slurm = build("executor", 'slurm(gpus=0, cpus=1, options="--time=1 --signal=B:USR1@30")')
    assert runs.scores(runs.plan(tmp_path / "slurm", jobs), slurm) == runs.scores(runs.plan(tmp_path / "here", jobs))
    (log,) = (tmp_path / "slurm").glob("batches/*/0.log")
    assert "on SIGUSR1" in log.read_text()


def _queue(field: str) -> list[str]:
    listing = subprocess.run(["squeue", "--me", "-h", "-o", field], capture_output=True, text=True, check=True)
    return listing.stdout.split()
