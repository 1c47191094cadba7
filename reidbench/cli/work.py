"""``reidbench work``: execute one task of a batch."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from reidbench.cli.flags import Device, Threads, path
from reidbench.utils.machine import AUTO, no_log


def work(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The batch's tasks.jsonl.", parser=path)],
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="The line of the task, from 0.")],
    device: Device = AUTO,
    threads: Threads = 0,
    follow_stdin: Annotated[
        bool, typer.Option("--follow-stdin", help="Save the state and stop when stdin is closed.")
    ] = False,
) -> None:
    """Execute one task of a batch: a training and every run scored from it. Executors start it; so can you."""
    from reidbench.runs.work import work as execute_task
    from reidbench.utils.processes import join

    world = join()
    if follow_stdin:
        threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    log = _print_line if world.first else no_log
    failed = False
    for folder, record in execute_task(file, number, device, threads, world, log):
        _print_line(f"record: {folder}")
        failed |= record.status != "ok"
    if failed:
        raise typer.Exit(1)


def _stop_at_end_of_input() -> None:
    """Send this process SIGTERM when its parent has ended, so that it saves its state as at any SIGTERM."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _print_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")
