"""The executor ray: what needs no Ray, and a real cluster of two nodes on loopback where it is installed."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from reidbench import Executor, Task, TaskState, build
from reidbench.errors import DataError, OptionError
from tests.support.executions import LONG, disturb, has_checkpoint, kill_worker, plan, scores, weights, workers

TASKS = [Task(0, "a task", ("work", "tasks.jsonl", "0"), "auto", 0)]


def test_ray_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reidbench_executors.ray.find_spec", lambda name: None)
    assert "reidbench[ray]" in build("executor", "ray").unavailable()


def test_ray_describes_its_commands(tmp_path: Path) -> None:
    text = build("executor", 'ray(address="10.0.0.1:6379", gpus=2, cpus=8)').describe(TASKS, tmp_path)
    for part in ("10.0.0.1:6379", "--nproc-per-node=2", "--device cuda --threads 4 0"):
        assert part in text


@pytest.mark.parametrize("text", ["ray(gpus=-1)", "ray(cpus=0)", "ray(tries=0)", "ray(address=local)"])
def test_options_of_ray_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="ray"):
        build("executor", text)


# --- a real cluster ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head and two nodes of a core, which listen on 127.0.0.1 alone, with a token."""
    if not find_spec("ray"):
        pytest.skip("ray is not installed: pip install 'reidbench[ray]'")
    variables = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_TMPDIR": str(tmp_path_factory.getbasetemp() / "r"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        node = {"node_ip_address": "127.0.0.1", "object_store_memory": 10**8, "include_dashboard": False}
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **node})
        for _ in range(2):
            nodes.add_node(num_cpus=1, **node)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        yield nodes
        nodes.shutdown()


@pytest.fixture
def ray(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Executor:
    monkeypatch.setattr("reidbench_executors.commands.SETTLE_SECONDS", 1)
    return build("executor", f'ray(address="{cluster.address}", gpus=0, cpus=1)')


@pytest.mark.slow  # processes of Ray and of reidbench
def test_ray_gives_the_scores_of_this_process(tmp_path: Path, ray: Executor) -> None:
    running: list[int] = []
    run = ray.run

    def count(tasks: Sequence[Task], folder: Path) -> Iterator[Mapping[int, TaskState]]:
        for states in run(tasks, folder):
            running.append(sum(state.state == "running" for state in states.values()))
            yield states

    ray.run = count
    assert scores(plan(tmp_path / "ray"), ray) == scores(plan(tmp_path / "here"))
    assert max(running) == 2  # a core a node


@pytest.mark.slow
def test_ray_saves_when_it_is_closed_or_killed(tmp_path: Path, cluster: Any, ray: Executor) -> None:
    flags = [f"--{kind}={text}" for kind, text in vars(LONG).items()] + ["--device=cpu", "--checkpoint-seconds=1000"]
    command = [sys.executable, "-m", "reidbench", "run", *flags, f"--results={tmp_path}"]
    spec = f'ray(address="{cluster.address}", gpus=0, cpus=1)'
    with subprocess.Popen([*command, f"--executor={spec}"], stderr=subprocess.DEVNULL) as driver:
        _await(lambda: any("training" in log.read_text() for log in tmp_path.glob("batches/*/0.log")))
        driver.send_signal(signal.SIGINT)
        assert driver.wait(100) == 130
    assert not workers(tmp_path)
    assert list(tmp_path.glob("trainings/*/checkpoint*"))
    with subprocess.Popen([*command, f"--executor={spec}"], stderr=subprocess.DEVNULL) as driver:
        _await(lambda: bool(workers(tmp_path)))
        driver.kill()
    _await(lambda: not workers(tmp_path))
    assert subprocess.run([*command, f"--executor={spec}"], stderr=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.slow
def test_ray_says_that_no_node_fits_and_that_no_cluster_answers(tmp_path: Path, cluster: Any, ray: Executor) -> None:
    ray.cpus = 64
    states = ray.run(TASKS, tmp_path)
    assert "64 cores" in next(states)[0].where
    states.close()
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9.*ray start"):
        next(build("executor", 'ray(address="127.0.0.1:9", gpus=0)').run(TASKS, tmp_path))


@pytest.mark.slow
def test_ray_resumes_after_the_loss_of_a_worker_and_a_node(
    tmp_path: Path, ray: Executor, capsys: pytest.CaptureFixture[str]
) -> None:
    training, here = plan(tmp_path / "ray", [LONG]), plan(tmp_path / "here", [LONG])

    def lose_node() -> None:
        (worker,) = workers(tmp_path)
        os.kill(_parent(_parent(worker)), signal.SIGKILL)

    killed = disturb(ray, lambda: has_checkpoint(training), lambda: kill_worker(tmp_path))
    lost = disturb(ray, lambda: len(workers(tmp_path)) == 1 and bool(killed), lose_node)
    assert scores(training, ray) == scores(here)
    assert weights(training) == weights(here)
    assert killed
    assert lost
    assert capsys.readouterr().err.count("tried again") == 2


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
