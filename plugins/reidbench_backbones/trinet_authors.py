"""The network of Hermans et al. 2017 as its authors published it: ResNet-50 of He et al. with the paper's head."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidbench import Backbone, DataError, OptionError, Preprocess, Weights, hookimpl, load_tensors, read_arrays

STAGES = (3, 4, 6, 3)  # blocks
SMALLEST = 32  # pixels for one cell of the last stage
EPSILON = 1e-4  # of every batch norm
MEAN = (123.15163084, 115.90288257, 103.0626238)  # of R, G and B from 0 to 255; nothing is divided
ROUNDING = 1e-6  # of a variance
NPZ_BYTES = 2**28  # the published files have 103 MB of arrays
PUBLISHED = {
    "5353f95d1489536129ec14638aded3c7": "trinet-market1501.npz",
    "72fafa2ee9aa3765f038d06e8dd8ef4b": "trinet-mars.npz",
}


class Block(nn.Module):
    """A bottleneck of He et al. 2016, with the stride in its first convolution: 1x1, 3x3 and 1x1 to 4 ``size``."""

    def __init__(self, before: int, size: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.shortcut = _Normed(before, 4 * size, 1, stride) if projection else nn.Identity()
        self.first = _Normed(before, size, 1, stride)
        self.second = _Normed(size, size, 3)
        self.third = _Normed(size, 4 * size, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated sum of the shortcut and the residual."""
        residual = self.third(self.second(self.first(x).relu()).relu())
        return (self.shortcut(x) + residual).relu()


class _Normed(nn.Sequential):
    """A convolution and its batch norm."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, *, bias: bool = False) -> None:
        convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=bias)
        super().__init__(convolution, nn.BatchNorm2d(after, eps=EPSILON))


class TriNetAuthors(Backbone):
    """TriNet as its authors published it, for their two weights files; not the network that ``resnet50`` trains.

    Options:
        weights: trinet-market1501.npz or trinet-mars.npz of the authors, a file or a run's folder as for resnet50, or
            none for random weights.
        height: Height of the input in pixels, at least 32.
        width: Width of the input in pixels, at least 32.
        channels: Width of the first stage; the authors' is 64.

    Maps images [B, 3, height, width] minus the authors' mean pixel to embeddings [B, 128], not normalised. The stride
    of a stage is in its first 1x1 convolution, the first convolution has a bias, its max pool no padding but a last
    window over the edge, and batch norms have an epsilon of 1e-4. Random weights start as torch's layers do.
    Raises OptionError for an option that is too small, DataError for a file that does not fit.
    Source: Hermans, Beyer, Leibe 2017; README and trinet_embed.py of VisualComputingInstitute/triplet-reid.
    """

    embedding_dim = 128

    def __init__(
        self, *, weights: Weights | None = None, height: int = 256, width: int = 128, channels: int = 64
    ) -> None:
        super().__init__()
        for name, value, least in (("height", height, SMALLEST), ("width", width, SMALLEST), ("channels", channels, 1)):
            if value < least:
                raise OptionError(f"trinet_authors: {name} must be at least {least}; got {value}")
        mean = (MEAN[0] / 255, MEAN[1] / 255, MEAN[2] / 255)
        preprocess = Preprocess(height, width, mean, (1 / 255, 1 / 255, 1 / 255))
        if weights is not None and weights.suffix == ".npz":
            self.preprocess, self.weights_file, self.pretrained = preprocess, weights, True
        else:
            self.use_weights(weights, preprocess)
        self.stem = _Normed(3, channels, 7, 2, bias=True)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.blocks = nn.Sequential()
        before = channels
        for stage, blocks in enumerate(STAGES):
            size = channels * 2**stage
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                self.blocks.append(Block(before, size, stride, projection=not block))
                before = 4 * size
        hidden = 16 * channels
        self.hidden = nn.Sequential(nn.Linear(before, hidden, bias=False), nn.BatchNorm1d(hidden, eps=EPSILON))
        self.embedding = nn.Linear(hidden, self.embedding_dim)

    def initialise(self) -> None:
        """Load the weights; raises DataError, naming the array and both shapes, where they do not fit."""
        if self.weights_file is not None and self.weights_file.suffix == ".npz":
            load_tensors(self, self.tensors_of(self.weights_file), str(self.weights_file))
        else:
            super().initialise()

    def tensors_of(self, file: Path) -> dict[str, Tensor]:
        """Return the tensors of an authors' file by their names here; raises DataError."""
        arrays = read_arrays(file, most=NPZ_BYTES)
        layout = list(self._layout())
        names = [f"arr_{number}" for number in range(len(layout))]
        if set(arrays) != set(names):
            different = sorted(set(arrays) ^ set(names))
            raise DataError(
                f"{_describe(file)}: expected the {len(names)} arrays {names[0]} to {names[-1]}, found {len(arrays)}; "
                f"{different[0]} is {'not expected' if different[0] in arrays else 'missing'}"
            )
        tensors = {}
        for name, (key, part, shape) in zip(names, layout, strict=True):
            array = arrays[name]
            if array.shape != shape or not np.issubdtype(array.dtype, np.floating):
                raise DataError(
                    f"{_describe(file)}: {name} must be {part} of {key}, floats {list(shape)}; "
                    f"found {array.dtype} {list(array.shape)}"
                )
            tensors[key] = torch.from_numpy(np.array(_converted(array, key, part), dtype=np.float32))
        return tensors

    def _layout(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Yield name of the tensor here, what the array holds and its shape, in the order of a file.

        Ours: Lasagne's order, depth first, so that a block's projection precedes its other layers.
        """
        tensors = self.state_dict()
        layers = ["stem.0", "stem.1"]
        for number, block in enumerate(self.blocks):
            parts = ["shortcut"] * isinstance(block.shortcut, _Normed) + ["first", "second", "third"]
            layers += [f"blocks.{number}.{part}.{place}" for part in parts for place in (0, 1)]
        for layer in [*layers, "hidden.0", "hidden.1", "embedding"]:
            parts = {"weight": "weights", "bias": "biases"}
            if f"{layer}.running_var" in tensors:
                parts = {"bias": "beta", "weight": "gamma", "running_mean": "mean", "running_var": "inv_std"}
            for name, part in parts.items():
                if (key := f"{layer}.{name}") in tensors:
                    shape = tuple(tensors[key].shape)
                    yield key, part, shape[::-1] if len(shape) == 2 else shape

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings [B, 128] of ``images`` [B, 3, height, width]."""
        x = self.pool(self.stem(images.contiguous(memory_format=torch.channels_last)).relu())
        return self.embedding(self.hidden(self.blocks(x).mean((2, 3))).relu())


def _converted(array: NDArray[Any], key: str, part: str) -> NDArray[Any]:
    """Return an array of a file as the tensor ``key``: variances, linear layers [out, in], the first layer in RGB."""
    if part == "inv_std":
        with np.errstate(divide="ignore"):
            variance = np.square(1 / array.astype(np.float64)) - EPSILON
        return np.where(np.abs(variance) < ROUNDING, np.maximum(variance, 0), variance)
    if key == "stem.0.weight":
        return array[:, ::-1]
    return array.T if array.ndim == 2 else array


def _describe(file: Path) -> str:
    """Return a file's path and whether its content is that of a published one."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "md5").hexdigest()
    return f"{file} ({PUBLISHED.get(digest, 'not one of the published files')}, md5 {digest})"


@hookimpl
def register_backbones() -> dict[str, type[Backbone]]:
    """Offer trinet_authors."""
    return {"trinet_authors": TriNetAuthors}
