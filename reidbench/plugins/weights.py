"""Weights files: the normalisation in their metadata, their tensors, and loading them into a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import safetensors
import torch
from pydantic import Field, TypeAdapter
from torch import Tensor, nn

from reidbench.errors import DataError
from reidbench.utils.arrays import read_arrays

WEIGHTS = "weights.safetensors"
SHOWN = 5  # names of tensors in a message
NO_CHECKSUM = "0" * 64  # where the checksum is not yet known
_KEYS = ("mean", "std", "channels")
Mean = Annotated[float, Field(ge=0, le=1)]  # of a channel, on the 0..1 scale
Std = Annotated[float, Field(ge=1e-3, le=1)]
_MEAN, _STD = TypeAdapter(tuple[Mean, Mean, Mean]), TypeAdapter(tuple[Std, Std, Std])

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
    try:
        mean, std = _MEAN.validate_json(metadata["mean"]), _STD.validate_json(metadata["std"])
        bgr = bool(("RGB", "BGR").index(metadata["channels"]))
    except ValueError:
        values = ", ".join(f"{key}={metadata[key]!r}" for key in _KEYS)
        raise DataError(f"{file}: its metadata is no valid normalisation: {values}; {HOW_TO_WRITE}") from None
    return Normalisation(mean[::-1], std[::-1], bgr=True) if bgr else Normalisation(mean, std)


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the tensors of an untrusted weights file, of which a checksum in the metadata must be right.

    Raises DataError, naming the file, where it is damaged.
    """
    tensors = read_arrays(file)
    with safetensors.safe_open(file, framework="pt") as opened:
        has_checksum = "checksum" in (opened.metadata() or {})
    try:
        if has_checksum:
            check_checksum(file.read_bytes())
    except ValueError as error:
        raise DataError(f"{file}: is damaged: {error}; train it again, or use an intact copy") from None
    return tensors


def check_checksum(data: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file's content; raises ValueError where its "checksum" is wrong.

    It is the sha256 of the file, with ``NO_CHECKSUM`` in its own place.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8:end])["__metadata__"]
    digest = hashlib.sha256(data[:end].replace(metadata["checksum"].encode(), NO_CHECKSUM.encode(), 1))
    digest.update(memoryview(data)[end:])
    if digest.hexdigest() != metadata["checksum"]:
        raise ValueError("its checksum does not fit its content")
    return metadata


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load tensors named as in ``module``; counters of batch norms may be missing, since nothing reads them.

    Floats of 16, 32 or 64 bits become the network's. Raises DataError, naming ``source`` and the tensors that are
    missing, unexpected, of another shape or type, not finite (in the network's type), negative variances of a batch
    norm, or matrices that are all zero; then nothing is loaded.
    """
    expected = module.state_dict()
    shared = {name: (tensors[name], like) for name, like in expected.items() if name in tensors}
    values = {n: tensor.to(like.dtype) for n, (tensor, like) in shared.items() if _fits(tensor, like)}
    matrices = [n for n, value in values.items() if value.is_floating_point() and value.ndim > 1]
    mistakes = {
        "missing": [n for n in expected if n not in tensors and not n.endswith(".num_batches_tracked")],
        "unexpected": [n for n in tensors if n not in expected],
        "of another shape or type": [
            f"{n} {tensor.dtype} {list(tensor.shape)}, expected {like.dtype} {list(like.shape)}"
            for n, (tensor, like) in shared.items()
            if tensor.shape != like.shape or n not in values
        ],
        "not finite": [n for n, value in values.items() if _is_finite(expected[n]) and not _is_finite(value)],
        "negative": [n for n, value in values.items() if n.endswith("running_var") and bool((value < 0).any())],
        "all zero": [] if any(bool(values[n].any()) for n in matrices) else matrices,
    }
    if any(mistakes.values()):
        first = {kind: ", ".join(names[:SHOWN]) + ", …" * (len(names) > SHOWN) for kind, names in mistakes.items()}
        listed = "; ".join(f"{len(names)} {kind} ({first[kind]})" for kind, names in mistakes.items() if names)
        raise DataError(f"{source}: does not fit this network: {listed}")
    module.load_state_dict(tensors, strict=False)


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _fits(tensor: Tensor, like: Tensor) -> bool:
    """Return whether a tensor's numbers are of a type that becomes that of ``like`` with little or no rounding."""
    if like.is_floating_point():
        return tensor.is_floating_point() and tensor.element_size() > 1  # not 8 bits
    return not tensor.is_floating_point() and not tensor.is_complex()
