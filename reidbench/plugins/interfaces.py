"""What a plugin's items must be: the loss, the backbone, the metric, the re-ranker and the values they exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import PositiveInt
from torch import Tensor, nn

from reidbench.errors import DataError, PluginError, contract_error
from reidbench.plugins.spec import EMBEDDING
from reidbench.plugins.weights import Mean, Std, load_tensors, read_normalisation, read_weights
from reidbench.utils.arrays import IntArray


@dataclass(frozen=True)
class Preprocess:
    """The input that a network's weights expect: pixels / 255, then (x - mean) / std per channel in RGB order.

    ``height``: input height in pixels.
    ``width``: input width in pixels.
    ``mean``: mean per channel, on the 0..1 scale.
    ``std``: standard deviation per channel, on the 0..1 scale.
    """

    height: PositiveInt
    width: PositiveInt
    mean: tuple[Mean, Mean, Mean] = (0.0, 0.0, 0.0)
    std: tuple[Std, Std, Std] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class BackboneInfo:
    """What a recipe may depend on of a network.

    ``embedding_dim``: the size D of its embeddings.
    ``preprocess``: its input.
    ``pretrained``: whether it starts from pretrained weights.
    ``parameters``: the number of its parameters.
    ``batch``: (P, K), the identities in a batch and the images of each, for recipes that follow the network's paper.
    ``faithful_to``: the paper whose network this is in all that the paper says, or an empty text.
    ``trainable``: whether a loss can train it.
    ``pairs``: whether it compares pairs of images.
    ``feature_sizes``: the sizes of its further training features by name.
    """

    embedding_dim: PositiveInt
    preprocess: Preprocess
    pretrained: bool
    parameters: int
    batch: tuple[PositiveInt, PositiveInt] = (18, 4)
    faithful_to: str = ""
    trainable: bool = True
    pairs: bool = False
    feature_sizes: Mapping[str, PositiveInt] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainInfo:
    """What a loss may depend on before training.

    ``embedding_dim``: the size D of the embeddings, or of the other training feature that the loss reads.
    ``num_pids``: the number of training identities.
    ``pair``: the network's ``Backbone.pair``, None where it has none; while a run is planned, the Euclidean distance.
    ``feature_sizes``: the sizes of all training features of the network by name, "embedding" among them.
    ``network``: what messages call the network.
    """

    embedding_dim: int
    num_pids: int
    pair: Callable[[Tensor, Tensor], Tensor] | None = None
    feature_sizes: Mapping[str, int] = field(default_factory=dict)
    network: str = "the network"


@dataclass(frozen=True)
class LossValue:
    """The loss of one batch.

    ``total``: the number that is minimised, 0-d.
    ``per_item``: 1-d tensors to log by name, such as the terms that ``total`` is the mean of.
    ``scalars``: further 0-d tensors to log by name.
    """

    total: Tensor
    per_item: Mapping[str, Tensor] = field(default_factory=dict)
    scalars: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainView:
    """What a loss can use when it samples the batches of a round.

    ``labels``: the identity 0..num_pids-1 of each training unit [n] int64, -1 for a unit without identity.
    ``p``: the recipe's identities in a batch.
    ``k``: the recipe's units of each identity in a batch.
    ``generator``: a random generator that follows from (seed, round) alone.
    ``embed``: returns the embeddings [len(units), D] float32 of units by the current network in evaluation mode, on its
        device and without gradient; each is the mean over the unit's images, seen by the centre view.
    """

    labels: IntArray
    p: int
    k: int
    generator: np.random.Generator
    embed: Callable[[IntArray], Tensor]


class Loss(nn.Module):
    """Everything that is discarded after training: the criterion, its classifier heads, the sampling of batches.

    ``plugin_item``: the item that it was built from, for messages; empty where it was built by hand.
    ``metric``: the metric that "auto" resolves to at test time; None for the command line's default.
    ``pool``: how "auto" pools the embeddings of a unit's images at test time.
    ``unlabelled``: whether it takes units without identity, of the label -1; a batch may have no others.
    ``trains_pairs``: whether it trains the pair stage of a network (``TrainInfo.pair``), and no network without one.
    ``reads``: the training features that ``forward`` gets side by side, the embedding first; only a sum gets several.
    ``partial_gradient``: whether a part of its value is a constant for the gradient on purpose, as its paper says.
    """

    plugin_item: str = ""
    metric: str | None = None
    pool: Literal["mean", "max"] = "mean"
    unlabelled: bool = False
    trains_pairs: bool = False
    reads: tuple[str, ...] = (EMBEDDING,)
    partial_gradient: bool = False

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue | Tensor:
        """Return the loss of a batch; ``embeddings`` [B, D] float32 or float64, ``labels`` [B] int64 in 0..num_pids-1.

        A 1-d tensor is one value per item; its mean is the loss. Only with batches of its own may order matter.
        """
        raise NotImplementedError

    def next_round(self, view: TrainView, number: int) -> list[IntArray] | None:
        """Return the batches of one finite round, each an array of units; None leaves sampling to the recipe."""
        return None

    @property
    def samples_batches(self) -> bool:
        """Whether it samples its own batches."""
        return type(self).next_round is not Loss.next_round

    def param_groups(self) -> list[dict[str, object]]:
        """Return the optimizer's parameter groups for the loss's own parameters, by default one of all of them."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return [{"params": parameters}] if parameters else []


