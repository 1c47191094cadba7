"""Build what a training needs from resolved specs: the split, the network, the loss and the recipe."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reidbench.data.split import Split
from reidbench.errors import ReidbenchError, check_fields, checked, contract_error
from reidbench.plugins.interfaces import Backbone, BackboneInfo, Loss, TrainInfo
from reidbench.plugins.spec import EMBEDDING
from reidbench.training.recipe import Recipe
from reidbench.utils.random_streams import with_seed

if TYPE_CHECKING:
    from reidbench.plugins.catalogue import ResolvedSpec

POOLS = ("mean", "max")


def build_split(spec: ResolvedSpec, root: Path) -> Split:
    """Return the split of a dataset below ``root``."""
    split = checked(spec.owner, spec.build(root), Split)
    check_fields(spec.owner, split)
    if unknown := ", ".join(split.expected.keys() - split.counts.keys()):
        raise contract_error(spec.owner, "expected", f"counts of {', '.join(split.counts)}", unknown)
    if hidden := ", ".join(replace(split, further={}).counts.keys() & split.further):
        raise contract_error(spec.owner, "further", "counts of other names than those of every dataset", hidden)
    return split


def build_backbone(spec: ResolvedSpec, seed: int) -> Backbone:
    """Return the network with its weights sampled from ``seed``; pretrained weights are not loaded yet."""
    return checked(spec.owner, with_seed(spec.build, seed, "backbone"), Backbone)


def build_loss(
    spec: ResolvedSpec, info: BackboneInfo, split: Split, seed: int, network: Backbone | None = None
) -> Loss | None:
    """Return the loss with its heads sampled from ``seed``, or None for the untrained network.

    ``network`` is what it will train, None where it will not be trained.
    """
    if not spec.plugin_items:
        return None
    return check_loss(spec, with_seed(lambda: spec.build(train_info(info, split, network)), seed, "loss"))


def build_recipe(spec: ResolvedSpec, info: BackboneInfo) -> Recipe:
    """Return the recipe for a network."""
    recipe = checked(spec.owner, spec.build(info), Recipe)
    check_fields(spec.owner, recipe)
    return recipe


def describe_backbone(spec: ResolvedSpec) -> BackboneInfo:
    """Return the description of a network, which is built without memory for its weights."""
    backbone = checked(spec.owner, build_on_meta(spec), Backbone)
    values: dict[str, Any] = {each.name: getattr(backbone, each.name, None) for each in fields(BackboneInfo)}
    info = BackboneInfo(**values | {"parameters": sum(p.numel() for p in backbone.parameters())})
    check_fields(spec.owner, info)
    check_fields(spec.owner, info.preprocess)
    return info


def train_info(info: BackboneInfo, split: Split, network: Backbone | None = None) -> TrainInfo:
    """Return what a loss is told about the network and the training set; ``network`` as for ``build_loss``."""
    pair = (network.pair if network else euclidean_pairs) if info.pairs else None
    sizes = {EMBEDDING: info.embedding_dim, **info.feature_sizes}
    return TrainInfo(info.embedding_dim, split.counts["train_identities"], pair, sizes)


def euclidean_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Return the Euclidean distances [n] of rows [n, D], which try a loss of pairs without a network."""
    distances: Tensor = torch.linalg.vector_norm(a - b, dim=1)
    return distances


def build_on_meta(spec: ResolvedSpec, *supplied: Any) -> Any:
    """Return what a spec builds, with its tensors on torch's meta device: shapes without memory, for planning.

    A constructor that cannot run there, since it reads the values of its tensors, runs on the CPU instead. torch's
    random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return spec.build(*supplied)
        except ReidbenchError:  # of the constructor, or of its check of the options
            return spec.build(*supplied)


def check_loss(spec: ResolvedSpec, value: object) -> Loss:
    """Return a loss that a spec built; raises PluginError where it, its metric or its pool break the contract."""
    loss = checked(spec.owner, value, Loss)
    if loss.pool not in POOLS:
        raise contract_error(spec.owner, "pool", " or ".join(POOLS), loss.pool)
    if loss.metric is not None and not isinstance(loss.metric, str):
        raise contract_error(spec.owner, "metric", "the spec of a metric, or None", loss.metric)
    return loss
