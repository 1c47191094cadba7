"""What is scored and how, and whether the data on this machine are those that a protocol publishes."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Literal

from reidbench.data.split import Split

JUNK_RULE, SAME_CAMERA_RULE, SELF_RULE = "junk", "same_camera", "self"
MARKET_RULES = (JUNK_RULE, SAME_CAMERA_RULE)
EXCLUSION_RULES = (*MARKET_RULES, SELF_RULE)
VALIDATION_SUFFIX = "_val"  # of the names of protocols that hold out training identities
RANK_K, RECALL_AT_K = "r", "recall_at_"  # what the names of the scores of a rank begin with
RANKS = (1, 5, 10, 20)
RANK_SCORES = tuple(f"{RANK_K}{rank}" for rank in RANKS)


@dataclass(frozen=True)
class Protocol:
    """The data and everything after the checkpoint; declarative.

    Fields:
        dataset: spec of the dataset; its queries and gallery where ``train`` names another.
        version: rises whenever a score can change.
        recipe: the default recipe.
        views: name of the test-time views.
        pool: how the embeddings of a unit's images become one: "auto" (the loss's default), "mean" or "max".
        exclude: what is excluded from a query's ranking: "junk" (pid -1), "same_camera" (the query's identity in the
            query's camera) and "self" (the gallery unit with the query's own images).
        primary: the score that leaderboards rank by.
        ranks: the k of all rank-k, 1 among them.
        recall_at_k: whether rank-k is called Recall@K, as in image retrieval, and tables show R-precision and MAP@R in
            place of mAP and mINP.
        defaults: defaults for options of other items, by name.
        names: the sha256 of the published sorted name lists ("train", "query", "gallery", joined by "+" where only
            two together are published); data with other names are a stand-in.
        train: spec of the dataset whose training part is used, None for that of ``dataset``.
        faithful_to: the paper that uses these training images, views and pooling.
        faithful_options: options of the paper's recipe that are not the recipe's defaults.
        faithful_backbones: the networks that the paper uses with it, as specs with only the options that differ from
            their defaults; empty for all networks of the paper.
    """

    dataset: str
    version: int
    recipe: str
    views: str
    pool: Literal["auto", "mean", "max"] = "auto"
    exclude: tuple[str, ...] = MARKET_RULES
    primary: str = "map_market"
    ranks: tuple[int, ...] = RANKS
    recall_at_k: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    train: str | None = None
    faithful_to: str = ""
    faithful_options: Mapping[str, Any] = field(default_factory=dict)
    faithful_backbones: tuple[str, ...] = ()

    @property
    def datasets(self) -> dict[str, str]:
        """The specs of its datasets by the kinds of their items: "dataset", and "train" where that is another one."""
        return {kind: text for kind, text in (("dataset", self.dataset), ("train", self.train)) if text}

    @property
    def rank_scores(self) -> tuple[str, ...]:
        """The names of the scores of the ranks, such as "r5" or "recall_at_5"."""
        return tuple(f"{RECALL_AT_K if self.recall_at_k else RANK_K}{rank}" for rank in self.ranks)


def is_standin(protocol: Protocol, split: Split) -> bool:
    """Return whether a split says so itself, or a protocol publishes name lists and the split has other names."""
    parts = {"train": split.labelled, "query": split.query, "gallery": split.gallery}
    lists = {key: reduce(operator.add, (parts[name] for name in key.split("+"))) for key in protocol.names}
    return split.standin or any(lists[key].name_digest != digest for key, digest in protocol.names.items())


def verdict(protocol: Protocol, split: Split) -> str:
    """Return in words whether the split is the published dataset; only names, identities and cameras are compared."""
    if is_standin(protocol, split):
        return "a STAND-IN: not the published file names, so no score on it compares with a published one"
    if protocol.names:
        return "the real data: every published list of names matches"
    if {"train", "gallery"} <= split.expected.keys():  # not where one of two datasets is custom
        return "the real data by their folders and counts; no list of their names is published to compare with"
    return "a custom dataset (not a published benchmark)"
