"""``reidbench run``: plan, train and score every combination, and print one table."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from reidbench.cli.flags import AllowPartial, Cache, DataRoot, Device, Results, Threads
from reidbench.utils.machine import AUTO, CHECKPOINT_SECONDS


def _specs(help_text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(metavar="SPEC", help=help_text, show_default=False)
    return option


def run(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[SUITE|RECORD]",
            help="A suite (TOML file or name), or a record.json to reproduce.",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[list[str] | None, _specs("Data and evaluation.")] = None,
    loss: Annotated[list[str] | None, _specs('Loss, e.g. "batch_hard(margin=0.2)", or none.')] = None,
    backbone: Annotated[list[str] | None, _specs("Network.")] = None,
    recipe: Annotated[list[str] | None, _specs("How it is trained.")] = None,
    metric: Annotated[list[str] | None, _specs("Distance at test time.")] = None,
    rerank: Annotated[list[str] | None, _specs("Re-ranker, or none.")] = None,
    seed: Annotated[list[int] | None, typer.Option(metavar="NUMBER", help="Seed.", show_default=False)] = None,
    scale: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another size of a suite, e.g. tiny.", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with ids and every option, and stop.")
    ] = False,
    data_root: DataRoot = None,
    allow_partial: AllowPartial = False,
    results: Results = None,
    cache: Cache = None,
    device: Device = AUTO,
    threads: Threads = 0,
    checkpoint_seconds: Annotated[
        float, typer.Option(metavar="SECONDS", help="Time between two checkpoints.")
    ] = CHECKPOINT_SECONDS,
    pixels: Annotated[
        str, typer.Option(metavar="NAME", help="Where decoded training images are stored: auto, device or map.")
    ] = AUTO,
) -> None:
    """Train and score every combination of the flags, which repeat. The same command again resumes, or prints scores.

    Without arguments it runs the suite synthetic: an untrained network and two losses on the built-in dataset, with a
    learned metric and re-ranked. A SPEC is a name with options; reidbench plugins lists them.
    """
    from rich.console import Console

    from reidbench.cli.plan_table import print_line, print_plan, print_table
    from reidbench.errors import OptionError
    from reidbench.runs.execute import execute
    from reidbench.runs.plan import make_plan, read_request
    from reidbench.utils.machine import local_machine
    from reidbench.utils.processes import join

    world = join()
    console = Console(stderr=True, highlight=False, quiet=not world.first)
    machine = local_machine(
        data=data_root,
        results=results,
        cache=cache,
        device=device,
        threads=threads,
        checkpoint_seconds=checkpoint_seconds,
        allow_partial=allow_partial,
        pixels=pixels,
        log=partial(print_line, console),
        world=world,
    )
    items = {"protocol": protocol, "loss": loss, "backbone": backbone, "recipe": recipe, "metric": metric}
    choices = {key: values for key, values in {**items, "rerank": rerank, "seed": seed}.items() if values}
    request = read_request(what, choices, scale)
    if request.scale and data_root is not None:
        raise OptionError(f"--scale {scale}: draws its own data; leave out --data-root")
    plan = world.in_turn(lambda: make_plan(request, machine))
    print_plan(console, plan, full=dry_run)
    if dry_run:
        return
    runs = []
    try:
        for folder, record in execute(plan):
            runs.append((folder, record))
    finally:
        print_table(runs, plan.machine)
    for folder, _ in runs:
        print_line(console, f"record: {folder}")
    if any(record.status != "ok" for _, record in runs):
        raise typer.Exit(1)
