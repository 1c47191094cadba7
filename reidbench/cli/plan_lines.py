"""What ``reidbench run`` says before it begins: the plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reidbench.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from reidbench.plan import Plan


KINDS = ("loss", "protocol", "backbone", "recipe", "metric", "rerank")


def say(console: Console, name: str, line: str) -> None:
    """Print one line of what happens, under the name of what it happens to."""
    console.print(f"{name}: {line}", markup=False, soft_wrap=True)


def print_plans(
    console: Console, plans: Sequence[Plan], estimates: Sequence[float | None], settings: Settings, full: bool
) -> None:
    """Print what will run: a row for each plan, what differs from a paper, the data; with ``full`` every option too."""
    from rich.table import Table
    from rich.text import Text

    from reidbench.plan import device_of
    from reidbench.progress import in_words

    whole = not console.is_terminal  # a log keeps its lines whole; a terminal would break them within a word
    # What is the same in all of them stands above: most plans are of one network or one data set.
    texts = {kind: [plan.items[kind].short for plan in plans] for kind in KINDS}
    same = {kind: found[0] for kind, found in texts.items() if kind != "loss" and len(set(found)) == 1}
    said = " · ".join(f"{kind} {text}" for kind, text in same.items())
    console.print(f"Plan ({device_of(settings)}): {said}".rstrip(": "), markup=False, soft_wrap=whole)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "state", "about", "seed", "what"):
        table.add_column(heading, justify="right" if heading in ("seed", "about") else "left", overflow="fold")
    for plan, seconds in zip(plans, estimates, strict=True):
        parts = [plan.items[kind].short for kind in KINDS if kind not in same]
        what = ", ".join(part for part in parts[:1] + [part for part in parts[1:] if part != "none"])
        cells = [plan.id[:10], plan.state(), in_words(seconds), str(plan.job.seed), what]
        table.add_row(*map(Text, cells))
    console.print(table)
    for plan in plans:
        if plan.changed() and not plan.done():
            say(
                console,
                plan.items["loss"].short,
                f"made before by other code; since then {', '.join(plan.changed())} changed",
            )
    for differing in dict.fromkeys((plan.recipe.faithful_to, plan.deviations) for plan in plans if plan.trains):
        paper, found = differing
        if paper:
            said = f"differs from {paper}: {'; '.join(found)}" if found else f"faithful to {paper}"
            console.print(said, markup=False, soft_wrap=whole)
    for plan in {id(plan.split): plan for plan in plans}.values():
        counts = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in plan.split.counts.items())
        said = " (a stand-in: not the published names)" if plan.standin else ""
        console.print(f"protocol {plan.items['protocol'].text}{said}: {counts}", markup=False, soft_wrap=whole)
    for line in dict.fromkeys(_pixels(plan, settings) for plan in plans if _will_train(plan)):
        console.print(line, markup=False, soft_wrap=whole)
    if not full:
        return
    for plan in plans:
        console.print(f"\n{plan.id}", markup=False, style="bold")
        console.print(f"  {'training':9} {plan.train_id[:10]}, seed {plan.job.seed}", markup=False)
        for kind, item in plan.items.items():
            owners = ", ".join(f"{e.plugin.name}, {e.plugin.distribution} {e.plugin.version}" for e in item.entries)
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


def _will_train(plan: Plan) -> bool:
    from reidbench.training import finished

    return plan.trains and plan.done() is None and finished(plan.training_folder) is None


def _pixels(plan: Plan, settings: Settings) -> str:
    """Return in words where a plan's training pixels will be held, and why."""
    from reidbench.pixel_cache import planned_tier
    from reidbench.pixels import stored_size
    from reidbench.plan import device_of

    height, width = stored_size(plan.info.preprocess, plan.recipe.crop)
    return planned_tier(
        plan.split.train, height, width, cache=settings.cache, device=device_of(settings), tier=settings.pixels
    )
