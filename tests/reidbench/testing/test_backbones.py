"""Contract checks of backbones: sound networks pass, networks with one fault are named."""

import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reidbench import Backbone, Preprocess
from reidbench.errors import ContractError
from reidbench.testing import check_backbone


class Network(Backbone):
    """A linear layer on the mean colour."""

    embedding_dim = 5

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(8, 4)
        self.linear = nn.Linear(3, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.mean(dim=(2, 3)))


class OtherSize(Network):
    embedding_dim = 6


class Noisy(Network):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 0.01 * torch.randn(())


class Counts(Network):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images)


class Centres(Network):
    def forward(self, images: Tensor) -> Tensor:
        out = super().forward(images)
        return out - out.mean(dim=0) + self.linear.bias


class Unused(Network):
    def __init__(self) -> None:
        super().__init__()
        self.forgotten = nn.Linear(2, 2)


class OwnSeed(Network):
    def __init__(self) -> None:
        super().__init__()
        self.linear.weight.data = torch.from_numpy(np.random.default_rng().random((5, 3), dtype=np.float32))


class Outside(Network):
    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.rand(5)  # neither parameter nor buffer

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.shift


class OtherScale(Network):
    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(8, 4, mean=(104.0, 117.0, 123.0))


class MeanColour(Backbone):
    """Hand-made features, as a third party writes them."""

    embedding_dim, trainable = 3, False

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


class Undeclared(MeanColour):
    trainable = True


class Declared(Network):
    trainable = False


def test_networks_that_learn_nothing_pass():
    assert "gradient reaches the weights" not in (passed := check_backbone(MeanColour))
    assert len(passed) == 7


@pytest.mark.parametrize("backbone", [Network, "tiny", "lunet(height=64, width=32)"])
def test_sound_networks_pass(backbone):
    assert len(check_backbone(backbone)) == 8


@pytest.mark.parametrize(
    ("network", "check"),
    [
        (OtherSize, "output"),
        (Noisy, "evaluation repeats and changes nothing"),
        (Counts, "evaluation repeats and changes nothing"),
        (Centres, "an image does not depend on its batch"),
        (Unused, "gradient reaches the weights"),
        (OwnSeed, "seeded weights"),
        (Outside, "state dict holds everything"),
        (OtherScale, "contract"),
        (Undeclared, "contract"),
        (Declared, "contract"),
    ],
)
def test_networks_with_one_fault_fail(network, check):
    with pytest.raises(ContractError) as caught:
        check_backbone(network)
    assert caught.value.check == check, caught.value
    assert re.search(r"\d|forgotten|changed calls|trainable is", str(caught.value))
