"""The frozen values that flow through the house, from the request to the record of a run.

Words: a *unit* is one or more images that share one embedding; *junk* (pid -1) leaves the ranking; a *distractor*
(pid 0) stays and is always wrong. Nothing here imports torch, so that listing and planning stay fast.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Literal

from reidbench.data.split import Split


@dataclass(frozen=True)
class Protocol:
    """The data and everything after the checkpoint; declarative.

    ``dataset`` is a spec; ``views`` names the test-time views; ``pool`` is "auto" (the loss's own), "mean" or "max";
    ``exclude`` names what leaves a query's ranking: "junk" (pid -1) and "same_camera" (the query's identity in the
    query's camera). ``primary`` is the score that ranks. ``version`` moves whenever a number can change. ``recipe`` is
    the default recipe. ``defaults`` are defaults for options of other items, by name. ``names`` holds the sha256 of
    the published sorted name lists ("train", "query", "gallery", joined by "+" where only two together are published):
    any other tree is a stand-in. ``faithful_to`` names the paper that draws its training images, looks at test images
    (views) and pools them so, with the recipe's options ``faithful_options`` where they are not the recipe's defaults.
    """

    dataset: str
    version: int
    recipe: str
    views: str
    pool: Literal["auto", "mean", "max"] = "auto"
    exclude: tuple[str, ...] = ("junk", "same_camera")
    primary: str = "map_market"
    ranks: tuple[int, ...] = (1, 5, 10, 20)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    faithful_to: str = ""
    faithful_options: Mapping[str, Any] = field(default_factory=dict)


def is_standin(protocol: Protocol, split: Split) -> bool:
    """Whether a protocol publishes its name lists and these are others."""
    parts = {"train": split.train, "query": split.query, "gallery": split.gallery}
    lists = {key: reduce(operator.add, (parts[name] for name in key.split("+"))) for key in protocol.names}
    return any(lists[key].name_digest != digest for key, digest in protocol.names.items())
