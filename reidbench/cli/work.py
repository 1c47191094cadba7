"""``reidbench work``: execute one task of a batch."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from reidbench.cli.flags import Device, Threads, path_argument
from reidbench.cli.output import echo
from reidbench.errors import OptionError, ReidbenchError
from reidbench.utils.machine import AUTO, no_log


def work(
    file: Annotated[Path, path_argument("The batch's file of tasks.", "FILE")],
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="The line of the task, from 0.")],
    device: Device = AUTO,
    threads: Threads = 0,
    follow_stdin: Annotated[bool, typer.Option("--follow-stdin", help="Save and stop when stdin is closed.")] = False,
) -> None:
    """Execute one task of a batch: a training and all its runs, or a shard. Executors start it; so can you."""
    from reidbench.cli.embed import embed
    from reidbench.runs.execute import work as execute_task
    from reidbench.runs.export import SHARD_TASKS
    from reidbench.runs.tasks import error_file
    from reidbench.utils.atomic import write_atomic
    from reidbench.utils.processes import join
    from reidbench.utils.untrusted_files import parse_json, read_text

    world = join()
    if follow_stdin:
        threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    if file.name == SHARD_TASKS:
        if world.size > 1:
            raise OptionError(f"{file}: one process embeds a shard; give each task one GPU")
        task = parse_json(read_text(file).splitlines()[number], str(file))
        run, out, root = (Path(task[name]) for name in ("run", "out", "data_root"))
        device, threads = task["device"] if device == AUTO else device, threads or task["threads"]
        try:
            embed(run, out.with_suffix(".csv"), out, 0, root, device, threads)
        except ReidbenchError as error:  # a further try would meet it again
            write_atomic(error_file(file.parent, number), str(error))
            raise
        return
    log = partial(echo, err=True) if world.first else no_log
    failed = False
    for folder, record in execute_task(file, number, device, threads, world, log):
        echo(f"record: {folder}", err=True)
        failed |= record.status != "ok"
    if failed:
        raise typer.Exit(1)


def _stop_at_end_of_input() -> None:
    """Send this process SIGTERM when its parent has ended, so that it saves its state as at any SIGTERM."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
