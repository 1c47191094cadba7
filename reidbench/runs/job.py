"""The frozen values that flow through the house, from the request to the record of a run.

Words: a *unit* is one or more images that share one embedding; *junk* (pid -1) leaves the ranking; a *distractor*
(pid 0) stays and is always wrong. Nothing here imports torch, so that listing and planning stay fast.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """One request: every item as the text the user gave (or a default), and the seed. Picklable."""

    protocol: str
    loss: str
    backbone: str
    recipe: str
    metric: str
    rerank: str
    seed: int
