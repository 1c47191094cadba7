"""The losses of pytorch-metric-learning as ``pml/NAME``, with its miners, distances and reducers as options."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, Signature
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reidbench import Loss, LossValue, OptionError, TrainInfo, TrainingError, choose, hookimpl
from reidbench_losses.pml_sources import (
    DISTRIBUTION,
    PACKAGE,
    Arguments,
    Opaque,
    Shadow,
    arguments,
    calls,
    entries,
    library,
    made_by,
    reads,
    unfinished,
)

BASE = "BaseMetricLossFunction"
# What the runner knows, under the names by which the library's constructors ask for it.
KNOWN: Mapping[str, Callable[[TrainInfo], int]] = {
    "num_classes": lambda info: info.num_pids,
    "embedding_size": lambda info: info.embedding_dim,
    "descriptors_dim": lambda info: info.embedding_dim,
}
# What the sources do not tell by themselves; tests/plugins/test_pml.py shows that each is still so.
REFUSED = {
    "CrossBatchMemory": "it is made of another loss, and where its queue of earlier batches stands is no part of its "
    "state, so a training that was interrupted would end elsewhere",
    "InstanceLoss": "it takes the number of an identity for a place in the batch, so most images are drawn to an image "
    "of somebody else: embeddings that rank perfectly have a large loss",
    "SmoothAPLoss": "it cuts the batch into groups by position and takes K for the number of identities, so it is "
    "wrong unless P = K: embeddings that rank perfectly do not reach 0",
    "EmbeddingsAlreadyPackagedAsTriplets": "it reads anchors, positives and negatives by position, which no batch here "
    "has",
}


class PmlLoss(Loss):
    """A loss of pytorch-metric-learning with its miner; ``reducer`` turns its terms into the number to minimise.

    Takes embeddings [B, D] and labels [B]; computes in float32, or in float64 where the embeddings are.
    """

    def __init__(self, name: str, criterion: nn.Module, reducer: nn.Module, miner: nn.Module | None) -> None:
        super().__init__()
        self.name = name
        self.criterion = criterion
        self.reducer = reducer
        self.miner = miner
        # What the library keeps in plain attributes, such as a running histogram, must follow the device and be saved.
        for part in self.modules():
            for attribute, value in list(vars(part).items()):
                if isinstance(value, Tensor):
                    delattr(part, attribute)
                    part.register_buffer(attribute, value)

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the loss of a batch and, where it has any, the terms that it is reduced from.

        Raises TrainingError, with the library's own reason, where it cannot take the batch.
        """
        rows = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        try:
            # Under autocast the library would keep to half precision.
            with torch.autocast(rows.device.type, enabled=False), _without_deprecations():
                mined = None if self.miner is None else self.miner(rows, labels)
                parts = self.criterion(rows, labels, mined)
                total = self.reducer(parts, rows, labels)
        except Exception as error:
            raise TrainingError(
                f"{self.name}: {DISTRIBUTION} cannot take this batch of {len(labels)} images of "
                f"{len(labels.unique())} identities: {type(error).__name__}: {error}"
            ) from error
        for part in self.criterion.modules():  # a state that remembers how it came about can be differentiated once
            for name, state in part.named_buffers(recurse=False):
                setattr(part, name, state.detach())
        terms = {name: part["losses"] for name, part in parts.items() if part["reduction_type"] != "already_reduced"}
        return LossValue(
            total=total.reshape(()),
            per_item={name: term.reshape(-1) for name, term in terms.items() if isinstance(term, Tensor)},
        )


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Keep what the library's authors should hear about its own code from whoever trains with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # HistogramLoss indexes by lists; a test holds it to its definition, should torch begin to read them otherwise.
        warnings.filterwarnings("ignore", "Using a non-tuple sequence", UserWarning)
        yield


def unbridged() -> dict[str, str]:
    """Return the exported losses and miners that have no item here, each with its reason."""
    found = {name: _why_not(name) for name in library().exported["losses"]}
    found |= {name: REFUSED.get(name, "") for name in library().concrete("miners", "BaseMiner")}
    return {name: reason for name, reason in found.items() if reason}


