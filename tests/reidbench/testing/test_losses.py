"""The conformance kit on losses: one that is right, some that are wrong in one way each, and our own."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from reidbench import Loss, LossValue, OptionError, TrainInfo
from reidbench.errors import ContractError, ReidbenchError
from reidbench.testing.losses import check_loss

# --- a loss that is right, and eight that are wrong in one way each ---------------------------------------------------


class Right(Loss):
    """Triplet loss of the hardest pairs of a batch, in squared distances."""

    def __init__(self, info: TrainInfo, *, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue | Tensor:
        same = labels[:, None] == labels[None, :]
        return self.terms(self.apart(embeddings), same)

    def apart(self, embeddings: Tensor) -> Tensor:
        return (embeddings[:, None] - embeddings[None, :]).square().sum(dim=2)

    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        positive = distances.masked_fill(~same, -torch.inf).amax(dim=1)
        negative = distances.masked_fill(same, torch.inf).amin(dim=1)
        return functional.relu(self.margin + positive - negative)


class FlippedSign(Right):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        positive = distances.masked_fill(~same, -torch.inf).amax(dim=1)
        negative = distances.masked_fill(same, torch.inf).amin(dim=1)
        return functional.softplus(negative - positive)


class FlippedHinge(FlippedSign):
    """Where it looks at everything from the wrong side a hinge is at rest from the start."""

    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        return functional.relu(super().terms(distances, same) - self.margin)


class ForgetsTheMask(Right):
    """What is masked becomes 0, which is the closest of all."""

    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        positive, negative = (distances * same).amax(dim=1), (distances * ~same).amin(dim=1)
        return functional.relu(self.margin + positive - negative)


class WrongAxis(Right):
    """The mean over the images, where the sum over the entries was meant."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        same = (labels[:, None] == labels[None, :]).to(embeddings.dtype)
        means = same @ embeddings / same.sum(dim=1, keepdim=True)
        return (embeddings - means).square().mean(dim=0)


class Detaches(Right):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        return super().terms(distances.detach(), same)


class DetachesHalf(Right):
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        apart = (embeddings[:, None] - embeddings.detach()[None, :]).square().sum(dim=2)
        return self.terms(apart, labels[:, None] == labels[None, :])


class NanAtZero(Right):
    """The gradient of a square root at 0 is infinite, and 0 times infinity is not a number."""

    def apart(self, embeddings: Tensor) -> Tensor:
        own = torch.eye(len(embeddings), dtype=embeddings.dtype)
        return (super().apart(embeddings) + own).sqrt() - own


class DependsOnOrder(Right):
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        weights = torch.linspace(0, 1, len(labels), dtype=embeddings.dtype)
        return weights * super().forward(embeddings, labels)


class KeepsState(Right):
    """An average of the batches so far that no checkpoint would have."""

    seen: Tensor | None = None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        now = embeddings.detach().mean(dim=0)
        self.seen = now if self.seen is None else 0.9 * self.seen + 0.1 * now
        pull = (embeddings - self.seen).square().sum(dim=1)
        return super().forward(embeddings, labels) + 0.01 * pull


class WrongShape(Right):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        return super().terms(distances, same)[:, None]


class WrongTermShape(Right):
    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        terms = super().forward(embeddings, labels)
        assert isinstance(terms, Tensor)
        return LossValue(terms.mean(), per_item={"loss": terms[:, None]})


