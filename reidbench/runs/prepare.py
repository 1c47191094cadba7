"""What a job comes to before anything is computed: items resolved, data listed, ids, folders, what is done already."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from reidbench.data.protocol import Protocol, is_standin
from reidbench.data.split import Split
from reidbench.errors import DataError, OptionError, PluginError
from reidbench.images.augment import stored_size, view_crops
from reidbench.plugins.catalogue import Catalogue, ResolvedSpec, command_defaults, load
from reidbench.plugins.interfaces import BackboneInfo, Loss
from reidbench.plugins.spec import Item, Spec
from reidbench.runs.deviations import deviations
from reidbench.runs.ids import identity
from reidbench.runs.job import Job
from reidbench.runs.provenance import changed_files, code_digest, run_code, training_code
from reidbench.runs.record import RECORD, RunRecord, read_record
from reidbench.runs.store import Store
from reidbench.training.build import build_loss, build_recipe, build_split, checked, describe_backbone
from reidbench.training.checkpoint import latest_step, read_summary
from reidbench.training.recipe import Recipe
from reidbench.utils.machine import AUTO, Machine, local_machine
from reidbench.utils.random_streams import check_seed

TO_DO = "to do"


@dataclass(frozen=True)
class Plan:
    """One job with everything resolved.

    ``items`` has the kinds protocol, dataset, loss, backbone, recipe, metric and rerank; ``pool`` is resolved;
    ``metric_is_auto`` says that the metric is what "auto" comes to, asked for or not; ``standin`` says that the tree's
    names are not the published ones; ``deviations`` are what differs from the recipe's paper. ``id``, ``train_id`` and
    ``group`` are sha256 (hex) over resolved options and data digests.
    """

    job: Job
    items: dict[str, ResolvedSpec]
    protocol: Protocol
    split: Split
    recipe: Recipe
    info: BackboneInfo
    pool: Literal["mean", "max"]
    metric_is_auto: bool
    standin: bool
    deviations: tuple[str, ...]
    id: str
    train_id: str
    group: str
    code_files: dict[str, str]
    train_code: str
    training_folder: Path
    run_folder: Path
    earlier: tuple[RunRecord, ...]

    @property
    def trains(self) -> bool:
        """Whether there is a loss to train with; the reserved word none means the untrained network."""
        return bool(self.items["loss"].plugin_items)

    @cached_property
    def code(self) -> str:
        """The digest over all files that can change this run's numbers."""
        return code_digest(self.code_files)

    @property
    def faithful(self) -> bool:
        """Whether recipe, network and protocol are those of one paper, with nothing changed."""
        return bool(self.recipe.faithful_to) and not self.deviations

    def done(self) -> RunRecord | None:
        """Return the record of this very run with this very code, if it has ended well."""
        file = self.run_folder / RECORD
        try:
            record = read_record(file) if file.is_file() else None
        except DataError as error:
            raise DataError(f"{error}; delete it, and the same command scores again") from None
        ended = record is not None and record.scored and (record.id, record.code) == (self.id, self.code)
        return record if ended else None

    def state(self) -> str:
        """Return what is left to do, in words."""
        if self.done():
            return "done"
        if read_summary(self.training_folder):
            return "trained, to be scored"
        step = latest_step(self.training_folder)
        if step:
            return f"goes on at step {step}"
        return "again: code changed" if self.earlier else TO_DO

    def changed(self) -> list[str]:
        """Return the files that have changed since this run was last made by other code, if it was."""
        return changed_files(self.earlier[0].code_files, self.code_files) if self.earlier else []