def _why_not(name: str) -> str:
    """Return why a loss cannot train from embeddings and labels, or an empty text where it can."""
    shadow = library().classes[name]
    if name in REFUSED:
        return REFUSED[name]
    if missing := unfinished(shadow):
        return f"a base class: it has no {missing[0]}"
    if not issubclass(shadow, library().classes[BASE]):
        if hasattr(shadow, "forward"):
            return "it is made of other losses, which no option can write; a sum is a + 0.5*b"
        return "a part of other losses, no loss by itself"
    return "it takes no labels" if calls(shadow, "labels_not_supported") else ""


def _type(parameter: Parameter) -> Any:
    """Return the type of an option: as annotated, else any number or text that could stand in for the default."""
    plain = {"int": int, "float": float}.get(parameter.annotation)
    if isinstance(parameter.default, bool):
        return bool
    if isinstance(parameter.default, str):
        return int | str  # such as triplets_per_anchor, "all" or how many
    if parameter.default in (None, Parameter.empty):
        return plain | None if plain else int | float | tuple[float, ...] | None
    return plain or int | float


def _options(shadow: Shadow, stop: str) -> dict[str, Parameter]:
    """Return the options of a constructor's own; one without a default gets none, which the constructor refuses."""
    options = {}
    for name, parameter in arguments(shadow, stop).free.items():
        if name in KNOWN and parameter.default is None:
            options[name] = parameter.replace(annotation=Literal["train"] | None)
        elif name not in KNOWN and parameter.default is not Opaque:
            default = None if parameter.default is Parameter.empty else parameter.default
            options[name] = parameter.replace(default=default, annotation=_type(parameter))
    return options


@functools.cache
def _distances() -> dict[str, Arguments]:
    found = library().concrete("distances", "BaseDistance")
    return {name: arguments(library().classes[name], "ModuleWithRecords") for name in found}


def _distance_options(shadow: Shadow) -> dict[str, Parameter]:
    """Return the options that choose the distance, with what the loss takes by default written out."""
    if not reads(shadow, "distance"):
        return {}
    name, given = made_by(shadow, "get_default_distance")
    taken = _distances()[name]
    general = arguments(library().classes["BaseDistance"], "ModuleWithRecords").free
    options = {"distance": _option("distance", Literal[tuple(_distances())], name)}
    for argument, parameter in general.items():
        if argument != "is_inverted":  # whether larger is closer belongs to the class
            default = (taken.fixed | given).get(argument, parameter.default)
            options[argument] = _option(argument, _type(parameter), default)
    return options


def _reducers() -> list[str]:
    """Return the reducers whose constructors take nothing of their own."""
    found = library().concrete("reducers", "BaseReducer")
    return [name for name in found if not _own(library().classes[name])]


def _own(shadow: Shadow) -> bool:
    init = vars(shadow).get("__init__")
    return init is not None and len(init.args.args) > 1


def _option(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _make(folder: str, name: str, values: Mapping[str, Any]) -> Any:
    """Return an object of the library; raises OptionError with the library's reason where it refuses the values."""
    try:
        with _without_deprecations():
            return getattr(importlib.import_module(f"{PACKAGE}.{folder}"), name)(**values)
    except Exception as error:  # all that it can object to are options
        given = ", ".join(f"{key}={value}" for key, value in values.items() if isinstance(value, str | int | float))
        raise OptionError(f"{DISTRIBUTION} refuses {name}({given}): {str(error) or type(error).__name__}") from error


def _make_distance(name: str, values: Mapping[str, Any]) -> Any:
    taken = _distances()[name]
    for argument, value in values.items():
        if taken.fixed.get(argument, value) != value:
            raise OptionError(f"distance {name} has {argument}={taken.fixed[argument]}, got {value}")
    return _make("distances", name, {key: value for key, value in values.items() if key in taken.free})


def _miner(name: str) -> Callable[..., Any]:
    """Return the factory of a miner, which measures with the distance of the loss that it mines for."""
    options = _options(library().classes[name], "BaseMiner")

    def build(distance: Any, **values: Any) -> Any:
        return _make("miners", name, {"distance": distance} | values)

    return _signed(build, "distance", options)


def _signed(build: Callable[..., Any], known: str, options: Mapping[str, Parameter]) -> Callable[..., Any]:
    build.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(known, Parameter.POSITIONAL_OR_KEYWORD), *options.values()]
    )
    return build


