"""From a job to everything that its run needs: split, network, recipe, metric, ids and folders; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reidbench.data.positives_and_exclusions import Unmatched, contradictions, unmatched
from reidbench.data.protocol import Protocol, is_standin
from reidbench.data.split import Split
from reidbench.errors import DataError, OptionError, checked
from reidbench.images.augment import stored_size, view_crops
from reidbench.plugins.catalogue import Catalogue, ResolvedSpec, command_defaults
from reidbench.plugins.interfaces import BackboneInfo, CheckedMetric, Loss, Metric, Reranker
from reidbench.plugins.options import files_below
from reidbench.runs.deviations import deviations
from reidbench.runs.job import Job, Memo, ResolvedJob, build_protocol, resolve, resolve_dataset
from reidbench.runs.provenance import code_digest, run_code, run_ids, training_code
from reidbench.runs.store import Store
from reidbench.training.build import (
    build_on_meta,
    build_recipe,
    build_split,
    check_loss,
    describe_backbone,
    train_info,
)
from reidbench.training.recipe import Recipe
from reidbench.utils.machine import Machine


@dataclass(frozen=True)
class Prepared:
    """One job with everything that follows from its text, the data and the code.

    ``job``: the request.
    ``items``: the resolved specs of protocol, dataset, loss, backbone, recipe, metric and rerank.
    ``protocol``: the built protocol.
    ``split``: the data.
    ``recipe``: the built recipe.
    ``info``: the description of the network.
    ``pool``: how the embeddings of a unit's images are pooled.
    ``metric_is_auto``: whether the metric is the one that "auto" stands for, requested or not.
    ``standin``: whether the names of the data differ from the published ones.
    ``unmatched``: the queries without a positive.
    ``contradictions``: images and identities that the parts of the data should not share, by kind.
    ``deviations``: what differs from the recipe's paper.
    ``id``, ``train_id``, ``group``: ids of the run, its training and the combination without the seed, 64 hex digits.
    ``code_files``: the digest of each source file that can change the scores, by name.
    ``code``: the digest of ``code_files``.
    ``training_folder``: the folder of the training.
    ``run_folder``: the folder of the run.
    """

    job: Job
    items: Mapping[str, ResolvedSpec]
    protocol: Protocol
    split: Split
    recipe: Recipe
    info: BackboneInfo
    pool: Literal["mean", "max"]
    metric_is_auto: bool
    standin: bool
    unmatched: Unmatched
    contradictions: Mapping[str, Sequence[str]]
    deviations: tuple[str, ...]
    id: str
    train_id: str
    group: str
    code_files: Mapping[str, str]
    code: str
    training_folder: Path
    run_folder: Path

    @property
    def trains(self) -> bool:
        """Whether there is a loss; without one the untrained network is scored."""
        return bool(self.items["loss"].plugin_items)

    @property
    def faithful(self) -> bool:
        """Whether recipe, network and protocol are those of one paper, with nothing changed."""
        return bool(self.recipe.faithful_to) and not self.deviations


class Planner:
    """Resolve and prepare jobs on one machine; what several jobs share is computed once."""

    def __init__(self, catalogue: Catalogue, machine: Machine, memo: Memo | None = None) -> None:
        self.catalogue = catalogue
        self.machine = machine
        self.memo = memo or Memo()

    def resolve(self, job: Job) -> ResolvedJob:
        """Return a job with every option resolved; raises as ``job.resolve``."""
        with files_below(self.machine.data):
            return resolve(job, self.catalogue, self.memo)

    def plan(self, job: Job) -> Prepared:
        """Return a job prepared to run; raises as ``resolve`` and ``prepare``."""
        return prepare(self.resolve(job), self.machine, self.memo)

    def data(self, protocol: str) -> tuple[ResolvedSpec, Protocol, Split]:
        """Return a protocol, by its spec, and its data with whatever counts they have; raises as ``prepare``."""
        with files_below(self.machine.data):
            spec = self.catalogue.resolve("protocol", protocol)
            built = build_protocol(spec)
            return spec, built, _split(resolve_dataset(built.dataset, self.catalogue), self.machine, self.memo)


def prepare(resolved: ResolvedJob, machine: Machine, memo: Memo | None = None) -> Prepared:
    """Return a job prepared to run; jobs with one ``memo`` list each dataset and describe each network once.

    Raises DataError where the data are missing or have wrong counts, OptionError or PluginError where an item cannot be
    built or the items do not fit together.
    """
    memo = memo or Memo()
    job, protocol, items = resolved.job, resolved.protocol, dict(resolved.items)
    texts = {kind: item.text for kind, item in items.items()}
    split = _split(items["dataset"], machine, memo)
    _check_counts(items["dataset"], split, machine)
    info = memo.get(("info", texts["backbone"]), lambda: describe_backbone(items["backbone"]))
    recipe = memo.get(("built recipe", texts["recipe"], texts["backbone"]), lambda: build_recipe(items["recipe"], info))
    loss = memo.get(
        ("built loss", texts["loss"], texts["backbone"], texts["dataset"]),
        lambda: _describe_loss(items["loss"], items["backbone"], info, split),
    )
    own_metric_text = loss.metric or str(memo.get("defaults", command_defaults)["auto_metric"])
    own_metric = memo.get(
        ("metric", own_metric_text, job.protocol),
        lambda: resolved.catalogue.resolve("metric", own_metric_text, protocol.defaults),
    )
    items.setdefault("metric", own_metric)
    # A value that a factory refuses must not be found after the training.
    memo.get(("built", "metric", items["metric"].text), lambda: _check_metric(items["metric"]))
    memo.get(("built", "rerank", items["rerank"].text), lambda: _check_reranker(items["rerank"]))
    pool = loss.pool if protocol.pool == "auto" else protocol.pool
    view_crops(protocol.views, info.preprocess)  # raises where the views, and below the crops, do not fit the network
    stored_size(info.preprocess, recipe.crop)
    ids = run_ids(
        {kind: item.identity for kind, item in items.items()},
        seed=job.seed,
        train_digest=split.train.digest,
        digest=split.digest,
        version=protocol.version,
        views=protocol.views,
        pool=pool,
    )
    offers = tuple((kind, str(offer)) for kind, item in items.items() for offer in item.plugin_items)
    code_files, code, train_code = memo.get(("code", offers), lambda: _digests(items))
    names = {kind: item_names(item) for kind, item in items.items()}
    store = Store(machine.results)
    return Prepared(
        job=job,
        items=items,
        protocol=protocol,
        split=split,
        recipe=recipe,
        info=info,
        pool=pool,
        metric_is_auto=items["metric"].identity == own_metric.identity,
        standin=memo.get(("standin", texts["protocol"]), lambda: is_standin(protocol, split)),
        unmatched=memo.get(("unmatched", texts["protocol"]), lambda: unmatched(protocol, split)),
        contradictions=memo.get(("contradictions", texts["protocol"]), lambda: contradictions(protocol, split)),
        deviations=deviations(items, recipe, info, protocol),
        id=ids.id,
        train_id=ids.train_id,
        group=ids.group,
        code_files=code_files,
        code=code,
        training_folder=store.training_folder(
            [names["loss"], names["backbone"], names["recipe"]], job.seed, ids.train_id, train_code
        ),
        run_folder=store.run_folder([names["protocol"], names["loss"], names["backbone"]], job.seed, ids.id, code),
    )


def _digests(items: Mapping[str, ResolvedSpec]) -> tuple[dict[str, str], str, str]:
    """Return the digests of the files that make the scores, the digest of these, and that of the training's files."""
    files = run_code(items)
    return files, code_digest(files), code_digest(training_code(items))


