"""Weighted sums of losses: ``a + 0.5*b`` is one loss whose terms are logged separately."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from reidbench.errors import OptionError, PluginError
from reidbench.plugins.interfaces import Loss, LossValue, TrainInfo, TrainView, as_loss_value
from reidbench.plugins.spec import EMBEDDING
from reidbench.utils.arrays import IntArray


class WeightedSum(Loss):
    """The weighted sum of losses; takes embeddings [B, D] and labels [B] as each of its terms does.

    ``features`` names the training feature that each term reads, by default the embedding. Where there are others, the
    sum takes in place of the embeddings the features of ``reads`` side by side, of the sizes in ``info``.
    ``terms`` are (name, weight, loss) with different names; what a term logs is prefixed with its name, and its
    unweighted total is logged under its name. Metric and pool are the first term's. At most one term may sample its own
    batches, which the others share. Raises OptionError where two do, PluginError where a term is no Loss.
    """

    def __init__(
        self, terms: Iterable[tuple[str, float, Loss]], features: Sequence[str] = (), info: TrainInfo | None = None
    ) -> None:
        super().__init__()
        self.terms = tuple(terms)
        for name, _, loss in self.terms:
            if not isinstance(loss, Loss):
                raise PluginError(f"loss {name}: its factory returned {type(loss).__name__}, not a Loss")
        self.losses = nn.ModuleList(loss for _, _, loss in self.terms)  # so that device, mode and state reach them
        self.features = features or [EMBEDDING] * len(self.terms)
        self.reads = tuple(dict.fromkeys([EMBEDDING, *self.features]))
        self.sizes = [info.feature_sizes[name] for name in self.reads] if info and len(self.reads) > 1 else []
        samplers = [name for name, _, loss in self.terms if loss.samples_batches]
        if len(samplers) > 1:
            raise OptionError(f"loss: {' and '.join(samplers)} each sample their own batches; in a sum at most one may")
        first = self.terms[0][2]
        self.metric, self.pool = first.metric, first.pool
        self.trains_pairs = first.trains_pairs
        if any(loss.trains_pairs != first.trains_pairs for _, _, loss in self.terms):
            raise OptionError("loss: terms for pairs of images and terms for embeddings cannot be added")
        self.unlabelled = all(loss.unlabelled for _, _, loss in self.terms)
        self.partial_gradient = any(loss.partial_gradient for _, _, loss in self.terms)

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the weighted sum of the terms' totals, with everything that they log."""
        total = embeddings.new_zeros(())
        per_item: dict[str, Tensor] = {}
        scalars: dict[str, Tensor] = {}
        parts = [part.contiguous() for part in torch.split(embeddings, self.sizes, 1)] if self.sizes else [embeddings]
        rows = dict(zip(self.reads, parts, strict=True))
        for (name, weight, loss), feature in zip(self.terms, self.features, strict=True):
            value = as_loss_value(loss, loss(rows[feature], labels))
            total = total + weight * value.total
            scalars[name] = value.total
            per_item |= {f"{name}.{key}": item for key, item in value.per_item.items()}
            scalars |= {f"{name}.{key}": scalar for key, scalar in value.scalars.items()}
        return LossValue(total, per_item, scalars)

    def next_round(self, view: TrainView, number: int) -> list[IntArray] | None:
        """Return the batches of the term that samples its own, or None."""
        rounds = (loss.next_round(view, number) for _, _, loss in self.terms)
        return next((batches for batches in rounds if batches is not None), None)

    @property
    def samples_batches(self) -> bool:
        """Whether one of the terms samples its own batches."""
        return any(loss.samples_batches for _, _, loss in self.terms)

    def param_groups(self) -> list[dict[str, object]]:
        """Return the parameter groups of all terms."""
        return [group for _, _, loss in self.terms for group in loss.param_groups()]