class Backbone(nn.Module):
    """Everything that is kept at test time; the constructor reads no file except the header of a weights file.

    ``embedding_dim``: the size D of its embeddings.
    ``preprocess``: the input that its weights expect.
    ``pretrained``: whether ``initialise`` loads pretrained weights.
    ``weights_file``: the file that ``initialise`` loads, where ``use_weights`` was given one.
    ``batch``: (P, K), the batch that its paper trains it with, for recipes that follow the paper.
    ``faithful_to``: the paper whose network this is as built, or an empty text where an option changes it.
    ``trainable``: whether a loss can train it; false for hand-made features, which have no parameters.
    ``feature_sizes``: the sizes by name of the further features that ``training_features`` returns.
    """

    plugin_item: str = ""
    embedding_dim: int
    preprocess: Preprocess
    pretrained: bool = False
    weights_file: Path | None = None
    batch: tuple[int, int] = (18, 4)
    faithful_to: str = ""
    trainable: bool = True
    feature_sizes: Mapping[str, int] = {}

    def use_weights(self, weights: Path | None, preprocess: Preprocess) -> None:
        """Take the value of an option ``weights: reidbench.Weights | None``, in the constructor; sets ``preprocess``.

        With a file, mean and std are those that it names, and ``initialise`` loads it. Without one the weights stay
        random. Raises DataError for a file without mean and std.
        """
        self.preprocess = preprocess
        if weights is not None:
            self.weights_file, self.pretrained = weights, True
            self._normalisation = read_normalisation(weights)
            self.preprocess = replace(preprocess, mean=self._normalisation.mean, std=self._normalisation.std)

    def initialise(self) -> None:
        """Load pretrained weights, once, before the first step; not called on a dry run, on resume or when embedding.

        The default loads the file of ``use_weights``. Raises DataError, naming the file and where it was looked for,
        where weights are neither here nor downloadable, or do not fit.
        """
        if self.weights_file is not None:
            self.load_tensors(read_weights(self.weights_file), str(self.weights_file), bgr=self._normalisation.bgr)

    def load_tensors(self, tensors: Mapping[str, Tensor], source: str, *, bgr: bool) -> None:
        """Load the tensors of a weights file, named as in ``state_dict``; ``source`` names it in messages.

        ``bgr``: whether its first layer expects blue, green, red; the default refuses it. Raises DataError.
        """
        if bgr:
            raise DataError(f"{source}: expects BGR images; reverse first layer, mean and std, and write channels=RGB")
        load_tensors(self, tensors, source)

    def param_groups(self) -> list[dict[str, object]]:
        """Return the optimizer's parameter groups for the parameters that are trained, by default one of all of them.

        Groups with "pretrained" (by default as the network) have the recipe's own rate and are fixed in frozen steps.
        """
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def forward(self, images: Tensor) -> Tensor:
        """Return the test embeddings [B, D] of ``images`` [B, 3, H, W], preprocessed floats."""
        raise NotImplementedError

    def training_features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return "embedding" and each feature of ``feature_sizes``, all [B, its size], of images as for ``forward``.

        Called in training alone, where the loss reads a further feature. In evaluation mode "embedding" must be what
        ``forward`` returns.
        """
        return {EMBEDDING: self(images)}

    def pair(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances [n] of row i of ``a`` and row i of ``b``, rows [n, D] of ``forward``, differentiable.

        A network with this second stage compares pairs of images: its rows are no embeddings, but what each image gives
        to all its pairs, such as a flattened feature map. In evaluation mode a pair must not depend on the others.
        """
        raise NotImplementedError

    def alone(self, rows: Tensor) -> Tensor:
        """Return embeddings [n, d] of rows [n, D] without their pairs, whose Euclidean distances make a shortlist."""
        return rows

    def pair_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that ``pair`` alone uses, and ``forward`` does not."""
        return []

    @property
    def pairs(self) -> bool:
        """Whether it compares pairs of images."""
        return type(self).pair is not Backbone.pair


class Metric:
    """A distance between embeddings, perhaps learned; smaller is closer.

    ``normalize``: whether rows get unit length (after pooling) before ``fit`` and ``project``.
    After ``fit`` several threads may call one metric at the same time, so that only ``fit`` may change it.
    """

    plugin_item: str = ""
    normalize: bool = False

    def fit(self, embeddings: Tensor, pids: IntArray, cams: IntArray) -> None:
        """Learn from training embeddings [n, D]; called once, only if overridden."""

    def project(self, embeddings: Tensor) -> Tensor:
        """Return the rows [n, K] that the methods below compare, from embeddings [n, D]; the same rows by default.

        Called once for each unit, after ``fit``. A row must not depend on the others, and the dtype is retained.
        """
        return embeddings

    def factors(self, embeddings: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return (left, right), both [n, F], such that left(q) @ right(g).T orders each query's gallery as its
        distances do; None where there is no such form. The dtype of the input is retained.
        """
        return None

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances [len(a), len(b)] that are shown; they may be negative."""
        raise NotImplementedError

    def pair_distances(self, a: Tensor, b: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances [n] of the rows ``first`` of ``a`` and ``second`` of ``b``, both int64 [n].

        The default computes all distances of ``a`` and ``b``; override it where a few can be computed for less.
        """
        return self.distances(a, b)[first, second]


