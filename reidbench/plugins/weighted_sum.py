"""Weighted sums of losses: ``a + 0.5*b`` is one loss, and each term is logged apart."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from reidbench.errors import OptionError, PluginError
from reidbench.plugins.interfaces import Loss, LossValue, TrainView, as_loss_value
from reidbench.utils.arrays import IntArray


class WeightedSum(Loss):
    """The sum of weighted losses; takes embeddings [B, D] and labels [B] as each of its terms does.

    ``terms`` are (name, weight, loss), the names all different; what a term logs gets its name in front, and its own
    unweighted loss is logged under its name. Metric and pool are the first term's. At most one term may bring its own
    rounds of batches; the others see those. Raises OptionError where two do, PluginError where a term is no Loss.
    """

    def __init__(self, terms: Iterable[tuple[str, float, Loss]]) -> None:
        super().__init__()
        self.terms = tuple(terms)
        for name, _, loss in self.terms:
            if not isinstance(loss, Loss):
                raise PluginError(f"loss {name}: its factory returned {type(loss).__name__}, not a Loss")
        self.losses = nn.ModuleList(loss for _, _, loss in self.terms)  # so that device, mode and state reach them
        drawing = [place for place, (_, _, loss) in enumerate(self.terms) if _draws(loss)]
        if len(drawing) > 1:
            names = " and ".join(self.terms[place][0] for place in drawing)
            raise OptionError(f"loss: {names} each bring their own rounds of batches; in a sum at most one may")
        self.drawing = drawing[0] if drawing else None
        first = self.terms[0][2]
        self.metric, self.pool = first.metric, first.pool
        self.ordered = any(loss.ordered for _, _, loss in self.terms)

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the weighted sum of the terms' totals, with everything that they log."""
        total = embeddings.new_zeros(())
        per_item: dict[str, Tensor] = {}
        scalars: dict[str, Tensor] = {}
        for name, weight, loss in self.terms:
            value = as_loss_value(loss, loss(embeddings, labels))
            total = total + weight * value.total
            scalars[name] = value.total
            per_item |= {f"{name}.{key}": item for key, item in value.per_item.items()}
            scalars |= {f"{name}.{key}": scalar for key, scalar in value.scalars.items()}
        return LossValue(total, per_item, scalars)

    def next_round(self, view: TrainView, number: int) -> list[IntArray] | None:
        """Return the batches of the one term that draws its own, else None: the recipe's."""
        return None if self.drawing is None else self.terms[self.drawing][2].next_round(view, number)

    def param_groups(self) -> list[dict[str, object]]:
        """Return the parameter groups of all terms."""
        return [group for _, _, loss in self.terms for group in loss.param_groups()]


def _draws(loss: Loss) -> bool:
    return type(loss).next_round is not Loss.next_round
