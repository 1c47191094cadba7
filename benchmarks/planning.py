"""Measure the CPU time of planning 1,000 and 10,000 jobs; ends with 1 where the ratio exceeds 12 or 10,000 take 20 s.

    python benchmarks/planning.py

Each job is one of 100 margins with one of 10 or 100 seeds, on a dataset that is drawn once in a temporary folder.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from reidbench.runs.job import Job
from reidbench.runs.plan import Request, make_plan
from reidbench.utils.machine import Machine, local_machine

MARGINS = 100
MOST_RATIO = 12.0
MOST_SECONDS = 20.0


def jobs(seeds: int) -> list[Job]:
    losses = [f"batch_hard(margin={margin / 100})" for margin in range(1, MARGINS + 1)]
    return [
        Job("synthetic(identities=40)", loss, "tiny", "quick", "auto", "none", seed)
        for loss in losses
        for seed in range(seeds)
    ]


def cpu_seconds(seeds: int, machine: Machine) -> float:
    """Return the CPU seconds of planning 100 margins with ``seeds`` seeds each."""
    request = Request(jobs(seeds))
    began = time.process_time()
    plan = make_plan(request, machine)
    seconds = time.process_time() - began
    assert len(plan.runs) == MARGINS * seeds
    return seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder, name) for name in ("data", "cache", "results")}
        machine = local_machine(device="cpu", threads=1, **places)
        cpu_seconds(1, machine)  # draws the dataset, imports and reads the source files
        small, large = cpu_seconds(10, machine), cpu_seconds(100, machine)
    print(f"1,000 jobs: {small:.2f} s; 10,000 jobs: {large:.2f} s; ratio {large / small:.1f}, at most {MOST_RATIO}")
    sys.exit(large > MOST_SECONDS or large / small > MOST_RATIO)


if __name__ == "__main__":
    main()
