"""The gated siamese network, which compares two images row by row; its layers and their sizes are ours."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidbench import Backbone, OptionError, Preprocess, hookimpl

STEM = ((32, 5), (64, 3), (64, 3))  # filters and kernel of the layers of the first stage, each with a 2x2 max pool
OPEN = 4.0  # first value of p: most gates are near 1


class Gate(nn.Module):
    """The matching gate: emphasizes, row by row, what two feature maps have in common.

    Takes maps [n, h, r, c] of two images. With the summaries y = f(w * x) [n, h, r, 1], w as wide as the map, the gate
    is exp(-(y1 - y2)² / p²) with p learned for each channel; the same gate G, repeated over the columns, gives both
    x + x G, whose channels then get length 1 at every position. With ``gates`` false G is 0.
    """

    def __init__(self, filters: int, columns: int, gates: bool) -> None:
        super().__init__()
        self.gates = gates
        if gates:
            self.summary = nn.Conv2d(filters, filters, (1, columns))
            self.slope = nn.PReLU(filters)
            self.p = nn.Parameter(torch.full((filters, 1, 1), OPEN))

    def values(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the gates [n, h, r, 1], from 0 to 1."""
        difference = self.slope(self.summary(first)) - self.slope(self.summary(second))
        return torch.exp(-difference.square() / self.p.square().clamp(min=1e-12))

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gated maps of both, of length 1 over the channels; a position of zeros stays so."""
        if self.gates:
            gates = self.values(first, second)
            first, second = first + first * gates, second + second * gates
        return functional.normalize(first, dim=1), functional.normalize(second, dim=1)


class GatedSiamese(Backbone):
    """Three convolutions give each image a feature map; a gate before each of three more compares the maps of a pair.

    Options:
        gates: Use the gates; false for the same network without them.
        features: Size of the final feature of each image of a pair.
        height: Height of the input in pixels, a multiple of 8.
        width: Width of the input in pixels, a multiple of 8.
        channels: Factor on the number of filters of every convolution.

    The first stage maps images [B, 3, height, width], pixels / 255, to flattened maps [B, h * height/8 * width/8]. The
    pair stage has filters of one row without padding, which bring the columns down to 1, a gate before each and one
    behind the last, and a linear layer; the distance of a pair is the Euclidean one of its features of length 1, from 0
    to 2. ``alone`` is the same without gates. Every convolution has a batch norm and a PReLU. Convolutions start from
    He et al., the linear layer from Glorot et al., biases from 0, sampled from torch's global generator. Raises
    OptionError for sizes out of range.
    Source: after Varior, Haloi, Wang 2016, "Gated Siamese Convolutional Neural Network Architecture for Human
    Re-Identification", [31] of Hermans et al. 2017: input, gates, one-row filters and norms; all sizes are ours.
    """

    def __init__(
        self, *, gates: bool = True, features: int = 128, height: int = 128, width: int = 64, channels: float = 1.0
    ) -> None:
        super().__init__()
        for name, size in (("height", height), ("width", width)):
            if size < 8 or size % 8:
                raise OptionError(f"gated_siamese: {name} must be a multiple of 8; got {size}")
        if features < 1 or channels < 1 / 64:
            raise OptionError(f"gated_siamese: expected features >= 1 and channels >= 1/64, got {features}, {channels}")
        self.preprocess = Preprocess(height, width)
        self.stem, before = nn.Sequential(), 3
        for filters, kernel in STEM:
            after = max(1, round(channels * filters))
            self.stem.extend([*_layer(before, after, (kernel, kernel), kernel // 2), nn.MaxPool2d(2)])
            before = after
        rows, columns = height // 8, width // 8
        self.map = (before, rows, columns)
        self.embedding_dim = before * rows * columns
        self.gates, self.layers = nn.ModuleList(), nn.ModuleList()
        less = (columns - 1) // 3
        for kernel in (less + 1, less + 1, columns - 2 * less):
            self.gates.append(Gate(before, columns, gates))
            self.layers.append(nn.Sequential(*_layer(before, before, (1, kernel), 0)))
            columns -= kernel - 1
        self.gates.append(Gate(before, columns, gates))
        self.feature = nn.Linear(before * rows, features)
        nn.init.xavier_uniform_(self.feature.weight)
        nn.init.zeros_(self.feature.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the flattened maps [B, D] of ``images`` [B, 3, height, width]."""
        return self.stem(images).flatten(1)

    def pair(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances [n] of pairs of rows [n, D]."""
        first, second = self._features(a, b)
        return torch.linalg.vector_norm(first - second, dim=1)

    def alone(self, rows: Tensor) -> Tensor:
        """Return the features [n, features] of rows [n, D] without gates."""
        maps = functional.normalize(rows.unflatten(1, self.map), dim=1)
        for layer in self.layers:
            maps = functional.normalize(layer(maps), dim=1)
        return functional.normalize(self.feature(maps.flatten(1)), dim=1)

    def pair_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of all but the first stage."""
        return [*self.gates.parameters(), *self.layers.parameters(), *self.feature.parameters()]

    def _features(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features [n, features] of both sides of pairs, of length 1."""
        first, second = self.gates[0](a.unflatten(1, self.map), b.unflatten(1, self.map))
        for layer, gate in zip(self.layers, self.gates[1:], strict=True):
            # Together, so that batch norms see both sides alike.
            first, second = gate(*layer(torch.cat([first, second])).chunk(2))
        features = self.feature(torch.cat([first, second]).flatten(1))
        first, second = functional.normalize(features, dim=1).chunk(2)
        return first, second


def _layer(before: int, after: int, kernel: tuple[int, int], padding: int) -> list[nn.Module]:
    """Return a convolution, its batch norm and its PReLU."""
    convolution = nn.Conv2d(before, after, kernel, padding=padding, bias=False)  # the batch norm has one
    nn.init.kaiming_normal_(convolution.weight, a=0.25)  # PReLU's first slope
    return [convolution, nn.BatchNorm2d(after), nn.PReLU(after)]


@hookimpl
def register_backbones() -> dict[str, type[Backbone]]:
    """Offer gated_siamese."""
    return {"gated_siamese": GatedSiamese}
