"""Build what a training needs from resolved specs: the split, the network, the loss and the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from reidbench.data.split import Split
from reidbench.errors import PluginError, ReidbenchError
from reidbench.plugins.interfaces import Backbone, BackboneInfo, Loss, TrainInfo
from reidbench.training.recipe import Recipe
from reidbench.utils.random_streams import with_seed

if TYPE_CHECKING:
    from reidbench.plugins.catalogue import ResolvedSpec

T = TypeVar("T")


def build_split(spec: ResolvedSpec, root: Path) -> Split:
    """Return the split of a dataset below ``root``."""
    return checked(spec, spec.build(root), Split)


def build_backbone(spec: ResolvedSpec, seed: int) -> Backbone:
    """Return the network with its weights sampled from ``seed``; pretrained weights are not loaded yet."""
    return checked(spec, with_seed(spec.build, seed, "backbone"), Backbone)


def build_loss(spec: ResolvedSpec, info: BackboneInfo, split: Split, seed: int) -> Loss | None:
    """Return the loss with its heads sampled from ``seed``, or None for the untrained network."""
    if not spec.plugin_items:
        return None
    return checked(spec, with_seed(lambda: spec.build(train_info(info, split)), seed, "loss"), Loss)


def build_recipe(spec: ResolvedSpec, info: BackboneInfo) -> Recipe:
    """Return the recipe for a network."""
    return checked(spec, spec.build(info), Recipe)


def describe_backbone(spec: ResolvedSpec) -> BackboneInfo:
    """Return the description of a network, which is built without memory for its weights."""
    backbone = checked(spec, build_on_meta(spec), Backbone)
    return BackboneInfo(
        embedding_dim=backbone.embedding_dim,
        preprocess=backbone.preprocess,
        pretrained=backbone.pretrained,
        parameters=sum(p.numel() for p in backbone.parameters()),
        batch=backbone.batch,
        faithful_to=backbone.faithful_to,
    )


def train_info(info: BackboneInfo, split: Split) -> TrainInfo:
    """Return what a loss is told about the network and the training set."""
    return TrainInfo(embedding_dim=info.embedding_dim, num_pids=split.counts["train_identities"])


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


def checked(spec: ResolvedSpec, value: object, kind: type[T]) -> T:
    """Return ``value``, which the factory of a spec returned; raises PluginError where it is no ``kind``."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise PluginError(
            f"{spec.kind} {spec.text}: its factory returned {type(value).__name__}, expected {article} {kind.__name__}"
        )
    return value
