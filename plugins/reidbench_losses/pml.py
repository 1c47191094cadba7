"""The losses of pytorch-metric-learning as ``pml/NAME``, with its miners, distances and reducers as options.

Importing that library takes seconds, and every command lists the plugins. So the options are read from
``pml_signatures.json``, and the library is imported when a loss is built. ``python -m reidbench_losses.pml_signatures``
rewrites the table for the installed version; tests/plugins/test_pml.py compares the two.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from reidbench import Loss, LossValue, OptionError, PluginError, TrainInfo, TrainingError, choose, hookimpl
from reidbench_losses.pml_ranges import RANGES

PACKAGE = "pytorch_metric_learning"
DISTRIBUTION = "pytorch-metric-learning"
TABLE = Path(__file__).with_name("pml_signatures.json")

TYPES: Mapping[str, Any] = {
    "true or false": bool,
    "number": int | float,
    "whole number or text": int | str,  # such as triplets_per_anchor: "all", or how many
    "whole number or none": int | None,
    "float or none": float | None,
    "numbers or none": int | float | tuple[float, ...] | None,
    "train or none": Literal["train"] | None,
}
# The sizes that the runner knows, by the names of the library's constructor arguments.
SIZES: Mapping[str, Callable[[TrainInfo], int]] = {
    "num_classes": lambda info: info.num_pids,
    "embedding_size": lambda info: info.embedding_dim,
    "descriptors_dim": lambda info: info.embedding_dim,
}


@functools.cache
def signatures() -> dict[str, Any]:
    """Return the table: {option: [type, default]} of every loss and miner, or [type] where there is no default.

    Of a loss also the sizes that it needs, its default distance and reducer (null where it uses none), and whether it
    takes a miner; of a distance the options that it fixes; the reducers that take no arguments.
    """
    table: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


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
        # The library keeps some tensors, such as a running histogram, in plain attributes; as buffers they follow the
        # device and are saved.
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
            # Under autocast the library would compute in half precision.
            with torch.autocast(rows.device.type, enabled=False), _without_deprecations():
                mined = None if self.miner is None else self.miner(rows, labels)
                parts = self.criterion(rows, labels, mined)
                total = self.reducer(parts, rows, labels)
        except Exception as error:
            raise TrainingError(
                f"{self.name}: {DISTRIBUTION} cannot take this batch of {len(labels)} images of "
                f"{len(labels.unique())} identities: {type(error).__name__}: {error}"
            ) from error
        for part in self.criterion.modules():  # a buffer with a graph could be differentiated only once
            for name, state in part.named_buffers(recurse=False):
                setattr(part, name, state.detach())
        terms = {name: part["losses"] for name, part in parts.items() if part["reduction_type"] != "already_reduced"}
        return LossValue(
            total=total.reshape(()),
            per_item={name: term.reshape(-1) for name, term in terms.items() if isinstance(term, Tensor)},
        )


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Suppress deprecation warnings about the library's own code, which its users cannot change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # HistogramLoss indexes by lists; a test compares it with its definition, in case torch changes what that means.
        warnings.filterwarnings("ignore", "Using a non-tuple sequence", UserWarning)
        yield


def _option(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _own_options(entry: Mapping[str, list[Any]]) -> list[Parameter]:
    """Return the options of a constructor; one without a default has the default None, which ``build_loss`` refuses."""
    return [_option(name, TYPES[kind], *(default or [None])) for name, (kind, *default) in entry.items()]


def loss_options(name: str) -> list[Parameter]:
    """Return the options of a loss, its own and those of distance, miner and reducer, in the order of a spec."""
    entry = signatures()["losses"][name]
    options = [
        option.replace(annotation=Annotated[option.annotation, searched]) if searched else option
        for option in _own_options(entry["options"])
        for searched in [RANGES.get(name, {}).get(option.name)]
    ]
    if entry["distance"]:
        types = {"distance": Literal[tuple(signatures()["distances"])], "normalize_embeddings": bool}
        options += [_option(key, types.get(key, int | float), value) for key, value in entry["distance"].items()]
    if entry["miner"]:
        options.append(_option("miner", str | None, None))
    if entry["reducer"]:
        options.append(_option("reducer", Literal[tuple(signatures()["reducers"])], entry["reducer"]))
    return options


def _docstring(name: str, options: Iterable[Parameter]) -> str:
    shared = {
        "distance": "The library's distance or similarity, for the loss and its miner.",
        "normalize_embeddings": "Whether the distance scales each embedding to unit length first.",
        "p": "The norm, of differences and of the scaling to unit length.",
        "power": "The power that the distance is raised to; 2 for squared Euclidean distances.",
        "miner": f"none, or a miner with its options in parentheses: {', '.join(miners())}.",
        "reducer": "How the terms become one number; AvgNonZeroReducer is the mean of those above 0.",
    }
    own = signatures()["losses"][name]["options"]
    lines = shared | {key: f"The library's own option {key} of {name}." for key in own}
    lines |= {key: f"The library's own option {key}; it has no default: give it." for key in _required(own)}
    shown = "\n".join(f"    {option.name}: {lines[option.name]}" for option in options)
    summary = f"{name} of {DISTRIBUTION} {importlib.metadata.version(DISTRIBUTION)}, computed by that library."
    reference = f"Reference: https://kevinmusgrave.github.io/pytorch-metric-learning/losses/#{name.lower()}"
    return f"{summary}\n\nOptions:\n{shown}\n\n{reference}" if shown else f"{summary}\n\n{reference}"


def _required(entry: Mapping[str, list[Any]]) -> list[str]:
    return [name for name, declared in entry.items() if len(declared) == 1]


def _make(folder: str, name: str, values: Mapping[str, Any]) -> Any:
    """Return an object of the library; raises OptionError with the library's reason where it refuses the values."""
    try:
        with _without_deprecations():
            return getattr(importlib.import_module(f"{PACKAGE}.{folder}"), name)(**values)
    except Exception as error:  # options are all that it can refuse
        given = ", ".join(f"{key}={value}" for key, value in values.items() if isinstance(value, str | int | float))
        raise OptionError(f"{DISTRIBUTION} refuses {name}({given}): {str(error) or type(error).__name__}") from error


