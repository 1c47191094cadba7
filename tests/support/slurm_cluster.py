"""A real Slurm on loopback: a controller and nodes on this machine, by the daemons of Debian's packages."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "scontrol", "sinfo")

# No accounting, no cgroups; every daemon listens on 127.0.0.1. cred_expire decides how soon a job is queued again.
CONFIGURATION = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
KillWait=2
InactiveLimit=0
ReturnToService=2
SlurmdTimeout=10
NodeName=n[1-{nodes}] NodeHostname=localhost NodeAddr=127.0.0.1 Port={first}-{last} CPUs=2 RealMemory=2000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A running Slurm.

    ``folder``: its configuration, state and logs.
    """

    folder: Path

    def start_node(self, name: str, prefix: Sequence[str] = ()) -> None:
        """Start the daemon of a node, by a command that begins with ``prefix``."""
        subprocess.run([*prefix, "slurmd", "-f", self.folder / "slurm.conf", "-N", name], check=True, timeout=20)

    def kill_node(self, name: str) -> None:
        """Kill the daemon of a node and every process below it, as where its power fails."""
        for pid in [*_tree(self._pid(f"slurmd.{name}.pid")), *_steps(name)]:
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

    def _pid(self, name: str) -> int:
        return int((self.folder / name).read_text())


def _tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(descendant for child in children for descendant in _tree(int(child)))]


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
def slurm_cluster(nodes: int) -> Iterator[Cluster]:
    """Yield a Slurm with so many nodes, the one that this process's environment names; skips where none can start."""
    if missing := [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        cluster = Cluster(folder)
        for name in ("munge", "state", "spool", "log"):
            (folder / name).mkdir(mode=0o700)
        (folder / "munge/key").write_bytes(os.urandom(128))
        (folder / "munge/key").chmod(0o600)
        port = _free_ports(nodes + 1)
        values = {"port": port, "first": port + 1, "last": port + nodes, "nodes": nodes, "user": getpass.getuser()}
        (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, **values))
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
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


def _free_ports(count: int) -> int:
    """Return the first of so many free ports in a row."""
    for first in range(17000, 30000, 50):
        with ExitStack() as stack, suppress(OSError):
            for number in range(count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", first + number))
            return first
    raise OSError("no free ports")
