"""The output of ``reidbench run``: the plan before the first run, and the table of scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from reidbench.runs.plan import Plan
    from reidbench.runs.prepare import Prepared
    from reidbench.runs.record import RunRecord
    from reidbench.utils.machine import Machine

LISTED_RUNS = 200


def print_line(console: Console, line: str) -> None:
    """Print one line of text, which no terminal width breaks."""
    console.print(line, markup=False, soft_wrap=True)


def print_plan(console: Console, plan: Plan, full: bool) -> None:
    """Print a row for each run, deviations from papers, the data, and the work ahead; with ``full`` every option."""
    from rich.table import Table
    from rich.text import Text

    from reidbench.runs.plan import KINDS, differing_kinds
    from reidbench.runs.provenance import changed_files

    runs = plan.runs
    # Items that all runs share are named once, above the table.
    shared = [kind for kind in KINDS if kind not in differing_kinds(runs)]
    shared_items = " · ".join(f"{kind} {runs[0].items[kind].short}" for kind in shared)
    print_line(console, f"Plan ({plan.machine.device}): {shared_items}".rstrip(": "))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "state", "seed", "what"):
        table.add_column(heading, justify="right" if heading == "seed" else "left", overflow="fold")
    listed = len(runs) if full else LISTED_RUNS
    for run, state, name in list(zip(runs, plan.states, plan.names(), strict=True))[:listed]:
        table.add_row(*map(Text, [run.id[:10], str(state), str(run.job.seed), name]))
    console.print(table)
    if len(runs) > listed:
        print_line(console, f"and {len(runs) - listed:,} more; --dry-run lists them")
    for run, state in zip(runs, plan.states, strict=True):
        if state.earlier and (changed := changed_files(state.earlier.code_files, run.code_files)):
            print_line(console, f"{run.items['loss'].short}: was run by other code; changed: {', '.join(changed)}")
    for paper, deviations in dict.fromkeys((run.recipe.faithful_to, run.deviations) for run in runs if run.trains):
        if paper:
            differences = f"differs from {paper}: {'; '.join(deviations)}"
            print_line(console, differences if deviations else f"faithful to {paper}")
    for run in {id(run.split): run for run in runs}.values():
        counts = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in run.split.counts.items())
        standin = " (a stand-in: other names than the published ones)" if run.standin else ""
        print_line(console, f"protocol {run.items['protocol'].text}{standin}: {counts}")
    if any(state.status != "done" for state in plan.states):
        print_line(console, _work(plan))
    for run in runs if full else ():
        _print_options(console, run)


def _work(plan: Plan) -> str:
    """Return how much work a plan has left: trainings, steps, images and disk."""
    from reidbench.runs.plan import training_images
    from reidbench.runs.preflight import in_gib, results_bytes

    pending = [(run, state) for run, state in zip(plan.runs, plan.states, strict=True) if state.status != "done"]
    new = {run.train_id: (run, state) for run, state in pending if run.trains and state.status != "trained"}.values()
    steps = sum(run.recipe.steps - state.step for run, state in new)
    images = sum(training_images(run, state) for run, state in new)
    size = in_gib(results_bytes([run for run, _ in pending]))
    runs = f"to do: {len(pending):,} of {len(plan.runs):,} runs"
    return f"{runs}, trainings: {len(new):,}, steps: {steps:,}, images: {images:,}, results: about {size}"


def _print_options(console: Console, run: Prepared) -> None:
    console.print(f"\n{run.id}", markup=False, style="bold")
    print_line(console, f"  {'training':9} {run.train_id[:10]}, seed {run.job.seed}")
    for kind, item in run.items.items():
        plugins = [offer.plugin for offer in item.plugin_items]
        owners = ", ".join(f"{plugin.name}, {plugin.distribution} {plugin.version}" for plugin in plugins)
        print_line(console, f"  {kind:9} {item.text}" + (f"  ({owners})" if owners else ""))
        by_origin: dict[str, list[str]] = {}
        for option, origin in item.origins.items():
            by_origin.setdefault(origin, []).append(option)
        for origin, options in by_origin.items():
            print_line(console, f"            from {origin}: {', '.join(options)}")
    exclusions = " and ".join(run.protocol.exclude)
    print_line(console, f"  {'scored by':9} views {run.protocol.views}, pool {run.pool}, excluded {exclusions}")
    print_line(console, f"  {'folder':9} {run.run_folder}")


def print_table(runs: Sequence[tuple[Path, RunRecord]], machine: Machine) -> None:
    """Print the sections of the default report on runs, to stdout; nothing where there are none."""
    from rich.console import Console

    from reidbench.plugins.catalogue import command_defaults
    from reidbench.reports.artifacts import RunFiles
    from reidbench.reports.sections import build_sections
    from reidbench.reports.text_formats import render_terminal

    if runs:
        records = [record for _, record in runs]
        parts = build_sections(command_defaults()["sections"], records, RunFiles(runs, machine))
        render_terminal(parts, Console(highlight=False))
