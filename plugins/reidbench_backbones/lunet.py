"""LuNet, the network that Hermans et al. 2017 train from scratch (their Table 6)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidbench import Backbone, OptionError, Preprocess, Weights, hookimpl

SLOPE = 0.3  # of every leaky ReLU
PAPER_SIZES = ((128, 64), (64, 32))  # height and width in Table 3

# Table 6 between the first convolution and the last block: bottlenecks (n1, n2, n3), with a max pool after each stage.
STAGES = (
    ((128, 32, 128),),
    ((128, 32, 128), (128, 32, 128), (128, 64, 256)),
    ((256, 64, 256), (256, 64, 256)),
    ((256, 64, 256), (256, 64, 256), (256, 128, 512)),
    ((512, 128, 512), (512, 128, 512)),
)


class Block(nn.Module):
    """A pre-activation residual block: batch norm, leaky ReLU and convolution for each pair of ``channels``.

    Maps [B, channels[0], H, W] to [B, channels[-1], H, W]. Where the two differ, the shortcut is a 1x1 convolution of
    the first activation (He et al. 2016, "Identity Mappings in Deep Residual Networks").
    """

    def __init__(self, channels: tuple[int, ...], kernels: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm2d(before) for before, _ in pairs)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel, padding=kernel // 2)
            for (before, after), kernel in zip(pairs, kernels, strict=True)
        )
        self.projection = nn.Conv2d(channels[0], channels[-1], 1) if channels[0] != channels[-1] else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the shortcut plus the residual."""
        shortcut = x
        for index, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            x = functional.leaky_relu(norm(x), SLOPE)
            if index == 0 and self.projection is not None:
                shortcut = self.projection(x)
            x = convolution(x)
        return shortcut + x


class LuNet(Backbone):
    """LuNet: pre-activation bottlenecks with max pools between them, without average pooling at the end.

    Options:
        embedding_dim: Size of the embedding.
        height: Height of the input in pixels.
        width: Width of the input in pixels.
        channels: Factor on every width except the embedding's (0.25 is a quarter-width LuNet).
        weights: A safetensors file or a run's folder, or none for random weights.

    Maps images [B, 3, height, width], pixels / 255 or as the weights expect, to embeddings [B, embedding_dim], not
    normalised. At the defaults it has 5,001,152 parameters, the paper's 5.00 M: every convolution and linear layer has
    a bias (without those of the convolutions it would be 4.99 M), batch norms precede each convolution of a block and
    follow the first linear layer, and 1x1 projections are where a block changes the width. The first linear layer is
    sized for the input. Convolutions start from He et al., linear layers from Glorot et al., biases from 0, sampled
    from torch's global generator.
    Raises OptionError for an option that is not above 0, DataError for a file without a normalisation.
    Source: Hermans, Beyer, Leibe 2017, Supplementary D, Table 6.
    """

    batch = (32, 4)

    def __init__(
        self,
        *,
        embedding_dim: int = 128,
        height: int = 128,
        width: int = 64,
        channels: float = 1.0,
        weights: Weights | None = None,
    ) -> None:
        super().__init__()
        options = {"embedding_dim": embedding_dim, "height": height, "width": width, "channels": channels}
        for name, value in options.items():
            if value <= 0:
                raise OptionError(f"lunet: {name} must be above 0; got {value}")
        self.embedding_dim = embedding_dim
        self.use_weights(weights, Preprocess(height, width))
        if (embedding_dim, channels, weights) == (128, 1, None) and (height, width) in PAPER_SIZES:
            self.faithful_to = "Hermans et al. (2017)"

        def scaled(number: int) -> int:
            return max(1, round(number * channels))

        self.stem = nn.Conv2d(3, scaled(128), 7, padding=3)
        self.stages = nn.Sequential()
        for stage in STAGES:
            for n1, n2, n3 in stage:
                self.stages.append(Block((scaled(n1), scaled(n2), scaled(n2), scaled(n3)), kernels=(1, 3, 1)))
            self.stages.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.last_block = Block((scaled(512), scaled(512), scaled(128)), kernels=(3, 3))
        cells = math.ceil(height / 2 ** len(STAGES)) * math.ceil(width / 2 ** len(STAGES))
        self.head = nn.Sequential(
            nn.Linear(scaled(128) * cells, scaled(512)),
            nn.BatchNorm1d(scaled(512)),
            nn.LeakyReLU(SLOPE),
            nn.Linear(scaled(512), embedding_dim),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings [B, embedding_dim] of ``images`` [B, 3, height, width]."""
        # This memory format is a quarter faster on a CPU; always using it gives the same bits for any input format.
        images = images.contiguous(memory_format=torch.channels_last)
        return self.head(self.last_block(self.stages(self.stem(images))).flatten(1))


@hookimpl
def register_backbones() -> dict[str, type[Backbone]]:
    """Offer lunet."""
    return {"lunet": LuNet}
