"""CNN + Video: a plain convolutional network for the key frames of a tracklet; all layers but the first are ours."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reidbench import Backbone, OptionError, Preprocess, hookimpl

# Filters, kernel, stride, padding and whether a 3x3 max pool of stride 2 follows; only the first row is published.
LAYERS = ((96, 7, 2, 0, True), (256, 5, 1, 2, True), (384, 3, 1, 1, False), (384, 3, 1, 1, False), (256, 3, 1, 1, True))
SMALLEST = 32


class CnnVideo(Backbone):
    """Five convolutions with batch norm and ReLU, max pools after the first, second and last, and a linear layer.

    Options:
        features: Size of the embedding.
        height: Height of the input in pixels, at least 32.
        width: Width of the input in pixels, at least 32.
        channels: Factor on the width of every convolution (0.25 is a quarter-width network).

    Maps images [B, 3, height, width], pixels / 255, to embeddings [B, features], not normalised: one frame at a time.
    The frames of a tracklet are pooled by the recipe (``frames``) in training and by the protocol at test time.
    Convolutions start from He et al., the linear layer from Glorot et al., its bias from 0, sampled from torch's global
    generator. Raises OptionError for an option that is too small.
    Source: after Zhang et al. 2017, "Learning Compact Appearance Representation for Video-based Person
    Re-Identification", [37] of Hermans et al. 2017, of which only input and first layer are known; all else is ours.
    """

    def __init__(self, *, features: int = 1024, height: int = 128, width: int = 64, channels: float = 1.0) -> None:
        super().__init__()
        options = {"height": (height, SMALLEST), "width": (width, SMALLEST), "features": (features, 1)}
        for name, (value, least) in (options | {"channels": (channels, 1 / 96)}).items():
            if value < least:
                raise OptionError(f"cnn_video: {name} must be at least {least:.3g}; got {value}")
        self.embedding_dim = features
        self.preprocess = Preprocess(height, width)
        self.stages = nn.Sequential()
        before = 3
        for filters, kernel, stride, padding, pools in LAYERS:
            after = max(1, round(channels * filters))
            convolution = nn.Conv2d(before, after, kernel, stride, padding, bias=False)  # the batch norm has one
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            self.stages.extend([convolution, nn.BatchNorm2d(after), nn.ReLU()])
            if pools:
                self.stages.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
            before = after
        self.embedding = nn.Linear(before * _last_size(height) * _last_size(width), features)
        nn.init.xavier_uniform_(self.embedding.weight)
        nn.init.zeros_(self.embedding.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings [B, features] of ``images`` [B, 3, height, width]."""
        return self.embedding(self.stages(images.contiguous(memory_format=torch.channels_last)).flatten(1))


def _last_size(size: int) -> int:
    """Return the number of rows (or columns) of the last feature map for an input with ``size`` of them."""
    size = (size - 7) // 2 + 1
    for _ in range(3):
        size = -(-(size - 3) // 2) + 1
    return size


@hookimpl
def register_backbones() -> dict[str, type[Backbone]]:
    """Offer cnn_video."""
    return {"cnn_video": CnnVideo}
