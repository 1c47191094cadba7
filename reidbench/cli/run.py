"""``reidbench run``: plan, train and score every combination, and print one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from reidbench.cli.flags import Cache, DataRoot, Device, Results, Threads, number, option, path_argument
from reidbench.cli.suites import CLAIMS
from reidbench.errors import OptionError
from reidbench.utils.machine import AUTO, CHECKPOINT_SECONDS

_WHAT = "A suite (TOML file or name), or a record.json to reproduce."
_PARTIAL = "Use a dataset whose counts are wrong; the record says so."
Pixels = Literal["auto", "device", "map"]


def run(
    what: Annotated[Path | None, path_argument(_WHAT, "[SUITE|RECORD]")] = None,
    protocol: Annotated[list[str] | None, option("Data and evaluation.")] = None,
    loss: Annotated[list[str] | None, option('Loss, e.g. "batch_hard(margin=0.2)", or none.')] = None,
    backbone: Annotated[list[str] | None, option("Network.")] = None,
    recipe: Annotated[list[str] | None, option("How it is trained.")] = None,
    metric: Annotated[list[str] | None, option("Distance at test time.")] = None,
    rerank: Annotated[list[str] | None, option("Re-ranker, or none.")] = None,
    seed: Annotated[list[int] | None, option("Seed.", "NUMBER", parser=number)] = None,
    scale: Annotated[str | None, option("Another size of a suite, e.g. tiny.", "NAME")] = None,
    dry_run: Annotated[bool, option("Print the plan with ids and all options, and stop.", None, "--dry-run")] = False,
    verbose: Annotated[bool, option("Print the options of each run in the plan.", None, "--verbose")] = False,
    data_root: DataRoot = None,
    allow_partial: Annotated[bool, option(_PARTIAL, None, "--allow-partial")] = False,
    results: Results = None,
    cache: Cache = None,
    device: Device = AUTO,
    threads: Threads = 0,
    executor: Annotated[str | None, option('What runs it, e.g. "local(workers=2)" or "slurm(gpus=1)".')] = None,
    checkpoint_seconds: Annotated[float, option("Time between two checkpoints.", "SECONDS")] = CHECKPOINT_SECONDS,
    pixels: Annotated[Pixels, option("Where decoded training images are stored.", None)] = "auto",
    tracker: Annotated[list[str] | None, option("What follows the runs, e.g. tensorboard or wandb.")] = None,
    validate_every: Annotated[int, option("Score the network after each so many steps, on NAME_val.", "STEPS")] = 0,
) -> None:
    """Train and score every combination of the flags, which repeat. The same command again resumes, or prints scores.

    Without arguments it runs the suite synthetic: an untrained network and two losses on the built-in dataset, with a
    learned metric and re-ranked. A SPEC is a name with options; reidbench plugins lists them.
    """
    options = locals()
    from rich.console import Console

    from reidbench.cli.plan_output import LISTED_RUNS, prepare, print_line, print_plan, print_scores, print_tasks
    from reidbench.runs.execute import build_executor, execute
    from reidbench.runs.plan import KINDS, make_plan, read_request

    if str(what) == CLAIMS:
        raise OptionError(f"{what}: is no suite but the list of the paper's claims: reidbench report --section claims")
    machine, console = prepare(options)
    choices = {key: options[key] for key in (*KINDS, "seed") if options[key]}
    request = read_request(str(what) if what else None, choices, scale)
    runner = build_executor(executor)
    plan = machine.world.in_turn(lambda: make_plan(request, machine, dry_run=dry_run))
    if dry_run:
        out = Console(highlight=False, quiet=not machine.world.first)
        print_plan(out, plan, None, verbose=verbose, where=executor or "")
        print_tasks(out, plan, runner)
        return
    print_plan(console, plan, LISTED_RUNS, verbose=verbose, where=executor or "")
    ended = {}
    try:
        for folder, record in execute(plan, runner):
            ended[folder] = record
    finally:
        if runs := [(run.run_folder, ended[run.run_folder]) for run in plan.runs if run.run_folder in ended]:
            print_scores(runs, plan.machine)
    for folder, _ in runs:
        print_line(console, f"record: {folder}")
    if any(record.status != "ok" for _, record in runs):
        raise typer.Exit(1)
