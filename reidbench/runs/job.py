"""A job as text, and the same job with every option of every item resolved; no data are read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from reidbench.data.protocol import EXCLUSION_RULES, Protocol
from reidbench.errors import OptionError, PluginError, check_fields, checked
from reidbench.images.augment import VIEWS
from reidbench.plugins.catalogue import NO_DEFAULTS, Catalogue, ResolvedSpec, load
from reidbench.ranking.scores import scores_at
from reidbench.utils.machine import AUTO
from reidbench.utils.random_streams import check_seed

T = TypeVar("T")

DATASETS = ("dataset", "train")  # the kinds of items that the protocol names; the second where it is another dataset


@dataclass(frozen=True)
class Job:
    """One request: the text of each item, as given or by default, and the seed.

    ``protocol``: the data and the evaluation.
    ``loss``: the loss, a weighted sum of losses, or "none" for the untrained network.
    ``backbone``: the network.
    ``recipe``: the recipe, or "auto" for the protocol's.
    ``metric``: the distance at test time, or "auto" for the loss's own.
    ``rerank``: the re-ranker, or "none".
    ``seed``: the seed of the weights, the batches and the augmentation.
    """

    protocol: str
    loss: str
    backbone: str
    recipe: str
    metric: str
    rerank: str
    seed: int


@dataclass(frozen=True)
class EvaluationRecord:
    """How a run was evaluated, as resolved.

    ``version``: the protocol's version.
    ``views``: the views of each test image whose embeddings are averaged.
    ``pool``: how the embeddings of a unit's images are pooled.
    ``exclude``: the rules by which gallery items leave the ranking of a query.
    ``primary``: the score that rows are ranked by.
    ``metric_is_auto``: whether the metric is the loss's own.
    ``normalize``: whether embeddings were normalised to unit length.
    ``learned``: whether the metric was fitted to the training identities.
    """

    version: int
    views: str
    pool: Literal["mean", "max"]
    exclude: list[str]
    primary: str
    metric_is_auto: bool
    normalize: bool
    learned: bool


class Memo:
    """Results that several jobs share, each computed once."""

    def __init__(self) -> None:
        self._results: dict[Hashable, tuple[object, Any]] = {}

    def __call__(self, function: Callable[..., T], *arguments: object) -> T:
        """Return ``function(*arguments)``, computed at the first call; an exception is not stored.

        Specs are the same where their texts with all options are, texts and paths where they are equal, and all other
        arguments where they are one object.
        """
        key = function, *map(_identity, arguments)
        if key not in self._results:
            self._results[key] = arguments, function(*arguments)  # with its arguments, whose ids no other object gets
        result: T = self._results[key][1]
        return result


def _identity(argument: object) -> Hashable:
    if isinstance(argument, ResolvedSpec):
        return argument.kind, argument.text
    return argument if isinstance(argument, str | Path) else id(argument)


@dataclass(frozen=True)
class ResolvedJob:
    """A job with every option resolved and checked.

    ``job``: the request.
    ``items``: the resolved spec of each kind (protocol, dataset, loss, backbone, recipe, rerank); "metric" is missing
        where the loss chooses it, "train" where the protocol tests on the dataset that it trains on.
    ``protocol``: the built protocol.
    """

    job: Job
    items: Mapping[str, ResolvedSpec]
    protocol: Protocol


def resolve(job: Job, catalogue: Catalogue, memo: Memo | None = None) -> ResolvedJob:
    """Return a job with every option resolved; jobs with one ``memo`` resolve each text once.

    Raises OptionError with the mistakes of all items, one a line, and PluginError where a protocol cannot be built.
    """
    check_seed(job.seed)
    memo = memo or Memo()
    protocol: Protocol | None = None
    items: dict[str, ResolvedSpec] = {}
    mistakes: list[str] = []

    def add(name: str, kind: str, text: str) -> None:
        defaults = protocol.defaults if protocol else NO_DEFAULTS
        try:
            items[name] = memo(catalogue.resolve, kind, text, defaults)
        except OptionError as error:
            mistakes.append(str(error))

    add("protocol", "protocol", job.protocol)
    if "protocol" in items:
        protocol = memo(build_protocol, items["protocol"])
        for name, text in protocol.datasets.items():
            try:
                items[name] = memo(resolve_dataset, text, catalogue)
            except OptionError as error:
                mistakes.append(f"{items['protocol'].owner}: {error}")
    if job.recipe != AUTO or protocol is not None:
        add("recipe", "recipe", protocol.recipe if protocol and job.recipe == AUTO else job.recipe)
    add("loss", "loss", job.loss)
    add("backbone", "backbone", job.backbone)
    add("rerank", "reranker", job.rerank)
    if job.metric != AUTO:
        add("metric", "metric", job.metric)
    if mistakes or protocol is None:
        raise OptionError("\n".join(mistakes))
    return ResolvedJob(job, items, protocol)


def build_protocol(spec: ResolvedSpec) -> Protocol:
    """Return the protocol of a spec; raises PluginError where one of its values breaks the contract."""
    protocol = checked(spec.owner, spec.build(), Protocol)
    check_fields(spec.owner, protocol)
    ranks, scores = list(protocol.ranks), scores_at(protocol.rank_scores)
    parts = {part for key in protocol.names for part in key.split("+")}
    valid = {
        f"version must be a whole number from 1, got {protocol.version!r}": protocol.version >= 1,
        f"ranks must rise and begin with 1, got {ranks}": ranks == sorted({*ranks, 1}) and ranks[0] == 1,
        f"primary must be one of {', '.join(scores)}, got {protocol.primary!r}": protocol.primary in scores,
        f"exclude must be of {EXCLUSION_RULES}, got {protocol.exclude}": {*protocol.exclude} <= {*EXCLUSION_RULES},
        f"views must be one of {', '.join(VIEWS)}, got {protocol.views!r}": protocol.views in VIEWS,
        f"names must be of train, query and gallery, got {sorted(parts)}": parts <= {"train", "query", "gallery"},
    }
    if problems := [message for message, holds in valid.items() if not holds]:
        raise PluginError(f"{spec.owner}: {'; '.join(problems)}")
    return protocol


def resolve_dataset(text: str, catalogue: Catalogue) -> ResolvedSpec:
    """Return the resolved spec of a protocol's dataset; what it gives explicitly counts as the protocol's."""
    spec = catalogue.resolve("dataset", text)
    return replace(spec, origins={name: origin.replace("given", "protocol") for name, origin in spec.origins.items()})


def resolved_items(job: Job) -> tuple[dict[str, str], int]:
    """Return the text of each item of a job with every option resolved, and the protocol's version; no data are read.

    A metric that the loss chooses stays "auto". Raises OptionError and PluginError.
    """
    resolved = resolve(job, load())
    return {"metric": AUTO, **{kind: item.text for kind, item in resolved.items.items()}}, resolved.protocol.version
