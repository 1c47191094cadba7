"""CaffeNet, the network of the first identification baselines, IDE (C)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reidbench import Backbone, OptionError, Preprocess, Weights, hookimpl
from reidbench_backbones.weights import load_weights

SMALLEST = 39  # pixels for two rows of the last feature map before its pool


class CaffeNet(Backbone):
    """CaffeNet up to its second fully connected layer: pools before the local response norms, convolutions in groups.

    Options:
        features: Size of both fully connected layers, and so of the embedding.
        weights: A safetensors file or a run's folder, or none for random weights.
        height: Height of the input in pixels, at least 39.
        width: Width of the input in pixels, at least 39.
        channels: Factor on the width of every convolution (0.25 is a quarter-width CaffeNet).

    Maps images [B, 3, height, width], pixels / 255 or as the weights expect, to embeddings [B, features], all at least
    0. At the defaults it has 56,868,224 parameters. It is not torchvision's alexnet, which has neither norms nor groups
    and narrower convolutions. Dropout of 0.5 follows the first fully connected layer; that after the second belongs to
    the loss: ``classification(dropout=0.5)``. Tensors of a file are named conv1 to conv5, fc6 and fc7; fc8 is left out.
    Random weights start from He et al., biases from 0, which is ours; they are sampled from torch's global generator.
    Raises OptionError for an option that is too small, DataError for weights that do not fit.
    Source: CaffeNet.prototxt of zhunzhong07/IDE-baseline-Market-1501; Krizhevsky et al. 2012.
    """

    def __init__(
        self,
        *,
        features: int = 4096,
        weights: Weights | None = None,
        height: int = 227,
        width: int = 227,
        channels: float = 1.0,
    ) -> None:
        super().__init__()
        options = {"height": (height, SMALLEST), "width": (width, SMALLEST), "features": (features, 1)}
        for name, (value, least) in (options | {"channels": (channels, 1 / 96)}).items():
            if value < least:
                raise OptionError(f"caffenet: {name} must be at least {least:.3g}; got {value}")
        self.embedding_dim = features
        self.use_weights(weights, Preprocess(height, width))
        # Even, since three convolutions have two groups.
        first, second, third = (2 * max(1, round(channels * size / 2)) for size in (96, 256, 384))
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, convolution in enumerate(
            (
                nn.Conv2d(3, first, 11, stride=4),
                nn.Conv2d(first, second, 5, padding=2, groups=2),
                nn.Conv2d(second, third, 3, padding=1),
                nn.Conv2d(third, third, 3, padding=1, groups=2),
                nn.Conv2d(third, second, 3, padding=1, groups=2),
            ),
            start=1,
        ):
            layers |= {f"conv{number}": convolution, f"relu{number}": nn.ReLU()}
            if number in (1, 2, 5):
                layers[f"pool{number}"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # Caffe rounds sizes up
            if number in (1, 2):
                layers[f"norm{number}"] = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)
        cells = _last_size(height) * _last_size(width)
        layers |= {"flat": nn.Flatten(), "fc6": nn.Linear(second * cells, features), "relu6": nn.ReLU()}
        layers |= {"drop6": nn.Dropout(0.5), "fc7": nn.Linear(features, features), "relu7": nn.ReLU()}
        self.network = nn.Sequential(layers)
        for module in self.network:
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def load_tensors(self, tensors: Mapping[str, Tensor], source: str, *, bgr: bool) -> None:
        """Load the tensors of a weights file; raises DataError where they do not fit."""
        flip = ["conv1"] if bgr else []
        load_weights(self, tensors, source=source, classifier=["fc8"], flip=flip)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings [B, features] of ``images`` [B, 3, height, width]."""
        return self.network(images.contiguous(memory_format=torch.channels_last))


def _last_size(size: int) -> int:
    """Return the number of rows (or columns) of the last feature map for an input with ``size`` of them."""
    size = (size - 11) // 4 + 1
    for _ in range(3):
        size = -(-(size - 3) // 2) + 1
    return size


@hookimpl
def register_backbones() -> dict[str, type[Backbone]]:
    """Offer caffenet."""
    return {"caffenet": CaffeNet}
