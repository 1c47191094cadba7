"""``reidbench run``: plan, train, score, and one table."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reidbench.cli.flags import AllowPartial, Cache, DataRoot, Device, Results, Threads
from reidbench.cli.plan_table import differing, name_of, print_plans, say
from reidbench.errors import DataError, OptionError, ReidbenchError
from reidbench.utils.machine import AUTO, CHECKPOINT_SECONDS, SCALES, Machine

if TYPE_CHECKING:
    from rich.console import Console

    from reidbench.runs.job import Job
    from reidbench.runs.prepare import Plan
    from reidbench.runs.record import RunRecord


def run(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[SUITE|RECORD]",
            help="A suite (TOML file or name), or a record.json to make again.",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="Data and scoring.", show_default=False)
    ] = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(metavar="SPEC", help='Loss, e.g. "batch_hard(margin=0.2)", or none.', show_default=False),
    ] = None,
    backbone: Annotated[list[str] | None, typer.Option(metavar="SPEC", help="Network.", show_default=False)] = None,
    recipe: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="How it is trained.", show_default=False)
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="Distance at test time.", show_default=False)
    ] = None,
    rerank: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="Re-ranker, or none.", show_default=False)
    ] = None,
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
    device: Device = "auto",
    threads: Threads = 0,
    checkpoint_seconds: Annotated[
        float, typer.Option(metavar="SECONDS", help="Time between two checkpoints.")
    ] = CHECKPOINT_SECONDS,
    pixels: Annotated[
        str, typer.Option(metavar="NAME", help="Where decoded training images are stored: auto, device or map.")
    ] = AUTO,
) -> None:
    """Train and score every combination; flags repeat and multiply. The same command again goes on or prints.

    Without arguments: the suite synthetic, an untrained network and two losses on the embedded data set, with a learned
    metric and re-ranked. A SPEC is a name with options, as reidbench plugins lists them.
    """
    from rich.console import Console

    from reidbench.images.pixel_file import check_store
    from reidbench.plugins.catalogue import load
    from reidbench.runs.preflight import check_images, check_weights
    from reidbench.runs.prepare import TO_DO
    from reidbench.runs.runner import execute, follow
    from reidbench.runs.store import AGAIN
    from reidbench.training.precision import check_device
    from reidbench.utils.machine import local_machine
    from reidbench.utils.processes import join

    world = join()
    machine = local_machine(
        data=data_root,
        results=results,
        cache=cache,
        device=device,
        threads=threads,
        checkpoint_seconds=checkpoint_seconds,
        allow_partial=allow_partial,
        pixels=pixels,
        world=world,
    )
    check_store(machine.pixels)
    flags = {
        "protocol": protocol,
        "loss": loss,
        "backbone": backbone,
        "recipe": recipe,
        "metric": metric,
        "rerank": rerank,
        "seed": seed,
    }
    console = Console(stderr=True, highlight=False, quiet=not world.first)
    jobs, again = _jobs(what, {name: value for name, value in flags.items() if value})
    if scale is not None:
        jobs, machine = world.in_turn(lambda: _at_scale(console, what, str(scale), machine, data_root))
    if again is not None:
        # The run that is made again must not answer for itself.
        machine = dataclasses.replace(machine, results=machine.results / AGAIN)
    failed_plugins = [plugin.name for plugin in load().plugins if plugin.state != "ok"]
    if failed_plugins:
        console.print(
            f"plugins that could not be loaded: {', '.join(failed_plugins)} (reidbench plugins says why)", markup=False
        )
    plans = world.in_turn(lambda: _plans(jobs, machine))
    for plan in plans:
        check_device(plan.recipe, machine.device)
    if not world.first:
        for plan in plans if not dry_run else ():
            follow(plan, machine)
        return
    if again is not None:
        _check_again(Path(str(what)), again, plans[0])
    print_plans(console, plans, machine, full=dry_run)
    if dry_run:
        return

    for plan in {id(plan.split): plan for plan in plans if not plan.done()}.values():
        check_images(plan, machine)
    check_weights(plans)
    records: list[tuple[Path, RunRecord]] = []
    kinds = differing(plans)
    for number, plan in enumerate(plans, start=1):
        name = f"[{number}/{len(plans)}] {name_of(plan, kinds)}, seed {plan.job.seed}"
        state = plan.state()
        console.print(f"{name}: {'starting' if state == TO_DO else state}", markup=False)
        try:
            record = execute(plan, dataclasses.replace(machine, log=partial(say, console, name)))
        except ReidbenchError:
            _print_table(records, machine)
            raise
        if record.status != "ok":
            console.print(f"{name}: {record.status}: {record.error}", markup=False, soft_wrap=True)
        records.append((plan.run_folder, record))
    _print_table(records, machine)
    for folder, _ in records:
        console.print(f"record: {folder}", markup=False, soft_wrap=True)
    if again is not None:
        _print_difference(console, again, records[0][1])
    if any(record.status != "ok" for _, record in records):
        raise typer.Exit(1)


def _jobs(what: str | None, flags: dict[str, list[str] | list[int]]) -> tuple[list[Job], RunRecord | None]:
    """Return the jobs asked for and, where a record is made again, the record."""
    from reidbench.plugins.catalogue import command_defaults
    from reidbench.runs.job import Job
    from reidbench.runs.record import read_record
    from reidbench.runs.suite import expand, find_suite, load_suite

    if what is None and not flags:
        what = str(command_defaults()["suite"])
    if what is None:
        return expand(flags, command_defaults()), None
    if flags:
        raise OptionError(f"{what} already says what to run; leave out --{', --'.join(flags)}, or leave out {what}")
    if not what.endswith(".json"):
        return load_suite(find_suite(what)).jobs, None
    record = read_record(Path(what))
    specs = {kind: item.spec for kind, item in record.items.items() if kind != "dataset"}
    return [Job(**specs, seed=record.job.seed)], record


def _at_scale(
    console: Console, what: str | None, name: str, machine: Machine, data_root: Path | None
) -> tuple[list[Job], Machine]:
    """Return a suite's jobs at another scale and the machine with its data; says what stands for what, and draws."""
    from reidbench.runs.suite import find_suite, load_suite, synthesize

    if what is None or what.endswith(".json"):
        raise OptionError(f"--scale {name}: is for suites; name one, e.g. reidbench run paper/table2 --scale {name}")
    if data_root is not None:
        raise OptionError(f"--scale {name}: draws its own data; leave out --data-root")
    suite = load_suite(find_suite(what))
    scale = suite.scale(name)
    say(console, f"scale {name}", "not the suite's own systems; no score of it is one of the suite's")
    for key, texts in scale.replaced.items():
        for text, other in texts.items():
            say(console, f"  {key}", f"{other} in the place of {text}")
    digest = hashlib.sha256(json.dumps(dict(scale.data), sort_keys=True).encode()).hexdigest()
    folder = machine.cache / SCALES / f"{name}-{digest[:12]}"
    for part, synthesizer in scale.data.items():
        say(console, "  data", f"{synthesizer} in {folder / part}")
    for part, synthesizer in scale.data.items():
        synthesize(synthesizer, folder / part)
    jobs = list(dict.fromkeys(scale.of(job) for job in suite.jobs))
    return jobs, dataclasses.replace(machine, data=folder) if scale.data else machine


