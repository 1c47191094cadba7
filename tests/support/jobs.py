"""Small jobs for tests that walk the whole road: few people, few steps, one thread."""

from dataclasses import replace

from reidbench.plugins.catalogue import load
from reidbench.runs.job import Job, resolve
from reidbench.runs.prepare import Planner, Prepared, deviations
from reidbench.runs.run_job import run_job
from reidbench.training.build import build_recipe, describe_backbone
from reidbench.utils.machine import Machine, local_machine

# 40 identities draw in seconds; the tests that train on them ask for few steps of few people.
SMALL_PROTOCOL = "synthetic(identities=40)"
SMALL_RECIPE = "quick(steps=4, p=6, k=2)"


def job(**changes) -> Job:
    return replace(Job(SMALL_PROTOCOL, "batch_hard", "tiny", SMALL_RECIPE, "auto", "none", 0), **changes)


def deviations_of(asked, memo):
    """Return the recipe and the network of a job and what differs from the recipe's paper; no data are read."""
    resolved = resolve(asked, load(), memo)
    backbone = resolved.items["backbone"]
    info = memo(describe_backbone, backbone)
    recipe = build_recipe(resolved.items["recipe"], info)
    return recipe, info, deviations(resolved.items, recipe, info, resolved.protocol)


def plan_of(asked: Job, **machine) -> tuple[Prepared, Machine]:
    chosen = local_machine(device="cpu", threads=1, **machine)
    return Planner(load(), chosen).plan(asked), chosen


def run(asked, **machine):
    lines: list[str] = []
    plan, chosen = plan_of(asked, log=lines.append, **machine)
    return plan, run_job(plan, chosen), lines


def small_run(*more: str) -> list[str]:
    items = ["--protocol", SMALL_PROTOCOL, "--backbone", "tiny", "--recipe", SMALL_RECIPE]
    return ["run", *items, "--device", "cpu", "--threads", "1", *more]
