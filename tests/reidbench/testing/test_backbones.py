"""Contract checks of backbones: sound networks pass, networks with one fault are named."""

import re
from collections.abc import Mapping

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


class Halves(Network):
    """Names the halves of its embedding as further features."""

    feature_sizes: Mapping[str, int] = {"first": 2, "second": 3}

    def training_features(self, images: Tensor) -> dict[str, Tensor]:
        embedding = self(images)
        return {"embedding": embedding, "first": embedding[:, :2], "second": embedding[:, 2:]}


class OtherEmbedding(Halves):
    def training_features(self, images: Tensor) -> dict[str, Tensor]:
        return super().training_features(images) | {"embedding": 1.01 * self(images)}


class OtherHalf(Halves):
    feature_sizes: Mapping[str, int] = {"first": 2, "second": 2}


class NoHalves(Network):
    feature_sizes: Mapping[str, int] = {"first": 2}


class NoSize(Network):
    feature_sizes: Mapping[str, int] = {"first": 0}


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


def test_further_features_are_checked():
    assert "training features" in check_backbone(Halves)
    assert len(check_backbone(Halves)) == 9


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
        (OtherEmbedding, "training features"),
        (OtherHalf, "gradient reaches the weights"),
        (NoHalves, "gradient reaches the weights"),
        (NoSize, "contract"),
    ],
)
def test_networks_with_one_fault_fail(network, check):
    with pytest.raises(ContractError) as caught:
        check_backbone(network)
    assert caught.value.check == check, caught.value
    assert re.search(r"\d|forgotten|changed calls|trainable is", str(caught.value))
