"""From a job to everything that its run needs: split, network, recipe, metric, ids and folders; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from reidbench.data.positives_and_exclusions import Unmatched, contradictions, unmatched
from reidbench.data.protocol import Protocol, is_standin
from reidbench.data.split import Split, across
from reidbench.errors import DataError, OptionError, checked
from reidbench.images.augment import stored_size, view_crops
from reidbench.plugins.catalogue import Catalogue, ResolvedSpec, command_defaults
from reidbench.plugins.interfaces import BackboneInfo, Loss, Metric, PairMetric, Reranker, learns
from reidbench.plugins.options import files_below
from reidbench.ranking.checked_metric import CheckedMetric
from reidbench.runs.job import EvaluationRecord, Job, Memo, ResolvedJob, build_protocol, resolve, resolve_dataset
from reidbench.runs.provenance import code_digest, run_code, run_ids, training_code
from reidbench.runs.store import Store
from reidbench.training.build import build_on_meta, build_recipe, build_split, check_loss, describe_backbone, train_info
from reidbench.training.optimizer import parameter_groups
from reidbench.training.recipe import ROUNDING_ONLY, Recipe
from reidbench.utils.machine import Machine

T = TypeVar("T")

MAP_VIEWS = ("original", "center")  # of one crop: the mean of several maps is no map
# The kinds of items whose names are in the name of a folder.
TRAINING_NAMES, RUN_NAMES = ("loss", "backbone", "recipe"), ("protocol", "loss", "backbone")


@dataclass(frozen=True)
class Prepared(ResolvedJob):
    """A resolved job, its metric too, with everything that follows from its text, the data and the code.

    ``split``: the data.
    ``recipe``: the built recipe.
    ``info``: the description of the network.
    ``evaluation``: how the run is evaluated; the metric is "auto" where it is the loss's own, requested or not.
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

    split: Split
    recipe: Recipe
    info: BackboneInfo
    evaluation: EvaluationRecord
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

    def plan(self, job: Job) -> Prepared:
        """Return a job prepared to run.

        Raises as ``resolve``, DataError where the data are missing or have wrong counts, and OptionError or PluginError
        where an item cannot be built or the items do not fit together.
        """
        machine, memo = self.machine, self.memo
        with files_below(machine.data):
            resolved = resolve(job, self.catalogue, memo)
        protocol, items = resolved.protocol, dict(resolved.items)
        split = self._split(protocol, items)
        if split.wrong_counts and not machine.allow_partial:
            where, wrong = f"dataset {items['dataset'].text} in {split.train.root}", "; ".join(split.wrong_counts)
            advice = "unpack it again, or use it as it is with --allow-partial, which is recorded"
            raise DataError(f"{where} has wrong counts: {wrong}; {advice}")
        info = memo(describe_backbone, items["backbone"])
        recipe = memo(build_recipe, items["recipe"], info)
        loss = memo(_describe_loss, items["loss"], items["backbone"], info, split)
        if items["loss"].plugin_items:
            _check_unlabelled(items, loss, recipe, split.counts.get("unlabelled", 0))
            if recipe.frozen:
                parameter_groups(recipe, build_on_meta(items["backbone"]), loss)
        auto_metric = "auto_pair_metric" if info.pairs else "auto_metric"
        own_metric_text = loss.metric or str(memo(command_defaults)[auto_metric])
        own_metric = memo(self.catalogue.resolve, "metric", own_metric_text, protocol.defaults)
        items.setdefault("metric", own_metric)
        # A value that a factory refuses must not be found after the training.
        metric = memo(_build, items["metric"], Metric)
        CheckedMetric(metric)
        if items["rerank"].plugin_items:
            memo(_build, items["rerank"], Reranker)
        # Both raise where views and crops do not fit the network.
        view_crops(protocol.views, info.preprocess)
        stored_size(info.preprocess, recipe.crop)
        evaluation = EvaluationRecord(
            version=protocol.version,
            views=protocol.views,
            pool=loss.pool if protocol.pool == "auto" else protocol.pool,
            exclude=list(protocol.exclude),
            primary=protocol.primary,
            metric_is_auto=items["metric"].identity == own_metric.identity,
            normalize=metric.normalize,
            learned=learns(metric),
        )
        pairs = {"backbone": info.pairs, "loss": loss.trains_pairs, "metric": isinstance(metric, PairMetric)}
        _check_pairs(items, pairs, evaluation, split)
        identities = {kind: item.identity for kind, item in items.items()}
        ids = run_ids(identities, job.seed, split.train.digest, split.digest, evaluation)
        code_files = run_code(items)
        code, train_code = code_digest(code_files), code_digest(training_code(items))
        store = Store(machine.results)
        names = {kind: "+".join(each.name for each in item.plugin_items) or "none" for kind, item in items.items()}
        names |= {kind: f"{names[kind]}.{item.label}" for kind, item in items.items() if item.label}
        trained, scored = ([names[kind] for kind in kinds] for kinds in (TRAINING_NAMES, RUN_NAMES))
        return Prepared(
            job=job,
            items=items,
            protocol=protocol,
            split=split,
            recipe=recipe,
            info=info,
            evaluation=evaluation,
            standin=memo(is_standin, protocol, split),
            unmatched=memo(unmatched, protocol, split),
            contradictions=memo(contradictions, protocol, split),
            deviations=deviations(items, recipe, info, protocol),
            **ids,
            code_files=code_files,
            code=code,
            training_folder=store.folder_of("trainings", trained, job.seed, ids["train_id"], train_code),
            run_folder=store.folder_of("runs", scored, job.seed, ids["id"], code),
        )

    def data(self, protocol: str) -> tuple[ResolvedSpec, Protocol, Split]:
        """Return a protocol, by its spec, and its data with whatever counts they have; raises as ``plan``."""
        with files_below(self.machine.data):
            spec = self.catalogue.resolve("protocol", protocol)
            built = build_protocol(spec)
            items = {kind: resolve_dataset(text, self.catalogue) for kind, text in built.datasets.items()}
            return spec, built, self._split(built, items)

    def _split(self, protocol: Protocol, items: Mapping[str, ResolvedSpec]) -> Split:
        # By text and not by content: two lists with one content may be in two folders.
        specs = (items[kind] for kind in protocol.datasets)
        return self.memo(across, *(self.memo(build_split, spec, self.machine.data) for spec in specs))


