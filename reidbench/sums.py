"""Weighted sums of losses: ``a + 0.5*b`` is one loss, and each term is logged apart."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from reidbench.errors import OptionError, PluginError
from reidbench.interfaces import Loss
from reidbench.values import IntArray, LossValue, TrainView


def as_loss_value(loss: Loss, value: object) -> LossValue:
    """Return what a loss's ``forward`` gave as a LossValue; a bare tensor's terms are named "loss".

    Raises PluginError where it is neither a LossValue with a 0-d total nor a tensor of at most one dimension.
    """
    if isinstance(value, Tensor) and value.ndim == 1:
        return LossValue(total=value.mean(), per_item={"loss": value})
    if isinstance(value, Tensor):
        value = LossValue(total=value)
    if not isinstance(value, LossValue) or value.total.ndim != 0:
        said = f"shape {tuple(value.total.shape)}" if isinstance(value, LossValue) else type(value).__name__
        raise PluginError(
            f"loss {type(loss).__name__} ({type(loss).__module__}): forward must return a LossValue with a 0-d total, or a "
            f"tensor of at most one dimension, got {said}"
        )
    return value


class WeightedSum(Loss):
    """The sum of weighted losses; takes embeddings [B, D] and labels [B] as each of its terms does.

    ``terms`` are (name, weight, loss), the names all different; what a term logs gets its name in front, and its own
    unweighted loss is logged under its name. Metric and pool are the first term's. At most one term may bring its own
    rounds of batches; the others see those. Raises OptionError where two do, PluginError where a term is no Loss.
    """

    def __init__(self, terms: Iterable[tuple[str, float, Loss]]) -> None:
        super().__init__()
        self.names, self.weights, losses = zip(*terms, strict=True)
        for name, loss in zip(self.names, losses, strict=True):
            if not isinstance(loss, Loss):
                raise PluginError(f"loss {name}: its factory returned {type(loss).__name__}, not a Loss")
        self.losses = nn.ModuleList(losses)
        drawing = [place for place, loss in enumerate(losses) if type(loss).next_round is not Loss.next_round]
        if len(drawing) > 1:
            names = " and ".join(self.names[place] for place in drawing)
            raise OptionError(f"loss: {names} each bring their own rounds of batches; in a sum at most one may")
        self._drawing = losses[drawing[0]] if drawing else None
        self.metric, self.pool = losses[0].metric, losses[0].pool
        self.ordered = any(loss.ordered for loss in losses)

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the weighted sum of the terms' totals, with everything that they log."""
        total = embeddings.new_zeros(())
        per_item: dict[str, Tensor] = {}
        scalars: dict[str, Tensor] = {}
        for name, weight, loss in zip(self.names, self.weights, self.losses, strict=True):
            value = as_loss_value(loss, loss(embeddings, labels))
            total = total + weight * value.total
            scalars[name] = value.total
            per_item |= {f"{name}.{key}": item for key, item in value.per_item.items()}
            scalars |= {f"{name}.{key}": scalar for key, scalar in value.scalars.items()}
        return LossValue(total, per_item, scalars)

    def next_round(self, view: TrainView, number: int) -> list[IntArray] | None:
        """Return the batches of the one term that draws its own, else None: the recipe's."""
        return self._drawing.next_round(view, number) if self._drawing is not None else None

    def param_groups(self) -> list[dict[str, object]]:
        """Return the parameter groups of all terms."""
        return [group for loss in self.losses for group in loss.param_groups()]
