"""``reidbench study``: compare losses under one tuning budget, over several seeds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reidbench.cli import flags
from reidbench.cli.output import echo
from reidbench.cli.run import print_line, print_tasks
from reidbench.utils.machine import AUTO, CHECKPOINT_SECONDS

if TYPE_CHECKING:
    from rich.console import Console

    from reidbench.studies.study import StudyResult
    from reidbench.studies.trainings import Trainings


def _number(help_text: str, metavar: str = "NUMBER") -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(metavar=metavar, help=help_text, show_default=False)
    return option


def study(
    what: Annotated[
        Path | None,
        typer.Argument(
            metavar="[STUDY]",
            help="A study: a suite (TOML file or name) with a table [study].",
            show_default=False,
            parser=flags.path,
        ),
    ] = None,
    loss: flags.Losses = None,
    against: Annotated[str | None, _number("The loss that the others are compared with.", "SPEC")] = None,
    trials: Annotated[int | None, _number("Trials of each search; 0: the options as given.  [default: 5]")] = None,
    seeds: Annotated[int | None, _number("Final seeds.  [default: 5]")] = None,
    searches: Annotated[int | None, _number("Searches of each loss: one for each seed, or 1 for all.")] = None,
    hours: Annotated[float | None, _number("Choose trials, seeds and steps that fit.", "HOURS")] = None,
    seed: Annotated[int | None, _number("Seed of the searches.  [default: 0]")] = None,
    protocol: flags.Protocols = None,
    backbone: flags.Backbones = None,
    recipe: flags.Recipes = None,
    metric: flags.Metrics = None,
    rerank: flags.Rerankers = None,
    scale: flags.Scale = None,
    dry_run: flags.DryRun = False,
    data_root: flags.DataRoot = None,
    allow_partial: flags.AllowPartial = False,
    results: flags.Results = None,
    cache: flags.Cache = None,
    device: flags.Device = AUTO,
    threads: flags.Threads = 0,
    executor: flags.Executor = None,
    checkpoint_seconds: flags.CheckpointSeconds = CHECKPOINT_SECONDS,
    pixels: flags.Pixels = AUTO,
) -> None:
    """Tell which loss is better, and by how much: each gets the same number of trials, and is trained with new seeds.

    For each seed a search chooses options on held-out training identities; its winner is trained anew and scored once
    on the test. The same command again resumes, or prints the table.
    """
    from rich.console import Console

    from reidbench.plugins.catalogue import load
    from reidbench.runs.execute import build_executor
    from reidbench.studies.define import define_study
    from reidbench.studies.run_study import run_study
    from reidbench.studies.trainings import Trainings
    from reidbench.utils.machine import local_machine
    from reidbench.utils.processes import join

    console = Console(stderr=True, highlight=False)
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
        world=join(),
    )
    items = {"protocol": protocol, "loss": loss, "backbone": backbone, "recipe": recipe, "metric": metric}
    choices = {key: values for key, values in {**items, "rerank": rerank}.items() if values}
    numbers = {"trials": trials, "seeds": seeds, "searches": searches, "seed": seed, "against": against, "hours": hours}
    given = {key: value for key, value in numbers.items() if value is not None}
    definition = define_study(str(what) if what else None, choices, given, scale)
    runner = build_executor(executor)
    trainings = Trainings(definition, machine, load())
    if dry_run:
        out = Console(highlight=False)
        print_study(out, trainings, full=True)
        print_tasks(out, trainings.plan([*trainings.trials, *trainings.defaults]), runner)
        return
    print_study(console, trainings, full=False)
    result = run_study(trainings, runner)
    print_result(result)
    print_line(console, f"study: {result.folder}")
    if any(final.flawed for loss_result in result.losses for final in (*loss_result.finals, *loss_result.defaults)):
        raise typer.Exit(1)


def print_study(console: Console, trainings: Trainings, full: bool) -> None:
    """Print what is searched and trained, and the work ahead; with ``full`` every trial."""
    for line in trainings.describe():
        print_line(console, line)
    for training in trainings.trials if full else ():
        ids = ", ".join(trainings.run_of(job).id[:10] for job in training.jobs)
        print_line(console, f"  {training.title}: {ids}")


def print_result(result: StudyResult) -> None:
    """Print the table to stdout."""
    from reidbench.reports.sections import render
    from reidbench.reports.text_formats import to_terminal
    from reidbench.studies.table import compare_study, study_part

    echo(render([study_part(result, compare_study(result))], to_terminal), nl=False)
