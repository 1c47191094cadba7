"""Contract checks of backbones: sound networks pass, networks with one fault are named."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reidbench import Backbone, Preprocess
from reidbench.errors import ContractError
from reidbench.testing import check_backbone

REPEATS = "evaluation repeats and changes nothing"


class Network(Backbone):
    """A linear layer on the mean colour."""

    embedding_dim = 5

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(8, 4)
        self.linear = nn.Linear(3, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.mean(dim=(2, 3)))


class Counts(Network):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images)


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
        embedding = Network.forward(self, images)
        return {"embedding": embedding, "first": embedding[:, :2], "second": embedding[:, 2:]}


def test_networks_that_learn_nothing_pass():
    assert "gradient reaches the weights" not in (passed := check_backbone(MeanColour))
    assert len(passed) == 7


@pytest.mark.parametrize("backbone", [Network, Halves, "tiny", "lunet(height=64, width=32)"])
def test_sound_networks_pass(backbone):
    assert len(check_backbone(backbone)) == 8 + (backbone is Halves)


FAULTY: list[tuple[type[Backbone], dict[str, Any], str]] = [
    (Network, {"embedding_dim": 6}, "output"),
    (Network, {"forward": lambda self, images: Network.forward(self, images) + 0.01 * torch.randn(())}, REPEATS),
    (Counts, {}, REPEATS),
    (
        Network,
        {"forward": lambda self, images: self.linear(rows := images.mean(dim=(2, 3))) - rows.mean()},
        "an image does not depend on its batch",
    ),
    (Unused, {}, "gradient reaches the weights"),
    (OwnSeed, {}, "seeded weights"),
    (Outside, {}, "state dict holds everything"),
    (OtherScale, {}, "contract"),
    (MeanColour, {"trainable": True}, "contract"),
    (Network, {"trainable": False}, "contract"),
    (Halves, {"forward": lambda self, images: 1.01 * Network.forward(self, images)}, "training features"),
    (Halves, {"feature_sizes": {"first": 2, "second": 2}}, "gradient reaches the weights"),
    (Halves, {"training_features": lambda self, images: [self(images)] * 3}, "gradient reaches the weights"),
    (Network, {"feature_sizes": {"first": 2}}, "gradient reaches the weights"),
    (Network, {"feature_sizes": {"first": 0}}, "contract"),
]


@pytest.mark.parametrize(("network", "changes", "check"), FAULTY)
def test_networks_with_one_fault_fail(network, changes, check):
    with pytest.raises(ContractError) as caught:
        check_backbone(type("Faulty", (network,), changes))
    assert caught.value.check == check, caught.value
    assert re.search(r"\d|forgotten|changed calls|trainable is", str(caught.value))
