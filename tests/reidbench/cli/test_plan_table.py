"""The plan that is printed before a run, and what a run is called: enough to tell each from the others, no more."""

from __future__ import annotations

from rich.console import Console

from reidbench.cli.plan_table import differing, name_of, print_plans
from reidbench.runs.prepare import Plan
from reidbench.utils.machine import local_machine
from tests.support.jobs import job, plan_of


def printed(plans: list[Plan]) -> list[str]:
    console = Console(record=True, width=200)
    with console.capture() as said:
        print_plans(console, plans, local_machine(device="cpu", threads=1), full=False)
    return [line.rstrip() for line in said.get().splitlines()]


def test_what_differs_is_in_a_line_and_in_the_name() -> None:
    metrics = ["euclidean", "cosine"]
    plans = [plan_of(job(metric=metric, rerank=rerank))[0] for metric in metrics for rerank in ("none", "k_reciprocal")]
    kinds = differing(plans)
    names = [name_of(plan, kinds) for plan in plans]
    assert names[0] == "batch_hard, euclidean"
    assert len(set(names)) == 4
    above, _, *rows = printed(plans)
    assert "backbone tiny" in above
    assert "metric" not in above
    assert [row.endswith(name) for row, name in zip(rows, names, strict=False)] == [True] * 4


def test_what_they_share_is_said_once() -> None:
    plans = [plan_of(job(loss=loss, seed=3))[0] for loss in ("batch_hard", "batch_hard(margin=0.2)")]
    assert [name_of(plan, differing(plans)) for plan in plans] == ["batch_hard", "batch_hard(margin=0.2)"]
    above, *rows = printed(plans)
    assert "metric euclidean · rerank none" in above
    assert not any("euclidean" in row for row in rows)