class Planner:
    """Turns jobs into plans; a data set that several jobs share is listed once."""

    def __init__(self, catalogue: Catalogue, machine: Machine) -> None:
        self.catalogue = catalogue
        self.machine = machine
        self.store = Store(machine.results)
        self._splits: dict[str, Split] = {}

    def plan(self, job: Job) -> Plan:
        """Return the plan of a job; raises OptionError, PluginError or DataError where it cannot be run."""
        check_seed(job.seed)
        items, protocol = self.resolve(job)
        split = self._split(items["dataset"])
        if split.wrong_counts and not self.machine.allow_partial:
            raise DataError(
                f"data set {items['dataset'].text} below {split.train.root} is not whole: "
                f"{'; '.join(split.wrong_counts)}; unpack it again, or go on with --allow-partial, which is "
                "recorded"
            )
        info = describe_backbone(items["backbone"])
        recipe = build_recipe(items["recipe"], info)
        loss = build_loss(items["loss"], info, split, job.seed)
        if loss is not None:
            _check_batch(items["recipe"], recipe, split)
        own_metric = self.catalogue.resolve(
            "metric", (loss and loss.metric) or str(command_defaults()["auto_metric"]), protocol.defaults
        )
        items.setdefault("metric", own_metric)
        for kind in ("metric", "rerank"):
            items[kind].build()  # an option that does not fit is said now, not when the training is over
        pool: Literal["mean", "max"] = (loss or Loss).pool if protocol.pool == "auto" else protocol.pool
        self._check_images(protocol, pool, recipe, info)
        ids = identity(
            {kind: item.identity for kind, item in items.items()},
            seed=job.seed,
            train_digest=split.train.digest,
            digest=split.digest,
            version=protocol.version,
            views=protocol.views,
            pool=pool,
        )
        train_files, all_files = training_code(items), run_code(items)
        names = [names_of(items[kind]) for kind in ("protocol", "loss", "backbone", "recipe")]
        run_folder = self.store.run_folder(names[:3], job.seed, ids.id, code_digest(all_files))
        return Plan(
            job=job,
            items=items,
            protocol=protocol,
            split=split,
            recipe=recipe,
            info=info,
            pool=pool,
            metric_is_auto=items["metric"].identity == own_metric.identity,
            standin=is_standin(protocol, split),
            deviations=deviations(items, recipe, info, protocol),
            id=ids.id,
            train_id=ids.train_id,
            group=ids.group,
            code_files=all_files,
            train_code=code_digest(train_files),
            training_folder=self.store.training_folder(names[1:], job.seed, ids.train_id, code_digest(train_files)),
            run_folder=run_folder,
            earlier=tuple(self.store.earlier(run_folder)),
        )

    def _check_images(self, protocol: Protocol, pool: str, recipe: Recipe, info: BackboneInfo) -> None:
        """Refuse before the first step what would only be noticed after training."""
        view_crops(protocol.views, info.preprocess)
        stored_size(info.preprocess, recipe.crop)
        if pool not in ("mean", "max"):
            raise PluginError(f"the protocol or the loss asks for the pool {pool!r}; there are mean and max")

    def resolve(self, job: Job) -> tuple[dict[str, ResolvedSpec], Protocol]:
        """Return every item that needs nothing built, and the protocol; all mistakes are raised together."""
        items: dict[str, ResolvedSpec] = {}
        mistakes: list[str] = []

        def resolve(name: str, kind: str, text: str, defaults: Mapping[str, Any]) -> None:
            try:
                items[name] = self.catalogue.resolve(kind, text, defaults)
            except OptionError as error:
                mistakes.append(str(error))

        resolve("protocol", "protocol", job.protocol, {})
        protocol = checked(items["protocol"], items["protocol"].build(), Protocol) if "protocol" in items else None
        defaults = protocol.defaults if protocol else {}
        if protocol:
            resolve("dataset", "dataset", protocol.dataset, {})
            if "dataset" in items:  # its text is the protocol's, not the user's
                origins = {
                    name: origin.replace("given", "protocol") for name, origin in items["dataset"].origins.items()
                }
                items["dataset"] = replace(items["dataset"], origins=origins)
        if protocol or job.recipe != AUTO:
            resolve("recipe", "recipe", protocol.recipe if protocol and job.recipe == AUTO else job.recipe, defaults)
        resolve("loss", "loss", job.loss, defaults)
        resolve("backbone", "backbone", job.backbone, defaults)
        resolve("rerank", "reranker", job.rerank, defaults)
        if job.metric != AUTO:
            resolve("metric", "metric", job.metric, defaults)
        if mistakes or protocol is None:
            raise OptionError("\n".join(mistakes))
        return items, protocol

    def _split(self, dataset: ResolvedSpec) -> Split:
        # By text: two lists of one content may stand in two folders.
        if dataset.text not in self._splits:
            self._splits[dataset.text] = build_split(dataset, self.machine.data)
        return self._splits[dataset.text]

    def data(self, protocol: str) -> tuple[ResolvedSpec, Protocol, Split]:
        """Return a protocol, by its spec, and its data, whatever their counts; raises as ``plan``."""
        item = self.catalogue.resolve("protocol", protocol)
        built = checked(item, item.build(), Protocol)
        return item, built, self._split(self.catalogue.resolve("dataset", built.dataset))


def resolved_items(job: Job) -> tuple[dict[str, str], int]:
    """Return the text of each item of a job with every option resolved, and the protocol's version; no data are read.

    A metric that the loss chooses stays "auto". Raises OptionError and PluginError.
    """
    items, protocol = Planner(load(), local_machine()).resolve(job)
    return {"metric": AUTO, **{kind: item.text for kind, item in items.items()}}, protocol.version


def _check_batch(item: ResolvedSpec, recipe: Recipe, split: Split) -> None:
    """Refuse batches that the training set cannot fill."""
    identities, units = split.counts["train_identities"], len(split.train)
    if recipe.batches == "pk" and recipe.p > identities:
        asked = Spec.parse(item.given).item
        lower = Item(asked.name, tuple({**dict(asked.options), "p": identities}.items()))
        raise OptionError(
            f"recipe {item.short}: p={recipe.p} identities a batch, but the data set has {identities} to train on; "
            f"lower it, e.g. --recipe {shlex.quote(str(lower))}"
        )
    if recipe.batches == "shuffled" and recipe.p * recipe.k > units:
        raise OptionError(
            f"recipe {item.short}: p * k = {recipe.p * recipe.k} a batch, but the data set has {units} to train on; "
            "lower p or k"
        )


def names_of(item: ResolvedSpec) -> str:
    """Return an item's name, the names of a sum joined by "+", or "none"."""
    return "+".join(entry.name for entry in item.plugin_items) or "none"