def _describe_loss(spec: ResolvedSpec, backbone: ResolvedSpec, info: BackboneInfo, split: Split) -> Loss:
    """Return a loss that has the metric and the pool of the spec's loss, or the defaults where there is none."""
    if spec.plugin_items and not info.trainable:
        raise OptionError(f"loss {spec.short}: {backbone.owner} learns nothing that it could train; use --loss none")
    if not spec.plugin_items:
        return Loss()
    return check_loss(spec, build_on_meta(spec, replace(train_info(info, split), network=backbone.owner)))


def _check_unlabelled(items: Mapping[str, ResolvedSpec], loss: Loss, recipe: Recipe, count: int) -> None:
    """Raise OptionError where the loss refuses the ``count`` units without identity, or no batch would have them."""
    advice = f"images without identity, of which the training set has {count:,}; use another, or leave these images out"
    if count and not loss.unlabelled:
        raise OptionError(f"loss {items['loss'].short}: cannot learn from {advice}")
    if count and recipe.batches == "pk" and not loss.samples_batches:
        raise OptionError(f"recipe {items['recipe'].short}: its batches of P identities have no {advice}")


def _check_pairs(
    job: Mapping[str, ResolvedSpec], pairs: Mapping[str, bool], evaluation: EvaluationRecord, split: Split
) -> None:
    """Raise OptionError where items do not suit a network that compares pairs of images, or one that does not.

    ``pairs``: whether backbone, loss and metric are for pairs of images.
    """
    own, other = ("pairs of images", "embeddings")[:: 1 if pairs["backbone"] else -1]
    differing = [kind for kind in ("loss", "metric") if job[kind].terms and pairs[kind] != pairs["backbone"]]
    wrong = [f"{kind} {job[kind].short} is for {other}" for kind in differing]
    if pairs["backbone"]:
        views, gallery = evaluation.views, split.gallery
        reasons = {
            f"views={views} would average its maps; use original or center": views not in MAP_VIEWS,
            "several images of a query have the mean of their distances; use pool=mean": evaluation.pool != "mean",
            "the gallery has units of several images": len(gallery.images) > len(gallery),
            f"{job['rerank'].short} needs distances between all units": bool(job["rerank"].terms),
        }
        wrong += [reason for reason, holds in reasons.items() if holds]
    if wrong:
        raise OptionError("\n".join(f"{job['backbone'].owner} is for {own}: {reason}" for reason in wrong))


def _build(spec: ResolvedSpec, kind: type[T]) -> T:
    return checked(spec.owner, spec.build(), kind)


def deviations(
    items: Mapping[str, ResolvedSpec], recipe: Recipe, info: BackboneInfo, protocol: Protocol
) -> tuple[str, ...]:
    """Return the items that differ, each as "kind spec" with only the changed options.

    Every changed option of the recipe counts, except those that only change rounding and those that a protocol of the
    same paper sets. Where the recipe is a paper's, the network with its preprocessing and the protocol with its views
    and pool must be that paper's too, and the network one that the paper uses with that protocol.
    """
    paper, spec = recipe.faithful_to, items["recipe"]
    same_paper = bool(paper) and protocol.faithful_to == paper
    values = spec.terms[0].values
    settings = {**protocol.defaults, **protocol.faithful_options} if same_paper else {}
    expected = {name: value for name, value in settings.items() if name in values}
    violated = [name for name in expected if values[name] != expected[name]]
    ignored = {*ROUNDING_ONLY, *(name for name in expected if name not in violated)}
    differences = []
    if any(name not in ignored for name in (*spec.terms[0].changed, *violated)):
        in_paper = " and ".join(f"{name}={str(expected[name]).lower()}" for name in violated)
        differences.append(f"recipe {spec.short}" + f", where the protocol's paper has {in_paper}" * bool(violated))
    backbone, backbones = items["backbone"].short, protocol.faithful_backbones if same_paper else ()
    if paper and (info.faithful_to != paper or (backbones and backbone not in backbones)):
        differences.append(f"backbone {backbone}")
    if paper and not same_paper:
        differences.append(f"protocol {items['protocol'].short}")
    return tuple(differences)
