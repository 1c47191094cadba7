"""Weights files: the normalisation in their metadata, their tensors, and loading them into a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from torch import Tensor, nn

from reidbench.errors import DataError

WEIGHTS = "weights.safetensors"
SHOWN = 5  # names of tensors in a message
_KEYS = ("mean", "std", "channels")

HOW_TO_WRITE = (
    "write it with safetensors.torch.save_file(tensors, path, metadata={"
    '"mean": "[0.485, 0.456, 0.406]", "std": "[0.229, 0.224, 0.225]", "channels": "RGB"}): three numbers each, for '
    'pixels divided by 255, in the order of the channels, which are "RGB" or "BGR"'
)


@dataclass(frozen=True)
class Normalisation:
    """The normalisation that weights expect.

    ``mean``: mean of each channel of pixels / 255, in the order R, G, B.
    ``std``: standard deviation of each channel, likewise.
    ``bgr``: whether the weights themselves read B, G, R.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False

    def as_metadata(self) -> dict[str, str]:
        """Return the metadata of a weights file from which ``read_normalisation`` returns this one, of RGB weights."""
        return {"mean": json.dumps(self.mean), "std": json.dumps(self.std), "channels": "RGB"}


def read_normalisation(file: Path) -> Normalisation:
    """Return the normalisation in a safetensors file's metadata ("mean", "std", "channels"); reads no tensor.

    Raises DataError, naming the keys and how to write them, where one is missing or invalid.
    """
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(f"{file}: not a safetensors file ({error}); convert it, and {HOW_TO_WRITE}") from None
    if missing := [key for key in _KEYS if key not in metadata]:
        raise DataError(f"{file}: its metadata has no {', '.join(missing)}; {HOW_TO_WRITE}")
    mean, std = (_three_numbers(metadata[key]) for key in ("mean", "std"))
    channels = metadata["channels"]
    if (
        channels not in ("RGB", "BGR")
        or mean is None
        or std is None
        or not all(0 <= value <= 1 for value in mean)
        or not all(0 < value <= 1 for value in std)
    ):
        values = ", ".join(f"{key}={metadata[key]!r}" for key in _KEYS)
        raise DataError(f"{file}: its metadata is no valid normalisation: {values}; {HOW_TO_WRITE}")
    if channels == "BGR":
        return Normalisation(mean[::-1], std[::-1], bgr=True)
    return Normalisation(mean, std)


def _three_numbers(text: str) -> tuple[float, float, float] | None:
    try:
        first, second, third = map(float, json.loads(text))
    except (ValueError, TypeError):
        return None
    return (first, second, third)


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load tensors named as in ``module``; counters of batch norms may be missing, since nothing reads them.

    Raises DataError, naming ``source`` and the tensors that are missing, unexpected, of another shape, of whole numbers
    where the network has fractions or the other way round, or not finite; then nothing is loaded.
    """
    expected = module.state_dict()
    shared = {name: (tensors[name], like) for name, like in expected.items() if name in tensors}
    mistakes = {
        "missing": [n for n in expected if n not in tensors and not n.endswith(".num_batches_tracked")],
        "unexpected": [n for n in tensors if n not in expected],
        "of another shape": [
            f"{n} {list(tensor.shape)}, expected {list(like.shape)}"
            for n, (tensor, like) in shared.items()
            if tensor.shape != like.shape
        ],
        "of another type": [
            f"{n} {tensor.dtype}, expected {like.dtype}"
            for n, (tensor, like) in shared.items()
            if tensor.is_floating_point() != like.is_floating_point()
        ],
        "not finite": [
            n
            for n, (tensor, like) in shared.items()
            if not bool(torch.isfinite(tensor).all()) and bool(torch.isfinite(like).all())
        ],
    }
    if any(mistakes.values()):
        listed = "; ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in mistakes.items() if names)
        raise DataError(f"{source}: does not fit this network: {listed}")
    module.load_state_dict(tensors, strict=False)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
