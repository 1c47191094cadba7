"""Weighted sums of losses: totals and gradients by hand, logs apart, one source of batches."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reidbench.errors import OptionError, PluginError
from reidbench.plugins.interfaces import Loss, LossValue, TrainInfo, TrainView, as_loss_value
from reidbench.plugins.weighted_sum import WeightedSum


class Squares(Loss):
    """One term per item: the squared norm."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return embeddings.square().sum(dim=1)


class Head(Loss):
    """A scalar with parameters and logs of its own."""

    metric = "learned"
    pool = "max"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        terms = embeddings @ self.weight
        return LossValue(terms.sum(), {"logit": terms}, {"largest": terms.max()})


class Drawing(Squares):
    """Brings its own rounds."""

    def next_round(self, view, number):
        return [np.array([number, number + 1])]


def view() -> TrainView:
    labels = np.arange(4)
    return TrainView(labels, 2, 2, np.random.default_rng(0), lambda units: torch.zeros(len(units), 2))


EMBEDDINGS = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 0.5]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1])


def test_the_total_is_the_weighted_sum_and_so_is_its_gradient():
    embeddings = EMBEDDINGS.clone().requires_grad_()
    head = Head()
    value = WeightedSum([("a", 2.0, Squares()), ("b", 0.5, head)])(embeddings, LABELS)
    assert value.total.dtype == torch.float64
    expected = 2.0 * (5 + 10 + 0.25) / 3 + 0.5 * ((2 - 2) + (6 + 1) + (0 - 0.5))
    assert value.total.item() == pytest.approx(expected, rel=1e-15)
    value.total.backward()
    torch.testing.assert_close(embeddings.grad, 2.0 * 2 * EMBEDDINGS / 3 + 0.5 * head.weight.detach())
    torch.testing.assert_close(head.weight.grad, 0.5 * EMBEDDINGS.sum(dim=0))


def test_every_term_is_logged_apart():
    value = WeightedSum([("a", 2.0, Squares()), ("b", 0.5, Head())])(EMBEDDINGS, LABELS)
    assert {name: item.tolist() for name, item in value.per_item.items()} == {
        "a.loss": [5.0, 10.0, 0.25],
        "b.logit": [0.0, 7.0, -0.5],
    }
    assert {name: item.item() for name, item in value.scalars.items()} == pytest.approx(
        {"a": 15.25 / 3, "b": 6.5, "b.largest": 7.0}
    )


def test_terms_read_different_features():
    embedding, pooled = EMBEDDINGS.clone().requires_grad_(), torch.rand(3, 5, dtype=torch.float64, requires_grad=True)
    info = TrainInfo(2, 2, feature_sizes={"pooled": 5, "embedding": 2})
    terms = [("a", 2.0, Squares()), ("b", 0.5, head := Head()), ("c", 3.0, Squares())]
    total = WeightedSum(terms, ["pooled", "embedding", "embedding"], info)
    value = total(torch.cat([embedding, pooled], dim=1), LABELS)
    squares = [rows.square().sum(1).mean() for rows in (pooled, embedding)]
    by_hand = 2 * squares[0] + 0.5 * (embedding @ head.weight).sum() + 3 * squares[1]
    torch.testing.assert_close(value.total, by_hand)
    parts = (embedding, pooled, head.weight)
    torch.testing.assert_close(torch.autograd.grad(value.total, parts), torch.autograd.grad(by_hand, parts))


def test_metric_and_pool_are_the_first_terms():
    first, second = (
        WeightedSum([("a", 1, Squares()), ("b", 1, Head())]),
        WeightedSum([("b", 1, Head()), ("a", 1, Squares())]),
    )
    assert (first.metric, first.pool) == (None, "mean")
    assert (second.metric, second.pool) == ("learned", "max")


def test_parameters_and_state_are_those_of_the_terms():
    head = Head()
    total = WeightedSum([("a", 1.0, Drawing()), ("b", 1.0, head)])
    assert [group["params"] for group in total.param_groups()] == [[head.weight]]
    assert list(total.state_dict()) == ["losses.1.weight"]
    assert total.to(torch.float32).losses[1].weight.dtype == torch.float32
    total.eval()
    assert not head.training


def test_one_term_may_bring_its_own_rounds():
    total = WeightedSum([("a", 1.0, Head()), ("b", 1.0, Drawing())])
    drawn = total.next_round(view(), 3)
    assert [batch.tolist() for batch in drawn] == [[3, 4]]
    without = WeightedSum([("a", 1.0, Head()), ("b", 1.0, Squares())])
    assert without.next_round(view(), 0) is None
    with pytest.raises(OptionError, match="a and c"):
        WeightedSum([("a", 1.0, Drawing()), ("b", 1.0, Head()), ("c", 1.0, Drawing())])


def test_a_term_that_is_no_loss_is_its_plugins_error():
    with pytest.raises(PluginError, match="loss b: its factory returned Linear, not a Loss"):
        WeightedSum([("a", 1.0, Squares()), ("b", 1.0, nn.Linear(2, 2))])


def test_what_forward_may_return():
    scalar = as_loss_value(Squares(), torch.tensor(2.0))
    assert (scalar.total.item(), dict(scalar.per_item)) == (2.0, {})
    whole = LossValue(torch.tensor(1.0))
    assert as_loss_value(Squares(), whole) is whole
    for wrong, said in ((torch.zeros(2, 2), r"\[2, 2\]"), (LossValue(torch.zeros(2)), r"\[2\]"), (3.0, "float")):
        with pytest.raises(PluginError, match=f"loss Squares .*test_weighted_sum.*got .*{said}"):
            as_loss_value(Squares(), wrong)
    for numbers in (torch.arange(3), torch.zeros(3, dtype=torch.bool)):
        with pytest.raises(PluginError, match=r"loss Squares .*per_item\['n'\].*floating.*got"):
            as_loss_value(Squares(), LossValue(torch.tensor(1.0), {"n": numbers}))
    with pytest.raises(PluginError, match=r"loss Squares .*returned no terms"):
        as_loss_value(Squares(), torch.zeros(0))
