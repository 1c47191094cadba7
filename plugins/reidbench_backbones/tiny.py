"""A network that trains on a CPU in about a minute."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from torch import Tensor, nn

from reidbench import Backbone, OptionError, Preprocess, Weights, hookimpl
from reidbench_backbones.necks import Neck, NeckedBackbone, TestFeature

WIDTHS = (32, 64, 128, 256)  # channels after each convolution; each max pool halves the image
SLOPE = 0.3  # of every leaky ReLU, as in LuNet; with plain ReLUs it learns more slowly
SMALLEST = 2 ** len(WIDTHS)


class Tiny(NeckedBackbone):
    """Four 3x3 convolutions with max pools, and a linear layer on the flattened feature map.

    Options:
        norm: "batch" for a batch norm in every stage, "none" for none, so that no embedding depends on its batch.
        embedding_dim: Size of the embedding.
        height: Height of the input in pixels, at least 16.
        width: Width of the input in pixels, at least 16.
        weights: A safetensors file or a run's folder, or none for random weights.
        neck: "bnneck" for a batch norm with a fixed bias behind the linear layer, or none.
        test_feature: With a neck, whether the embedding is the feature behind it ("neck") or before it ("pooled").

    Maps images [B, 3, height, width], pixels / 255 or as the weights expect, to embeddings [B, embedding_dim], not
    normalised. Convolutions start from He et al., the linear layer from Glorot et al., biases from 0, sampled from
    torch's global generator. Raises OptionError for an option that is too small.
    Source: ours; it is not a published network.
    """

    def __init__(
        self,
        *,
        norm: Literal["batch", "none"] = "batch",
        embedding_dim: int = 128,
        height: int = 64,
        width: int = 32,
        weights: Weights | None = None,
        neck: Neck = None,
        test_feature: TestFeature = "neck",
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("embedding_dim", embedding_dim, 1),
            ("height", height, SMALLEST),
            ("width", width, SMALLEST),
        ):
            if value < least:
                raise OptionError(f"tiny: {name} must be at least {least}; got {value}")
        self.embedding_dim = embedding_dim
        self.use_weights(weights, Preprocess(height, width))

        self.stages = nn.Sequential()
        for before, after in itertools.pairwise((3, *WIDTHS)):
            convolution = nn.Conv2d(before, after, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, a=SLOPE)
            nn.init.zeros_(convolution.bias)
            self.stages.append(convolution)
            # Pools, not strides, which lose thin lines and learn far less in a few hundred steps. A max pool commutes
            # with the activation, so it comes first, which saves three quarters of the norm's work.
            self.stages.append(nn.MaxPool2d(2, ceil_mode=True))
            if norm == "batch":
                self.stages.append(nn.BatchNorm2d(after))
            self.stages.append(nn.LeakyReLU(SLOPE))
        # No average pool: a person is upright, so the position of a colour tells the shirt from the trousers.
        cells = math.ceil(height / SMALLEST) * math.ceil(width / SMALLEST)
        self.embedding = nn.Linear(WIDTHS[-1] * cells, embedding_dim)
        nn.init.xavier_uniform_(self.embedding.weight)
        nn.init.zeros_(self.embedding.bias)
        self.add_neck(neck, test_feature)

    def pooled(self, images: Tensor) -> Tensor:
        """Return the output of the linear layer [B, embedding_dim] for ``images`` [B, 3, height, width]."""
        # This memory format is a quarter faster on a CPU; always using it gives the same bits for any input format.
        images = images.contiguous(memory_format=torch.channels_last)
        return self.embedding(self.stages(images).flatten(1))


@hookimpl
def register_backbones() -> dict[str, type[Backbone]]:
    """Offer tiny."""
    return {"tiny": Tiny}
