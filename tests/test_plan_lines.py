"""The plan that is printed before a run, and what a run is called: enough to tell each from the others, no more."""

from __future__ import annotations

from rich.console import Console

from reidbench.cli.plan_lines import differing, name_of, print_plans
from reidbench.plan import Plan
from reidbench.settings import Settings

from .jobs import job, plan_of

HEADINGS = ["loss", "backbone", "recipe"]


def printed(plans: list[Plan]) -> list[list[str]]:
    console = Console(record=True, width=200)
    with console.capture() as said:
        print_plans(console, plans, [60.0] * len(plans), Settings(device="cpu", threads=1), full=False)
    return [line.split() for line in said.get().splitlines()]


def test_what_differs_is_a_column_and_a_part_of_the_name() -> None:
    metrics = ["euclidean", "cosine"]
    plans = [plan_of(job(metric=metric, rerank=rerank))[0] for metric in metrics for rerank in ("none", "k_reciprocal")]
    kinds = differing(plans)
    assert kinds == ["rerank", "metric"]
    heading, *rows = printed(plans)[1:6]
    assert heading == [*HEADINGS, *kinds, "seed", "id", "state", "about"]
    assert [("cosine" in row, "k_reciprocal" in row) for row in rows[:4]] == [(m, r) for m in (0, 1) for r in (0, 1)]
    names = [name_of(plan, kinds) for plan in plans]
    assert names[0] == "batch_hard, rerank none, metric euclidean, seed 0"
    assert len(set(names)) == 4


def test_what_they_share_is_not_repeated() -> None:
    plans = [plan_of(job(loss=loss, seed=3))[0] for loss in ("batch_hard", "batch_hard(margin=0.2)")]
    assert printed(plans)[1] == [*HEADINGS, "seed", "id", "state", "about"]
    assert [name_of(plan, differing(plans)) for plan in plans] == [
        "batch_hard, seed 3",
        "batch_hard(margin=0.2), seed 3",
    ]