@functools.cache
def miners() -> dict[str, Callable[..., Any]]:
    """Return a factory for each miner, told the distance, its own options keyword-only."""
    return {name: _miner(name) for name in library().concrete("miners", "BaseMiner") if name not in REFUSED}


class Declaration:
    """The options of one loss: its own, and those that choose distance, reducer and miner, where it uses them."""

    def __init__(self, name: str) -> None:
        shadow = library().classes[name]
        self.name = name
        self.needs = [argument for argument, p in arguments(shadow, BASE).free.items() if argument in KNOWN]
        self.own = _options(shadow, BASE)
        self.required = [
            argument
            for argument, parameter in arguments(shadow, BASE).free.items()
            if parameter.default is Parameter.empty and argument not in KNOWN
        ]
        self.distance = _distance_options(shadow)
        self.reducer: dict[str, Parameter] = {}
        if entries(shadow, "reduction_type") != {"already_reduced"}:
            default = made_by(shadow, "get_default_reducer")[0]
            self.reducer = {"reducer": _option("reducer", Literal[tuple(_reducers())], default)}
        self.miner: dict[str, Parameter] = {}
        if not calls(shadow, "indices_tuple_not_supported"):
            self.miner = {"miner": _option("miner", str | None, None)}

    @property
    def options(self) -> dict[str, Parameter]:
        """All options in the order in which a spec writes them."""
        return self.own | self.distance | self.miner | self.reducer

    def docstring(self) -> str:
        """Return the docstring of the item, with a line an option."""
        lines = {name: f"The library's own option {name} of {self.name}." for name in self.own}
        lines |= {name: f"The library's own option {name}; it has no default: give it." for name in self.required}
        shared = {
            "distance": "The library's distance or similarity, for the loss and its miner.",
            "normalize_embeddings": "Whether the distance scales each embedding to unit length first.",
            "p": "The norm, of differences and of the scaling to unit length.",
            "power": "The power that the distance is raised to; 2 for squared Euclidean distances.",
            "miner": f"none, or a miner with its options in parentheses: {', '.join(miners())}.",
            "reducer": "How the terms become one number; AvgNonZeroReducer is the mean of those above 0.",
        }
        shown = "\n".join(f"    {name}: {(lines | shared).get(name, name)}" for name in self.options)
        summary = f"{self.name} of {DISTRIBUTION} {library().version}, computed by that library."
        return f"{summary}\n\nOptions:\n{shown}\n" if shown else summary

    def build(self, info: TrainInfo, **values: Any) -> PmlLoss:
        """Return the loss. Raises OptionError where the library refuses an option, or one lacks that must be given."""
        if missing := [name for name in self.required if values[name] is None]:
            raise OptionError(
                f"pml/{self.name}: {DISTRIBUTION} has no default for {' and '.join(missing)}; give a value"
            )
        given = {name: values[name] for name in self.own if values[name] != "train"}
        given |= {name: KNOWN[name](info) for name in self.needs if values.get(name, "train") == "train"}
        distance = None
        if self.distance:
            chosen = {name: values[name] for name in self.distance if name != "distance"}
            distance = given["distance"] = _make_distance(values["distance"], chosen)
        if self.reducer:
            given["reducer"] = _make("reducers", values["reducer"], {})
        criterion = _make("losses", self.name, given)
        reducer, criterion.reducer = criterion.reducer, _make("reducers", "DoNothingReducer", {})
        miner = None
        if values.get("miner") is not None:
            miner = choose(values["miner"], miners(), "miner", distance or criterion.distance)
        return PmlLoss(f"pml/{self.name}", criterion, reducer, miner)


@functools.cache
def declarations() -> dict[str, Declaration]:
    """Return what every loss that can train from embeddings and labels takes, by name."""
    return {name: Declaration(name) for name in library().exported["losses"] if not _why_not(name)}


@hookimpl
def register_losses() -> dict[str, Callable[..., Loss]]:
    """Offer every loss of the installed library that can train from embeddings and labels."""
    factories: dict[str, Callable[..., Loss]] = {}
    for name, declaration in declarations().items():

        def build(info: TrainInfo, declaration: Declaration = declaration, **values: Any) -> Loss:
            return declaration.build(info, **values)

        build.__doc__ = declaration.docstring()
        factories[f"pml/{name}"] = _signed(build, "info", declaration.options)
    return factories