class IgnoresLabels(Right):
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return super().forward(embeddings, torch.arange(len(labels)) // 2)


class Overflows(Right):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        return super().terms(distances, same).exp()


class DrawsElsewhere(Right):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        return super().terms(distances, same) * (1 + 1e-4 * np.random.default_rng().random())


class SinglePrecision(Right):
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return super().forward(embeddings.float(), labels)


class Raises(Right):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        raise ZeroDivisionError("nobody thought of this")


WRONG = [
    (FlippedSign, "learning", "a sign flipped"),
    (FlippedHinge, "gradient reaches", "a sign flipped"),
    (ForgetsTheMask, "learning", "a mask forgotten"),
    (WrongAxis, "shapes", "8 terms for embeddings of 8 entries and 11 for 11"),
    (Detaches, "inputs untouched|gradient reaches", "without detaching them"),
    (DetachesHalf, "gradient is that of the value", "in 6 of 6 directions .* is a part detached"),
    (NanAtZero, "coincident embeddings", r"\d+ of 128 that are not in the gradient with (all|each)"),
    (DependsOnOrder, "order of the batch", r"in another order gave \d"),
    (KeepsState, "no hidden state", r"after other batches it gave \d.*register_buffer"),
    (WrongShape, "shapes", r"got shape \(16, 1\)"),
    (WrongTermShape, "shapes", r"per_item loss must have 1 dimensions, got the shape \(16, 1\)"),
    (IgnoresLabels, "order of the batch", "compare labels, not positions"),
    (Overflows, "huge embeddings", "not in the value"),
    (DrawsElsewhere, "gradient is that|determinism|order", r"\d"),
    (SinglePrecision, "shapes", "total must be torch.float64, got torch.float32"),
    (Raises, "shapes", r"ZeroDivisionError: nobody thought of this \(test_losses.py, line \d+\)"),
]


def test_a_loss_that_is_right_keeps_every_promise() -> None:
    held = check_loss(Right, margin=0.5)
    assert {"shapes", "order of the batch", "coincident embeddings", "no hidden state", "pickling"} <= set(held)
    assert len(held) == 15


@pytest.mark.parametrize(("wrong", "promise", "said"), WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_loss_is_caught_by_the_promise_that_it_breaks(wrong: type[Loss], promise: str, said: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_loss(wrong)
    assert re.match(promise, caught.value.promise), caught.value
    assert re.search(said, str(caught.value)), caught.value
    assert str(caught.value).startswith(f'loss {wrong.__name__} breaks the promise "{caught.value.promise}": ')


def test_a_broken_promise_is_an_assertion_and_ends_a_command_with_1() -> None:
    assert issubclass(ContractError, AssertionError)
    assert issubclass(ContractError, ReidbenchError)
    assert ContractError.exit_code == 1


def test_a_loss_made_inside_a_function_cannot_be_pickled() -> None:
    class Inside(Right):
        pass

    with pytest.raises(ContractError, match="at the top of a module"):
        check_loss(Inside)


def test_options_that_do_not_fit_are_no_broken_promises() -> None:
    with pytest.raises(OptionError, match="margin"):
        check_loss(Right, margn=1.0)
    with pytest.raises(OptionError, match="at least 0"):
        check_loss("batch_hard(margin=-1)")
    with pytest.raises(OptionError, match="write its options into the text"):
        check_loss("batch_hard", margin=1.0)
    with pytest.raises(OptionError, match="nothing to check"):
        check_loss("none")


def test_a_check_leaves_the_random_state_as_it_was() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    check_loss(Right)
    assert torch.equal(before, torch.get_rng_state())


OURS = [
    "batch_hard",
    "batch_hard(margin=0.2, distance=cosine)",
    "batch_all(average=nonzero)",
    "triplet",
    "lifted",
    "lifted(pairs=triplets, negatives=all)",
    "lifted_generalized",
    "lmnn",
    "improved_triplet",
    "classification(dropout=0.5)",
    "verification",
    "identification_verification",
    "triplet_ohm(refresh=5)",
    "batch_hard + 0.5*classification",
    "pml/TripletMarginLoss",
    "pml/NTXentLoss",
    "pml/ArcFaceLoss",
    "pml/ContrastiveLoss",
]


@pytest.mark.parametrize("spec", OURS)
def test_our_losses_keep_their_promises(spec: str) -> None:
    held = check_loss(spec)
    assert "learning brings positives closer than negatives" in held
    assert ("rounds" in held) or ("order of the batch" in held)
