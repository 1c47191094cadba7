"""What a plugin's items must be: the loss, the backbone, the metric, the re-ranker and the report section."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor, nn

from reidbench.errors import PluginError
from reidbench.utils.arrays import IntArray


@dataclass(frozen=True)
class Preprocess:
    """What a network's weights expect of an image: pixels / 255, then (x - mean) / std per channel in RGB order.

    ``height`` and ``width`` are the network's input in pixels; ``mean`` and ``std`` are on the 0..1 scale.
    """

    height: int
    width: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    interpolation: Literal["bilinear"] = "bilinear"


@dataclass(frozen=True)
class BackboneInfo:
    """What a recipe may know of a network; ``batch`` is (P, K), the identities and the images of each in a batch.

    ``faithful_to`` names the paper whose network this is, with all that the paper says of it.
    """

    embedding_dim: int
    preprocess: Preprocess
    pretrained: bool
    parameters: int
    batch: tuple[int, int] = (18, 4)
    faithful_to: str = ""


@dataclass(frozen=True)
class TrainInfo:
    """What a loss may know before training: the embedding's size and the number of training identities."""

    embedding_dim: int
    num_pids: int


@dataclass(frozen=True)
class LossValue:
    """What a loss says of one batch.

    ``total`` is a 0-d tensor, the number that is minimised; ``per_item`` maps a name to the terms that it is the mean
    of, each 1-d; ``scalars`` are further 0-d tensors to log.
    """

    total: Tensor
    per_item: Mapping[str, Tensor] = field(default_factory=dict)
    scalars: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainView:
    """What a loss sees of the training set when it draws its batches.

    ``labels`` [n] are 0..num_pids-1 and ``cams`` [n] the cameras, per unit; ``p`` and ``k`` are the recipe's;
    ``generator`` belongs to (seed, round) alone; ``step`` is the number of steps done; ``embed(units)`` returns the
    present network's embeddings [len(units), D] float32 on its device without gradient, each the mean over the unit's
    images, of which the network, in evaluation mode, sees the centre.
    """

    labels: IntArray
    cams: IntArray
    p: int
    k: int
    generator: np.random.Generator
    step: int
    embed: Callable[[IntArray], Tensor]


class Loss(nn.Module):
    """Everything that is thrown away after training: the criterion, its heads, how batches are drawn.

    ``metric`` and ``pool`` are what "auto" resolves to at test time (``metric=None``: the command line's default).
    ``ordered=True`` promises that ``forward`` reads positions, in the order that its own rounds gave them.
    """

    metric: str | None = None
    pool: Literal["mean", "max"] = "mean"
    ordered: bool = False

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue | Tensor:
        """Return the loss of a batch; ``embeddings`` [B, D] float32 or float64, ``labels`` [B] int64 in 0..num_pids-1.

        A 1-d tensor is one value per item, and its mean is the loss.
        """
        raise NotImplementedError

    def next_round(self, view: TrainView, number: int) -> list[IntArray] | None:
        """Return the batches of one finite round, each an array of units; None leaves drawing to the recipe."""
        return None

    def param_groups(self) -> list[dict[str, object]]:
        """Return the optimizer's parameter groups for the loss's own parameters, by default one of all of them."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return [{"params": parameters}] if parameters else []


class Backbone(nn.Module):
    """Everything that is kept at test time; the constructor reads no file but the header of a weights file.

    ``embedding_dim`` is D; ``preprocess`` belongs to the weights; ``pretrained`` says whether ``initialise`` loads any;
    ``batch`` is (P, K), the batch that a paper trains this network with, for recipes that follow one; ``faithful_to``
    names the paper whose network this is as built, or is empty where an option makes it another.
    """

    embedding_dim: int
    preprocess: Preprocess
    pretrained: bool = False
    batch: tuple[int, int] = (18, 4)
    faithful_to: str = ""

    def initialise(self) -> None:
        """Load pretrained weights, once, before the first step; not on a dry run, on resume or when embedding.

        Raises DataError, naming the file and where it was looked for, where they can be neither found nor fetched.
        """

    def forward(self, images: Tensor) -> Tensor:
        """Return the test features [B, D] of ``images`` [B, 3, H, W], preprocessed floats."""
        raise NotImplementedError


class Metric:
    """A distance between embeddings, perhaps learned; smaller is closer.

    ``normalize=True`` asks for rows of unit length (after pooling) before anything else here sees them. Once fitted it
    is asked by several threads at once, so that nothing but ``fit`` may change it.
    """

    normalize: bool = False

    def fit(self, embeddings: Tensor, pids: IntArray, cams: IntArray) -> None:
        """Learn from training embeddings [n, D]; called once, only if overridden."""

    def factors(self, embeddings: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return (left, right), both [n, K], such that left(q) @ right(g).T orders each query's gallery as its
        distances do; None where there is no such form. The dtype of the input is kept.
        """
        return None

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances [len(a), len(b)] that are shown; they may be negative."""
        raise NotImplementedError

    def pair_distances(self, a: Tensor, b: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances [n] of the rows ``first`` of ``a`` and ``second`` of ``b``, both int64 [n].

        By default all distances of ``a`` and ``b`` are made and most are thrown away; a metric that can do less should.
        """
        return self.distances(a, b)[first, second]


def learns(metric: Metric) -> bool:
    """Whether a metric is fitted on training embeddings."""
    return type(metric).fit is not Metric.fit


class Reranker:
    """A second look at a ranking: distances for blocks of queries, from all embeddings at once."""

    def blocks(self, query: Tensor, gallery: Tensor, metric: Metric, rows: int) -> Iterator[Tensor]:
        """Yield distances [at most rows, len(gallery)] float32 or float64 in query order, all queries once.

        ``query`` [nq, D] and ``gallery`` [ng, D] are float32 or float64, as they were given to be scored, on the CPU.
        """
        raise NotImplementedError


def as_loss_value(loss: Loss, value: object) -> LossValue:
    """Return what a loss's ``forward`` gave as a LossValue; a bare tensor's terms are named "loss".

    Raises PluginError where it is neither a LossValue with a 0-d total nor a tensor of at most one dimension.
    """
    named = f"loss {type(loss).__name__} ({type(loss).__module__})"
    if isinstance(value, Tensor) and value.ndim == 1:
        if not len(value):
            raise PluginError(f"{named}: forward returned no terms at all, whose mean is no number")
        return LossValue(total=value.mean(), per_item={"loss": value})
    if isinstance(value, Tensor):
        value = LossValue(total=value)
    if not isinstance(value, LossValue) or value.total.ndim != 0:
        said = f"shape {tuple(value.total.shape)}" if isinstance(value, LossValue) else type(value).__name__
        raise PluginError(
            f"{named}: forward must return a LossValue with a 0-d total, "
            f"or a tensor of at most one dimension, got {said}"
        )
    return value
