"""What ``reidbench run`` says before it begins: the plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reidbench.utils.machine import Machine

if TYPE_CHECKING:
    from rich.console import Console

    from reidbench.runs.prepare import Plan


KINDS = ("loss", "protocol", "backbone", "recipe", "metric", "rerank")


def differing(plans: Sequence[Plan]) -> list[str]:
    """Return the loss, and the other kinds of items of which the plans have more than one."""
    return [kind for kind in KINDS if kind == "loss" or len({plan.items[kind].short for plan in plans}) > 1]


def name_of(plan: Plan, kinds: Sequence[str]) -> str:
    """Return what tells a run from the others of a plan: its loss, and what it has of the other ``kinds``."""
    loss, *others = (plan.items[kind].short for kind in kinds)
    return ", ".join([loss, *(text for text in others if text != "none")])


def say(console: Console, name: str, line: str) -> None:
    """Print one line of what happens, under the name of what it happens to."""
    console.print(f"{name}: {line}", markup=False, soft_wrap=True)


def print_plans(console: Console, plans: Sequence[Plan], machine: Machine, full: bool) -> None:
    """Print what will run: a row for each plan, what differs from a paper, the data; with ``full`` every option too."""
    from rich.table import Table
    from rich.text import Text

    whole = not console.is_terminal  # a log keeps its lines whole; a terminal would break them within a word
    # What is the same in all of them stands above: most plans are of one network or one data set.
    kinds = differing(plans)
    said = " · ".join(f"{kind} {plans[0].items[kind].short}" for kind in KINDS if kind not in kinds)
    console.print(f"Plan ({machine.device}): {said}".rstrip(": "), markup=False, soft_wrap=whole)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "state", "seed", "what"):
        table.add_column(heading, justify="right" if heading == "seed" else "left", overflow="fold")
    for plan in plans:
        cells = [plan.id[:10], plan.state(), str(plan.job.seed), name_of(plan, kinds)]
        table.add_row(*map(Text, cells))
    console.print(table)
    for plan in plans:
        if plan.changed() and not plan.done():
            say(
                console,
                plan.items["loss"].short,
                f"made before by other code; since then {', '.join(plan.changed())} changed",
            )
    for paper, found in dict.fromkeys((plan.recipe.faithful_to, plan.deviations) for plan in plans if plan.trains):
        if paper:
            said = f"differs from {paper}: {'; '.join(found)}" if found else f"faithful to {paper}"
            console.print(said, markup=False, soft_wrap=whole)
    for plan in {id(plan.split): plan for plan in plans}.values():
        counts = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in plan.split.counts.items())
        said = " (a stand-in: not the published names)" if plan.standin else ""
        console.print(f"protocol {plan.items['protocol'].text}{said}: {counts}", markup=False, soft_wrap=whole)
    if not full:
        return
    for plan in plans:
        console.print(f"\n{plan.id}", markup=False, style="bold")
        console.print(f"  {'training':9} {plan.train_id[:10]}, seed {plan.job.seed}", markup=False)
        for kind, item in plan.items.items():
            owners = ", ".join(
                f"{e.plugin.name}, {e.plugin.distribution} {e.plugin.version}" for e in item.plugin_items
            )
            console.print(
                f"  {kind:9} {item.text}" + (f"  ({owners})" if owners else ""), markup=False, soft_wrap=whole
            )
            by_origin: dict[str, list[str]] = {}
            for option, origin in item.origins.items():
                by_origin.setdefault(origin, []).append(option)
            for origin, options in by_origin.items():
                console.print(f"            from {origin}: {', '.join(options)}", markup=False, soft_wrap=whole)
        evaluation = f"views {plan.protocol.views}, pool {plan.pool}, excluded {' and '.join(plan.protocol.exclude)}"
        console.print(f"  {'scored by':9} {evaluation}", markup=False, soft_wrap=whole)
        console.print(f"  {'folder':9} {plan.run_folder}", markup=False, soft_wrap=whole)
