"""The hooks: eleven functions of one shape through which plugins provide items.

Each hook takes nothing, is called once when plugins are loaded, and returns ``{name: factory}``. A factory's positional
parameters are supplied by the runner; its keyword-only parameters are the item's options, each with a type and a
default. A name matches ``[A-Za-z][A-Za-z0-9_]*`` with at most one ``/``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("reidbench")
hookimpl = pluggy.HookimplMarker("reidbench")

Factories = Mapping[str, Callable[..., Any]]


@hookspec
def register_losses() -> Factories:  # type: ignore[empty-body]
    """Losses: ``(info: TrainInfo, *, options) -> Loss``; built once per training, before the first step."""


@hookspec
def register_backbones() -> Factories:  # type: ignore[empty-body]
    """Networks: ``(*, options) -> Backbone``; the constructor loads no weights, ``initialise`` does."""


@hookspec
def register_datasets() -> Factories:  # type: ignore[empty-body]
    """Datasets: ``(root: Path, *, options) -> Split``; reads file names and identities, never pixels."""


@hookspec
def register_synthesizers() -> Factories:  # type: ignore[empty-body]
    """Synthetic data: ``(directory: Path, *, options) -> Iterator[tuple[int, int]]``; yields (done, total) images."""


@hookspec
def register_protocols() -> Factories:  # type: ignore[empty-body]
    """Protocols: ``(*, options) -> Protocol``; the data and everything after the checkpoint, declared."""


@hookspec
def register_recipes() -> Factories:  # type: ignore[empty-body]
    """Recipes: ``(backbone: BackboneInfo, *, options) -> Recipe``; everything up to the checkpoint, declared."""


@hookspec
def register_metrics() -> Factories:  # type: ignore[empty-body]
    """Metrics: ``(*, options) -> Metric``; a distance, perhaps learned on the training embeddings."""


@hookspec
def register_rerankers() -> Factories:  # type: ignore[empty-body]
    """Re-rankers: ``(*, options) -> Reranker``; other distances for a ranking, over any metric."""


@hookspec
def register_sections() -> Factories:  # type: ignore[empty-body]
    """Report sections: ``(*, options) -> Section``; turns records into tables, figures and notes."""


@hookspec
def register_executors() -> Factories:  # type: ignore[empty-body]
    """Executors: ``(*, options) -> Executor``; runs the tasks of a plan in other processes or on other machines."""


@hookspec
def register_trackers() -> Factories:  # type: ignore[empty-body]
    """Trackers: ``(*, options) -> Tracker``; follows the steps of a training and its record, for another program."""
