"""From a plan to its record: train once per training, embed once per view, rank, keep."""

from __future__ import annotations

from collections.abc import Iterable

from reidbench.images import decode
from reidbench.runs.prepare import Plan
from reidbench.training.build import build_backbone
from reidbench.training.checkpoint import latest_step, read_summary
from reidbench.utils.machine import Machine
from reidbench.utils.random_streams import with_seed


def check_images(plan: Plan, machine: Machine) -> None:
    """Read the header of every image file of the plan's data, before anything is trained.

    Raises DataError with the names of those that cannot be used.
    """
    decode.check_images(plan.split.parts, machine.threads)


def check_weights(plans: Iterable[Plan]) -> None:
    """Load the weights that the plans' networks start from once, before anything is trained.

    Raises DataError where a network's own can be neither found nor fetched.
    """
    seen: set[str] = set()
    for plan in plans:
        item = plan.items["backbone"]
        started = plan.done() or read_summary(plan.training_folder) or latest_step(plan.training_folder)
        if started or item.identity in seen:
            continue
        seen.add(item.identity)
        with_seed(build_backbone(item, plan.job.seed).initialise, plan.job.seed, "initialise")
