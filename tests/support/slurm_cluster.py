"""A real Slurm on loopback: a controller and nodes on this machine, by the daemons of Debian's packages."""

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

CONFIGURATION = Path(__file__).with_name("slurm.conf")


@dataclass(frozen=True)
class Cluster:
    """A running Slurm.

    ``folder``: its configuration, state and logs.
    """

    folder: Path

    def start_node(self, name: str) -> None:
        """Start the daemon of a node."""
        subprocess.run(["slurmd", "-f", self.folder / "slurm.conf", "-N", name], check=True, timeout=20)

    def kill_node(self, name: str) -> None:
        """Kill the daemon of a node and every process below it, as where its power fails."""
        for pid in [int((self.folder / f"slurmd.{name}.pid").read_text()), *_steps(name)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def await_idle(self, nodes: int) -> bool:
        """Return whether so many nodes are idle within 20 seconds."""
        for _ in range(200):
            states = subprocess.run(
                ["timeout", "5", "sinfo", "-h", "-N", "-o", "%T"], capture_output=True, text=True, check=False
            )
            if states.stdout.split() == ["idle"] * nodes:
                return True
            time.sleep(0.1)
        return False

    def stop(self) -> None:
        """End all jobs and daemons."""
        subprocess.run(["timeout", "5", "scancel", "--me"], check=False)
        for name in ("slurmd.*.pid", "slurmctld.pid", "munge/pid"):
            for file in self.folder.glob(name):
                with suppress(ProcessLookupError, ValueError):
                    os.kill(int(file.read_text()), signal.SIGTERM)


def _steps(node: str) -> list[int]:
    """Return the processes of jobs on a node, whose variables name it, and those of Slurm that started them."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"SLURMD_NODENAME={node}\0".encode() in (folder / "environ").read_bytes():
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                started_by = [int(parent)] if Path(f"/proc/{parent}/comm").read_text() == "slurmstepd\n" else []
                pids += [*started_by, int(folder.name)]
    return pids


@contextmanager
def slurm_cluster(nodes):
    """Yield a Slurm with so many nodes, the one that this process's environment names; skips where none can start."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    if not all(shutil.which(name, path=path) for name in ("slurmctld", "slurmd", "munged", "sbatch")):
        pytest.skip("not installed: slurmctld, slurmd, slurm-client or munge, as Debian calls them")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        cluster = Cluster(folder)
        for name in ("munge", "state", "spool", "log"):
            (folder / name).mkdir(mode=0o700)
        (folder / "munge/key").write_bytes(os.urandom(128))
        (folder / "munge/key").chmod(0o600)
        port = 17000 + os.getpid() % 3000 * 4
        values = {"port": port, "first": port + 1, "last": port + nodes, "nodes": nodes, "user": getpass.getuser()}
        (folder / "slurm.conf").write_text(CONFIGURATION.read_text().format(folder=folder, **values))
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PATH", path)
        stack.callback(cluster.stop)
        munge = [f"--{name}={folder}/munge/{name.partition('-')[0]}" for name in ("socket", "key-file", "pid-file")]
        munge += [f"--log-file={folder}/log/munge", f"--seed-file={folder}/munge/seed"]
        subprocess.run(["munged", "--force", *munge], check=True, timeout=20)
        subprocess.run(["slurmctld", "-f", folder / "slurm.conf"], check=True, timeout=20)
        for number in range(nodes):
            cluster.start_node(f"n{number + 1}")
        if not cluster.await_idle(nodes):
            lines = (folder / "log/slurmctld.log").read_text().splitlines()[-3:]
            pytest.skip(f"Slurm does not start here: {' '.join(lines)}")
        yield cluster