def _make_distance(distance: str, **values: Any) -> Any:
    fixed = signatures()["distances"][distance]
    for name, value in fixed.items():
        if values[name] != value:
            raise OptionError(f"distance {distance} has {name}={value}, got {values[name]}")
    return _make("distances", distance, {name: value for name, value in values.items() if name not in fixed})


@functools.cache
def miners() -> dict[str, Callable[..., Any]]:
    """Return a factory for each miner: the distance that it measures with is positional, its options keyword-only."""
    factories: dict[str, Callable[..., Any]] = {}
    for name, entry in signatures()["miners"].items():

        def build(distance: Any, name: str = name, **values: Any) -> Any:
            return _make("miners", name, {"distance": distance} | values)

        factories[name] = _with_signature(build, "distance", _own_options(entry))
    return factories


def _with_signature(build: Callable[..., Any], supplied: str, options: list[Parameter]) -> Callable[..., Any]:
    parameters = [Parameter(supplied, Parameter.POSITIONAL_OR_KEYWORD), *options]
    build.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return build


def build_loss(name: str, info: TrainInfo, values: Mapping[str, Any]) -> PmlLoss:
    """Return a loss. Raises OptionError where the library refuses an option, or one without a default is not given."""
    entry = signatures()["losses"][name]
    if missing := [option for option in _required(entry["options"]) if values[option] is None]:
        raise OptionError(f"pml/{name}: {DISTRIBUTION} has no default for {' and '.join(missing)}; give a value")
    given = {option: values[option] for option in entry["options"] if values[option] != "train"}
    given |= {size: SIZES[size](info) for size in entry["needs"] if values.get(size, "train") == "train"}
    if entry["distance"]:
        given["distance"] = _make_distance(**{option: values[option] for option in entry["distance"]})
    if entry["reducer"]:
        given["reducer"] = _make("reducers", values["reducer"], {})
    criterion = _make("losses", name, given)
    reducer, criterion.reducer = criterion.reducer, _make("reducers", "DoNothingReducer", {})
    miner = None
    if values.get("miner") is not None:
        miner = choose(values["miner"], miners(), "miner", criterion.distance)
    return PmlLoss(f"pml/{name}", criterion, reducer, miner)


@hookimpl
def register_losses() -> dict[str, Callable[..., Loss]]:
    """Offer every loss of the table: those that can train from embeddings and labels."""
    try:
        importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise PluginError(f"{DISTRIBUTION} is not installed; install it: pip install {DISTRIBUTION}") from None
    factories: dict[str, Callable[..., Loss]] = {}
    for name in signatures()["losses"]:

        def build(info: TrainInfo, name: str = name, **values: Any) -> Loss:
            return build_loss(name, info, values)

        options = loss_options(name)
        build.__doc__ = _docstring(name, options)
        factories[f"pml/{name}"] = _with_signature(build, "info", options)
    return factories
