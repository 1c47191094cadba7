"""The executor ray: what needs no Ray, and a real cluster of two nodes on loopback where it is installed."""

import os
import secrets
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from reidbench import Task, build
from reidbench.errors import DataError
from tests.support import executions as runs

TASKS = [Task(0, "a task", ("work", "tasks.jsonl", "0"), "auto", 0)]


def test_ray_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("reidbench_executors.ray.find_spec", lambda name: None)
    assert "reidbench[ray]" in build("executor", "ray").unavailable()


def test_ray_describes_its_commands(tmp_path):
    text = build("executor", 'ray(address="10.0.0.1:6379", gpus=2, cpus=8)').describe(TASKS, tmp_path)
    for part in ("10.0.0.1:6379", "--nproc-per-node=2", "--device cuda --threads 4 0"):
        assert part in text


# --- a real cluster ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head and two nodes of a core, which listen on 127.0.0.1 alone, with a token."""
    if not find_spec("ray"):
        pytest.skip("ray is not installed: pip install 'reidbench[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # without it 127.0.0.1 becomes an outward address
        patch.setenv("RAY_TMPDIR", str(tmp_path_factory.getbasetemp() / "r"))
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
        # Workers have the environment of their node, in which a user installs plugins.
        for name, value in runs.third_party_package(tmp_path_factory.mktemp("node") / "package").items():
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
def ray(cluster, monkeypatch):
    monkeypatch.setattr("reidbench_executors.commands.SETTLE_SECONDS", 1)
    return build("executor", f'ray(address="{cluster.address}", gpus=0, cpus=1)')


@pytest.mark.slow  # processes of Ray and of reidbench
def test_ray_gives_the_scores_of_this_process(tmp_path, ray):
    both = runs.disturb(ray, lambda: len(runs.workers(tmp_path)) == 2, lambda: None)  # a core a node
    assert runs.scores(runs.plan(tmp_path / "ray"), ray) == runs.scores(runs.plan(tmp_path / "here"))
    assert both


@pytest.mark.slow
def test_ray_saves_when_it_is_closed_or_killed(tmp_path, cluster, ray):
    request = runs.command(tmp_path, f'ray(address="{cluster.address}", gpus=0, cpus=1)', "--checkpoint-seconds=1000")
    with subprocess.Popen(request, stderr=subprocess.DEVNULL) as driver:
        runs.await_(lambda: any("training" in log.read_text() for log in tmp_path.glob("batches/*/0.log")))
        driver.send_signal(signal.SIGINT)
        assert driver.wait(100) == 130
    assert not runs.workers(tmp_path)
    assert list(tmp_path.glob("trainings/*/checkpoint*"))
    with subprocess.Popen(request, stderr=subprocess.DEVNULL) as driver:
        runs.await_(lambda: bool(runs.workers(tmp_path)))
        driver.kill()
    runs.await_(lambda: not runs.workers(tmp_path))
    assert subprocess.run(request, stderr=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.slow
def test_ray_says_that_no_node_fits_and_that_no_cluster_answers(tmp_path, cluster, ray):
    ray.cpus = 64
    states = ray.run(TASKS, tmp_path)
    assert "64 cores" in next(states)[0].where
    states.close()
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9.*ray start"):
        next(build("executor", 'ray(address="127.0.0.1:9", gpus=0)').run(TASKS, tmp_path))


@pytest.mark.slow
def test_ray_resumes_after_the_loss_of_a_worker_and_a_node(tmp_path, ray, capsys):
    training, here = runs.plan(tmp_path / "ray", [runs.LONG]), runs.plan(tmp_path / "here", [runs.LONG])

    def lose_node():
        (worker,) = runs.workers(tmp_path)
        os.kill(_parent(_parent(worker)), signal.SIGKILL)

    killed = runs.disturb(ray, lambda: runs.has_checkpoint(training), lambda: runs.kill_worker(tmp_path))
    lost = runs.disturb(ray, lambda: len(runs.workers(tmp_path)) == 1 and bool(killed), lose_node)
    assert runs.scores(training, ray) == runs.scores(here)
    assert killed
    assert lost
    assert "tried again" in capsys.readouterr().err


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