def item_names(spec: ResolvedSpec) -> str:
    """Return the name of an item, the names of a sum joined by "+", or "none"."""
    return "+".join(item.name for item in spec.plugin_items) or "none"


def _split(spec: ResolvedSpec, machine: Machine, memo: Memo) -> Split:
    # By text and not by content: two lists with one content may be in two folders.
    return memo.get(("split", spec.text), lambda: build_split(spec, machine.data))


def _check_counts(spec: ResolvedSpec, split: Split, machine: Machine) -> None:
    if split.wrong_counts and not machine.allow_partial:
        raise DataError(
            f"dataset {spec.text} in {split.train.root} has wrong counts: {'; '.join(split.wrong_counts)}; unpack it "
            "again, or use it as it is with --allow-partial, which is recorded"
        )


def _describe_loss(spec: ResolvedSpec, backbone: ResolvedSpec, info: BackboneInfo, split: Split) -> Loss:
    """Return a loss that has the metric and the pool of the spec's loss, or the defaults where there is none."""
    if spec.plugin_items and not info.trainable:
        raise OptionError(f"loss {spec.short}: {backbone.owner} learns nothing that it could train; use --loss none")
    return check_loss(spec, build_on_meta(spec, train_info(info, split))) if spec.plugin_items else Loss()


def _check_metric(spec: ResolvedSpec) -> None:
    CheckedMetric(checked(spec.owner, spec.build(), Metric))


def _check_reranker(spec: ResolvedSpec) -> None:
    if spec.plugin_items:
        checked(spec.owner, spec.build(), Reranker)
