"""Contract checks of losses: sound losses pass, losses with one fault are named."""

import re
from typing import Annotated

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from reidbench import Loss, LossValue, OptionError, Searched, TrainInfo
from reidbench.errors import ContractError, ReidbenchError
from reidbench.testing.losses import check_loss
from tests.support.cases import cases


class Sound(Loss):
    """Triplet loss of the hardest pairs of a batch, in squared distances.

    Options:
        margin: margin of the hinge.
    """

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


class FlippedSign(Sound):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        positive = distances.masked_fill(~same, -torch.inf).amax(dim=1)
        negative = distances.masked_fill(same, torch.inf).amin(dim=1)
        return functional.softplus(negative - positive)


class ForgetsTheMask(Sound):
    """Masked entries become 0, which is the closest of all."""

    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        positive, negative = (distances * same).amax(dim=1), (distances * ~same).amin(dim=1)
        return functional.relu(self.margin + positive - negative)


class Detaches(Sound):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        return super().terms(distances.detach(), same)


class DetachesHalf(Sound):
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        apart = (embeddings[:, None] - embeddings.detach()[None, :]).square().sum(dim=2)
        return self.terms(apart, labels[:, None] == labels[None, :])


class NanAtZero(Sound):
    """The gradient of a square root at 0 is infinite, and 0 times infinity is not a number."""

    def apart(self, embeddings: Tensor) -> Tensor:
        own = torch.eye(len(embeddings), dtype=embeddings.dtype)
        return (super().apart(embeddings) + own).sqrt() - own


class DependsOnOrder(Sound):
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        weights = torch.linspace(0, 1, len(labels), dtype=embeddings.dtype)
        return weights * super().forward(embeddings, labels)


class KeepsState(Sound):
    """An average of the batches so far that is in no checkpoint."""

    seen: Tensor | None = None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        now = embeddings.detach().mean(dim=0)
        self.seen = now if self.seen is None else 0.9 * self.seen + 0.1 * now
        pull = (embeddings - self.seen).square().sum(dim=1)
        return super().forward(embeddings, labels) + 0.01 * pull


class WrongTermShape(Sound):
    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        terms = super().forward(embeddings, labels)
        assert isinstance(terms, Tensor)
        return LossValue(terms.mean(), per_item={"loss": terms[:, None]})


class IgnoresLabels(Sound):
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return super().forward(embeddings, torch.arange(len(labels)) // 2)


class Constant(Sound):
    """Pulls everything to one point, whatever the labels."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return embeddings.square().sum(dim=1)


class Overflows(Sound):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        return super().terms(distances, same).exp()


class DrawsElsewhere(Sound):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        return super().terms(distances, same) * (1 + 1e-4 * np.random.default_rng().random())


class SinglePrecision(Sound):
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return super().forward(embeddings.float(), labels)


class ChangesInputs(Sound):
    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue | Tensor:
        with torch.no_grad():
            embeddings += 1
        return super().forward(embeddings, labels)


class RefusesWhatIsSearched(Sound):
    """A loss that cannot use the smallest value that is searched.

    Options:
        margin: the hinge's margin.
    """

    def __init__(self, info: TrainInfo, *, margin: Annotated[float, Searched(0, 1)] = 0.5) -> None:
        if margin == 0:
            raise OptionError("the margin must be above 0")
        super().__init__(info, margin=margin)


class Raises(Sound):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        raise ZeroDivisionError("nobody thought of this")


class NeedsIdentities(Sound):
    unlabelled = True

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue | Tensor:
        images = (labels >= 0).sum()
        return super().forward(embeddings, labels) * images / images


FAULTY = [
    (FlippedSign, "learning", "a sign flipped"),
    (ForgetsTheMask, "learning", "a mask forgotten"),
    (Detaches, "gradient is that of the value", "without detaching them"),
    (DetachesHalf, "gradient is that of the value", "in 6 of 6 directions .* is a part detached"),
    (NanAtZero, "extreme batches", r"\d+ of 128 numbers are not finite in the gradient"),
    (DependsOnOrder, "order of the batch", "differ by .* not positions"),
    (KeepsState, "no hidden state", "register_buffer"),
    (WrongTermShape, "shapes", r"per_item\['loss'\] must be a 1-d .*tensor, got .*\[16, 1\]"),
    (IgnoresLabels, "order of the batch", "compare labels, not positions"),
    (Constant, "learning", "the positive is closer in"),
    (Overflows, "extreme batches", "not finite in the value"),
    (DrawsElsewhere, "gradient is that|determinism|order", r"\d"),
    (SinglePrecision, "shapes", "total must be torch.float64, got torch.float32"),
    (ChangesInputs, "gradient is that of the value", "in place"),
    (NeedsIdentities, "extreme batches", "labels -1"),
    (RefusesWhatIsSearched, "searched values", r"it refuses margin=0.0 \(searched: 0 to 1\): .*must be above 0"),
    (Raises, "shapes", r"ZeroDivisionError: nobody thought of this \(test_losses.py, line \d+\)"),
]


def test_a_sound_loss_passes():
    passed = check_loss(Sound, margin=0.5)
    assert {"shapes", "order of the batch", "extreme batches", "no hidden state", "options"} <= set(passed)
    assert len(passed) == 9


@pytest.mark.parametrize(("loss", "check", "message"), FAULTY, ids=lambda value: getattr(value, "__name__", ""))
def test_losses_with_one_fault_fail(loss, check, message):
    with pytest.raises(ContractError, match=message) as caught:
        check_loss(loss)
    assert re.match(check, caught.value.check), caught.value
    assert str(caught.value).startswith(f"loss {loss.__name__} ")


def test_a_contract_error_is_an_assertion_and_exits_with_1():
    assert issubclass(ContractError, AssertionError)
    assert issubclass(ContractError, ReidbenchError)
    assert ContractError.exit_code == 1


def test_options_that_do_not_fit_are_option_errors():
    with pytest.raises(OptionError, match="margin"):
        check_loss(Sound, margn=1.0)
    with pytest.raises(OptionError, match="option margin"):
        check_loss("batch_hard(margin=-1)")
    with pytest.raises(OptionError, match="write its options into the text"):
        check_loss("batch_hard", margin=1.0)
    with pytest.raises(OptionError, match="nothing to check"):
        check_loss("none")


def test_a_check_restores_the_random_state():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    check_loss(Sound)
    assert torch.equal(before, torch.get_rng_state())


FIRST_PARTY = cases(__file__, "first_party")


@pytest.mark.parametrize("spec", FIRST_PARTY)
def test_first_party_losses_pass(spec):
    passed = check_loss(spec)
    assert "learning brings positives closer than negatives" in passed
    assert ("rounds" in passed) or ("order of the batch" in passed)
