"""A Slurm cluster of one file: run as sbatch, squeue, scancel or scontrol, it keeps its queue in ``FAKE_SLURM``.

Each element of an array runs as soon as it is submitted, in a session of its own. ``FAKE_SLURM/refuse`` holds the words
with which sbatch refuses.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ["FAKE_SLURM"])


def sbatch() -> None:
    options = dict(argument.removeprefix("--").partition("=")[::2] for argument in sys.argv[1:])
    if (ROOT / "refuse").exists():
        sys.exit((ROOT / "refuse").read_text())
    script = ROOT / "script.sh"
    script.write_text(sys.stdin.read())
    with (ROOT / "submissions").open("a") as file:
        file.write(" ".join(sys.argv[1:]) + "\n")
    for part in options["array"].partition("%")[0].split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            start(options["job-name"], number, options["output"].replace("%a", str(number)))
    sys.stdout.write("1\n")


def start(name: str, number: int, output: str) -> None:
    with Path(output).open("a") as log:
        process = subprocess.Popen(
            ["bash", str(ROOT / "script.sh")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_JOB_ID": "1"},
            start_new_session=True,
        )
    (ROOT / f"element-{number}").write_text(f"{process.pid}|{name}|{output}")


def elements() -> dict[int, tuple[int, str, str]]:
    """Return (process, job name, output) of the elements whose processes run."""
    running = {}
    for file in ROOT.glob("element-*"):
        pid, name, output = file.read_text().split("|")
        status = Path(f"/proc/{pid}/stat")
        if status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
            running[int(file.name.rpartition("-")[2])] = int(pid), name, output
    return running


def squeue() -> None:
    name = sys.argv[sys.argv.index("-n") + 1]
    for number, (_, job_name, _) in sorted(elements().items()):
        if job_name == name:
            sys.stdout.write(f"{number}|RUNNING|n1|None\n")


def scancel() -> None:
    number = signal.SIGUSR1 if "--signal=USR1" in sys.argv else signal.SIGTERM
    for pid, _, _ in elements().values():
        os.kill(pid, number)


def scontrol() -> None:
    number = int(sys.argv[2].rpartition("_")[2])
    _, name, output = elements()[number]
    with (ROOT / "requeued").open("a") as file:
        file.write(f"{number}\n")
    start(name, number, output)


if __name__ == "__main__":
    {"sbatch": sbatch, "squeue": squeue, "scancel": scancel, "scontrol": scontrol}[Path(sys.argv[0]).name]()