def _plans(jobs: Sequence[Job], machine: Machine) -> list[Plan]:
    """Return a plan for every job; the mistakes of all jobs are raised together, before anything is computed."""
    from reidbench.plugins.catalogue import load
    from reidbench.runs.prepare import Planner

    planner = Planner(load(), machine)
    plans, mistakes = [], []
    for job in jobs:
        try:
            plans.append(planner.plan(job))
        except ReidbenchError as error:
            mistakes.append(error)
    if mistakes:
        lines = dict.fromkeys(line for mistake in mistakes for line in str(mistake).splitlines())
        raise type(mistakes[0])("\n".join(lines))
    return plans


def _print_table(records: Sequence[tuple[Path, RunRecord]], machine: Machine) -> None:
    from rich.console import Console

    from reidbench.plugins.catalogue import command_defaults
    from reidbench.reports.render import render_terminal
    from reidbench.reports.sections import build_sections
    from reidbench.runs.artifacts import RunFiles

    if records:
        files = RunFiles(records, machine)
        parts = build_sections(command_defaults()["sections"], [record for _, record in records], files)
        render_terminal(parts, Console(highlight=False))


def _check_again(file: Path, record: RunRecord, plan: Plan) -> None:
    """Refuse what cannot be made again: a record of other data, and one that would answer for itself."""
    if file.resolve().parent == plan.run_folder.resolve():
        raise DataError(f"{file}: lies where it would be made again; name another folder with --results")
    if record.dataset.digest != plan.split.digest:
        raise DataError(
            f"the record was made on other data: digest {record.dataset.digest[:16]} with counts "
            f"{record.dataset.counts}, here {plan.split.digest[:16]} with {plan.split.counts}"
        )
    if record.id != plan.id:
        raise DataError(
            f"{file}: what it asks for has the id {plan.id[:12]}, but it says {record.id[:12]}: it has been edited, or "
            f"protocol {plan.items['protocol'].text} has changed since (version {record.evaluation.version} then, "
            f"{plan.protocol.version} now)"
        )


def _print_difference(console: Console, before: RunRecord, now: RunRecord) -> None:
    """Say how the scores of a run made again differ from its record's, and what else does."""
    from reidbench.runs.provenance import changed_files

    primary = before.evaluation.primary
    if primary not in now.scores or primary not in before.scores:
        return
    names = [name for name in before.scores if isinstance(before.scores[name], float)]
    worst = max(names, key=lambda name: abs(now.scores[name] - before.scores[name]))
    same = "every score is the same to the last digit" if now.scores == before.scores else (
        f"largest difference {now.scores[worst] - before.scores[worst]:+.6f} in {worst}"
    )  # fmt: skip
    changed = changed_files(before.code_files, now.code_files)
    for name in ("device_name", "threads", "torch"):
        was, made = getattr(before.environment, name), getattr(now.environment, name)
        changed += [f"{name} ({was} before, {made} now)"] if was != made else []
    if changed:
        console.print(f"not the same: {', '.join(changed)}", markup=False, soft_wrap=True)
    console.print(
        f"made again: {primary} {before.scores[primary]:.6f} before, {now.scores[primary]:.6f} now; {same}",
        markup=False,
    )
