"""What ``run`` and ``study`` print: the plan, its tasks and the scores; imported when a verb runs, since it is slow."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from reidbench.cli.output import echo, print_report, print_rows
from reidbench.data.positives_and_exclusions import contradiction_notes
from reidbench.errors import OptionError
from reidbench.reports.artifacts import RunFiles
from reidbench.reports.sections import default_parts
from reidbench.runs.execute import runs_here
from reidbench.runs.plan import KINDS, Plan, differing_kinds, training_images
from reidbench.runs.preflight import in_gib, results_bytes
from reidbench.runs.prepare import Prepared
from reidbench.runs.provenance import changed_files
from reidbench.runs.record import RunRecord
from reidbench.runs.tasks import Executor, make_batch
from reidbench.utils.machine import Machine, local_machine
from reidbench.utils.processes import join

LISTED_RUNS = 200
SETTINGS = ("results", "cache", "device", "threads", "checkpoint_seconds", "allow_partial", "pixels", "validate_every")


def prepare(options: Mapping[str, Any]) -> tuple[Machine, Console]:
    """Return the machine of a command's options, and the console on stderr that it logs to."""
    if options["scale"] and options["data_root"] is not None:
        raise OptionError(f"--scale {options['scale']}: brings its own data; leave out --data-root")
    world = join()
    console = Console(stderr=True, highlight=False, quiet=not world.first)
    settings = {name: options[name] for name in SETTINGS} | {"trackers": options["tracker"]}
    log = partial(print_line, console)
    return local_machine(data=options["data_root"], **settings, log=log, world=world), console


def print_line(console: Console, line: str, style: str = "") -> None:
    """Print a line of text, wrapped between words on a terminal and never elsewhere."""
    if console.is_terminal:
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        wrapper = textwrap.TextWrapper(
            console.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        line = "\n".join(map(wrapper.fill, line.split("\n")))
    console.print(line, style=style, markup=False, soft_wrap=True)


def print_plan(console: Console, plan: Plan, most: int | None, *, verbose: bool = False, where: str = "") -> None:
    """Print a row for each run, deviations from papers, the data, and the work ahead.

    At most the first ``most`` rows are printed; without a limit all, and the options of every item once, those of all
    runs first. With ``verbose`` the options, the ids and the folder of each run follow. ``where`` is the executor that
    was named, else it is this machine's device.
    """
    runs = plan.runs
    # Items that all runs share are named once, above the table.
    shared = [kind for kind in KINDS if runs and kind not in differing_kinds(runs)]
    shared_items = " · ".join(f"{kind} {runs[0].items[kind].short}" for kind in shared)
    print_line(console, f"Plan ({where or plan.machine.device}): {shared_items}".rstrip(": "))
    each_run = zip(runs, plan.states, plan.names(), strict=True)
    rows = [(run.id[:10], str(state), run.job.seed, name) for run, state, name in each_run][:most]
    if rows:
        print_rows(("id", "state", "seed", "what"), rows, ("seed",), console)
    if more := len(runs) - len(rows):
        print_line(console, f"{'and ' * bool(rows)}{more:,} {'more' if rows else 'runs'}; --dry-run lists them")
    for line in dict.fromkeys(_notes(plan)):
        print_line(console, line)
    if most is None and runs and not verbose:
        print_line(console, "\nOptions, those of all runs first (--verbose: those of each run)", "bold")
        _print_options(console, runs)
    for run in runs if verbose else ():
        print_line(console, f"\n{run.id}", "bold")
        print_line(console, f"  {'training':9} {run.train_id[:10]}, seed {run.job.seed}")
        _print_options(console, [run])
        print_line(console, f"  {'folder':9} {run.run_folder}")


def print_tasks(console: Console, plan: Plan, executor: Executor) -> None:
    """Print what an executor would do with the tasks of a plan; nothing where this process runs them."""
    if not runs_here(plan, executor):
        batch = make_batch(plan)
        print_line(console, f"\n{len(batch.tasks)} tasks in {batch.folder}")
        console.print(executor.describe(batch.tasks, batch.folder), markup=False, soft_wrap=True)


def _notes(plan: Plan) -> Iterator[str]:
    """Yield what is special about the runs and their data, and how much work is left; sentences may repeat."""
    for run, state in zip(plan.runs, plan.states, strict=True):
        if state.earlier and (changed := changed_files(state.earlier.code_files, run.code_files)):
            yield f"{run.items['loss'].short}: was run by other code; changed: {', '.join(changed)}"
        if state.changes:
            yield f"{run.items['loss'].short}: was run on other images: {state.changes}"
    papers = Counter((run.recipe.faithful_to, run.deviations) for run in plan.runs if run.trains)
    for (paper, deviations), count in papers.items():
        if paper:
            which = "" if count == len(plan.runs) else f"{count:,} of {len(plan.runs):,} runs: "
            yield which + (f"differs from {paper}: {'; '.join(deviations)}" if deviations else f"faithful to {paper}")
    for run in {id(run.split): run for run in plan.runs}.values():
        counts = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in run.split.counts.items())
        standin = " (a stand-in: other names than the published ones)" if run.standin else ""
        yield f"protocol {run.items['protocol'].text}{standin}: {counts}"
        if run.unmatched.total:
            yield f"queries without a positive: {run.unmatched}, each scored as AP 0"
        yield from contradiction_notes(run.contradictions)
    for run in plan.runs:
        single = run.split.counts["train"] == run.split.counts["train_identities"]
        if single and run.trains and run.recipe.batches == "pk" and (k := run.recipe.k) > 1:
            yield f"each training identity has one image: with k={k} it repeats, so no positive pair has two images"
    pending = [(run, state) for run, state in zip(plan.runs, plan.states, strict=True) if state.status != "done"]
    if pending:
        new = {run.train_id: (run, state) for run, state in pending if run.trains and state.status != "trained"}
        steps = sum(run.recipe.steps - state.step for run, state in new.values())
        images = sum(training_images(run, state) for run, state in new.values())
        runs = f"to do: {len(pending):,} of {len(plan.runs):,} runs, trainings: {len(new):,}"
        size = in_gib(results_bytes([run for run, _ in pending]))
        yield f"{runs}, steps: {steps:,}, images: {images:,}, results: about {size}"


def _print_options(console: Console, runs: Sequence[Prepared]) -> None:
    """Print each item of the runs once, with its options and their origins, and how the runs are scored."""
    texts: dict[str, list[str]] = {}
    for run in runs:
        for kind, item in run.items.items():
            owners = ", ".join(str(offer.plugin) for offer in item.plugin_items)
            text = item.text + (f"  ({owners})" if owners else "")
            for origin in dict.fromkeys(item.origins.values()):
                options = [option for option, each in item.origins.items() if each == origin]
                text += f"\n            from {origin}: {', '.join(options)}"
            texts.setdefault(kind, []).append(text)
        how = run.evaluation
        scored = f"views {how.views}, pool {how.pool}, excluded {' and '.join(how.exclude)}"
        texts.setdefault("scored by", []).append(scored)
    for kind in sorted(texts, key=lambda kind: len(set(texts[kind])) > 1):
        for text in dict.fromkeys(texts[kind]):
            print_line(console, f"  {kind:9} {text}")


def print_scores(runs: Sequence[tuple[Path, RunRecord]], machine: Machine) -> None:
    """Print the sections of the default report on runs, to stdout; a line for each run too where a section fails."""
    records = [record for _, record in runs]
    if print_report(default_parts("sections", records, RunFiles(runs, machine, figures=False))):
        for record in records:
            echo(f"{record.items['loss'].short}, seed {record.job.seed}: {record.result}")