def learns(metric: Metric) -> bool:
    """Return whether a metric is fitted on training embeddings."""
    return type(metric).fit is not Metric.fit


class Reranker:
    """Re-ranking: distances for blocks of queries, computed from all embeddings at once."""

    plugin_item: str = ""

    def blocks(self, query: Tensor, gallery: Tensor, metric: Metric, rows: int) -> Iterator[Tensor]:
        """Yield distances [at most rows, len(gallery)] float32 or float64 in query order, every query once.

        ``query`` [nq, D] and ``gallery`` [ng, D] are float32 or float64, as they were given to be scored, on the CPU.
        """
        raise NotImplementedError


class PairMetric(Metric, Reranker):
    """A metric that compares units by the pair stage of the network; ``blocks`` gives all distances of a ranking.

    ``network``: the network, in evaluation mode on its device; set by the runner.
    ``starts``: rows of query unit i are ``starts[i]`` to ``starts[i + 1]`` of the query's rows [nq + 1]; set likewise.
    """

    network: Backbone
    starts: IntArray


def owner_of(item: Loss | Backbone | Metric | Reranker) -> str:
    """Return what messages call a built item: its name and plugin, or its class and module."""
    kind = next(base.__name__.lower() for base in (Loss, Backbone, Metric, Reranker) if isinstance(item, base))
    return item.plugin_item or f"{kind} {type(item).__name__} ({type(item).__module__})"


def as_loss_value(loss: Loss, value: object) -> LossValue:
    """Return what a loss's ``forward`` returned as a LossValue; a bare tensor's terms are named "loss".

    Raises PluginError where it is neither a LossValue with a 0-d total nor a tensor of at most one dimension, and where
    the total or an item of ``per_item`` is of whole numbers.
    """
    name = owner_of(loss)
    if isinstance(value, Tensor) and value.ndim == 1 and value.is_floating_point():
        if not len(value):
            raise PluginError(f"{name}: forward returned no terms, whose mean is undefined")
        return LossValue(total=value.mean(), per_item={"loss": value})
    if isinstance(value, Tensor):
        value = LossValue(total=value)
    total = value.total if isinstance(value, LossValue) else value
    if not isinstance(value, LossValue) or not isinstance(total, Tensor) or total.ndim or not total.is_floating_point():
        expected = "a LossValue with a 0-d total, or a floating tensor of at most one dimension"
        raise contract_error(name, "what forward returns", expected, total)
    for field_name, logged, ndim in (("per_item", value.per_item, 1), ("scalars", value.scalars, 0)):
        if not isinstance(logged, Mapping) or not all(isinstance(key, str) for key in logged):
            raise contract_error(name, field_name, "tensors by name", logged)
        for key, each in logged.items():
            floating = isinstance(each, Tensor) and (each.is_floating_point() or not ndim)
            if not floating or each.ndim != ndim:
                expected = f"a {ndim}-d {'floating ' * ndim}tensor"
                raise contract_error(name, f"{field_name}[{key!r}]", expected, each)
    return value
