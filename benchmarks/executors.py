"""Measure how much faster several processes of one thread run a suite than one such process, and compare their scores.

    python benchmarks/executors.py [SUITE] [--workers 2]

Without a suite it runs four short trainings. Each way begins with empty folders for results and caches; the data are
rendered before. Prints the wall time of both and their ratio, and fails where a score differs in its last digit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHORT = [
    *("--protocol=synthetic(identities=40)", "--backbone=tiny", "--recipe=quick(steps=100, p=6, k=2)"),
    "--loss=none",
]
SHORT += [f"--loss={name}" for name in ("batch_hard", "batch_all", "classification", "triplet")]


def run(what: list[str], folder: Path, *flags: str) -> float:
    """Run the command line and return its wall time in seconds."""
    began = time.monotonic()
    environment = {**os.environ, "REIDBENCH_CACHE": str(folder / "cache"), "REIDBENCH_RESULTS": str(folder / "results")}
    command = [sys.executable, "-m", "reidbench", "run", *what, "--device=cpu", "--threads=1", *flags]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def scores(folder: Path) -> dict[str, object]:
    """Return the scores of each run by its id."""
    records = [json.loads(file.read_text()) for file in folder.glob("results/runs/*/record.json")]
    return {record["id"]: record["scores"] for record in records}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("suite", nargs="?")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    what = [arguments.suite] if arguments.suite else SHORT
    with tempfile.TemporaryDirectory() as name:
        one, several = Path(name, "one"), Path(name, "several")
        run(what, one, "--dry-run")
        alone = run(what, one, "--executor=local(workers=1)")
        together = run(what, several, f"--executor=local(workers={arguments.workers})")
        same = scores(one) == scores(several) and bool(scores(one))
        print(
            f"{len(scores(one))} runs: 1 process {alone:.1f} s, {arguments.workers} processes {together:.1f} s, ",
            end="",
        )
        print(
            f"ratio {alone / together:.2f}; scores {'are equal' if same else 'DIFFER'}; load {os.getloadavg()[0]:.1f}"
        )
    sys.exit(not same)


if __name__ == "__main__":
    main()
