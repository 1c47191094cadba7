"""Contract checks of losses: sound losses pass, losses with one fault are named."""

import re
from collections.abc import Callable
from typing import Annotated, Any

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


class ForgetsTheMask(Sound):
    """Masked entries become 0, which is the closest of all."""

    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        positive, negative = (distances * same).amax(dim=1), (distances * ~same).amin(dim=1)
        return functional.relu(self.margin + positive - negative)


class NanAtZero(Sound):
    """The gradient of a square root at 0 is infinite, and 0 times infinity is not a number."""

    def apart(self, embeddings: Tensor) -> Tensor:
        own = torch.eye(len(embeddings), dtype=embeddings.dtype)
        return (super().apart(embeddings) + own).sqrt() - own


class KeepsState(Sound):
    """An average of the batches so far that is in no checkpoint."""

    seen: Tensor | None = None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        now = embeddings.detach().mean(dim=0)
        self.seen = now if self.seen is None else 0.9 * self.seen + 0.1 * now
        pull = (embeddings - self.seen).square().sum(dim=1)
        return super().forward(embeddings, labels) + 0.01 * pull


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


class NeedsIdentities(Sound):
    unlabelled = True

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue | Tensor:
        images = (labels >= 0).sum()
        return super().forward(embeddings, labels) * images / images


# Losses that differ from the sound one in one method.
CHANGED: dict[str, dict[str, Callable[..., Any]]] = {
    "FlippedSign": {"terms": lambda self, distances, same: -Sound.terms(self, distances, same)},
    "Detaches": {"terms": lambda self, distances, same: Sound.terms(self, distances.detach(), same)},
    "DetachesHalf": {"apart": lambda self, x: (x[:, None] - x.detach()[None, :]).square().sum(dim=2)},
    "DependsOnOrder": {"forward": lambda self, x, pids: torch.arange(len(x)).to(x) * Sound.forward(self, x, pids)},
    "WrongTermShape": {
        "forward": lambda self, x, pids: LossValue(x.mean(), {"loss": Sound.forward(self, x, pids)[:, None]})
    },
    "IgnoresLabels": {"forward": lambda self, x, pids: Sound.forward(self, x, torch.arange(len(x)) // 2)},
    "Constant": {"forward": lambda self, x, pids: x.square().sum(dim=1)},  # pulls everything to one point
    "Overflows": {"terms": lambda self, distances, same: Sound.terms(self, distances, same).exp()},
    "DrawsElsewhere": {"terms": lambda *given: Sound.terms(*given) * (1 + 1e-4 * np.random.default_rng().random())},
    "SinglePrecision": {"forward": lambda self, x, pids: Sound.forward(self, x.float(), pids)},
    "Raises": {"terms": lambda self, distances, same: 1 / 0},
}
CLASSES = [ForgetsTheMask, NanAtZero, KeepsState, ChangesInputs, RefusesWhatIsSearched, NeedsIdentities]
FAULTY = {each.__name__: each for each in CLASSES}
FAULTY |= {name: type(name, (Sound,), methods) for name, methods in CHANGED.items()}


def test_a_sound_loss_passes():
    passed = check_loss(Sound, margin=0.5)
    assert {"shapes", "order of the batch", "extreme batches", "no hidden state", "options"} <= set(passed)
    assert len(passed) == 9


@pytest.mark.parametrize(("name", "check", "message"), cases(__file__, "losses_with_one_fault_fail"))
def test_losses_with_one_fault_fail(name, check, message):
    with pytest.raises(ContractError, match=message) as caught:
        check_loss(FAULTY[name])
    assert re.match(check, caught.value.check), caught.value
    assert str(caught.value).startswith(f"loss {name} ")


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
