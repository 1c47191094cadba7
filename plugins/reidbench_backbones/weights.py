"""Pretrained weights: their files, what those expect of an image, and loading them into a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from reidbench import DataError, File

SHOWN = 5  # names of tensors in a message

Weights = Literal["imagenet"] | File | None

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


def read_normalisation(file: Path) -> Normalisation:
    """Return the normalisation in a safetensors file's metadata ("mean", "std", "channels"); reads no tensor.

    Raises DataError, naming the keys and how to write them, where one is missing or invalid.
    """
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(f"{file}: not a safetensors file ({error}); convert it, and {HOW_TO_WRITE}") from None
    missing = [key for key in ("mean", "std", "channels") if key not in metadata]
    if missing:
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
        values = ", ".join(f"{key}={metadata[key]!r}" for key in ("mean", "std", "channels"))
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


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; raises DataError where it is damaged."""
    try:
        return safetensors.torch.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(f"{file}: cannot be read: {error}; the file is damaged, write it again") from None


def read_torch_file(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.pth`` file, read with ``weights_only``; raises DataError where it is damaged."""
    try:
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise DataError(f"{file}: cannot be read: {_one_line(error)}; delete it to download it again") from None


def load_weights(
    network: nn.Module,
    head: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    classifier: Sequence[str],
    flip: Sequence[str] = (),
) -> None:
    """Load tensors named as in the network, or as in a checkpoint of reidbench ("network.", "head.").

    Tensors of the layers in ``classifier`` are left out. The layers in ``flip`` read B, G, R in the file and will read
    R, G, B. Counters of batch norms may be missing, since nothing reads them. Raises DataError, naming ``source`` and
    the tensors that are missing, unexpected or of another shape.
    """
    expected = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    of_head = {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    if expected.keys().isdisjoint(tensors):
        dropped = {f"{layer}.{name}" for layer in classifier for name in ("weight", "bias")}
        tensors = {f"network.{name}": tensor for name, tensor in tensors.items() if name not in dropped}
    elif not of_head.keys().isdisjoint(tensors):
        expected |= of_head
    mistakes = {
        "missing": [n for n in expected if n not in tensors and not n.endswith(".num_batches_tracked")],
        "unexpected": [n for n in tensors if n not in expected],
        "of another shape": [
            f"{n} {list(tensors[n].shape)}, expected {list(expected[n].shape)}"
            for n in expected
            if n in tensors and tensors[n].shape != expected[n].shape
        ],
    }
    if any(mistakes.values()):
        listed = "; ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in mistakes.items() if names)
        raise DataError(f"{source}: does not fit this network: {listed}")
    flipped = {f"network.{layer}.weight": tensors[f"network.{layer}.weight"].flip(1) for layer in flip}
    nn.ModuleDict({"network": network, "head": head}).load_state_dict({**tensors, **flipped}, strict=False)


def _first(names: Sequence[str]) -> str:
    shown = [name.removeprefix("network.") for name in names[:SHOWN]]
    return ", ".join(shown) + (", …" if len(names) > SHOWN else "")


def torch_hub_file(url: str, owner: str) -> Path:
    """Return a published file in torch.hub's folder, downloaded where it is not there yet.

    The digits after the last "-" of its name are the start of its sha256. Raises DataError, naming file and folder,
    where it cannot be downloaded or has another sha256.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(url).name
    prefix = file.stem.rpartition("-")[2]
    try:
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), prefix)
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except Exception as error:  # torch.hub raises errors of several libraries
        raise _not_found(owner, file.name, str(file.parent), url, error) from None
    if not digest.startswith(prefix):
        raise DataError(
            f"{owner}: {file}: has the sha256 {digest[:8]}…, expected {prefix}…; delete it to download it again"
        )
    return file


def hugging_face_file(repository: str, names: Sequence[str], owner: str) -> Path:
    """Return the first of these files that a repository of the Hugging Face hub has: from its cache, else downloaded.

    ``repository`` may end with "@" and a revision. Raises DataError, naming repository, files and cache folder, where
    none can be downloaded.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache  # noqa: PLC0415, slow to import
    from huggingface_hub.errors import RemoteEntryNotFoundError  # noqa: PLC0415

    name, _, revision = repository.partition("@")
    for file in names:
        cached = try_to_load_from_cache(name, file, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    reason: Exception = FileNotFoundError("the repository has no such file")
    try:
        for file in names:
            with suppress(RemoteEntryNotFoundError):
                return Path(hf_hub_download(name, file, revision=revision or None))
    except Exception as error:  # the hub's client raises errors of several libraries
        reason = error
    raise _not_found(owner, " or ".join(names), str(constants.HF_HUB_CACHE), f"huggingface.co/{name}", reason)


def _not_found(owner: str, file: str, folder: str, origin: str, error: Exception) -> DataError:
    return DataError(
        f"{owner}: pretrained weights not found: {file} is not in {folder} and could not be downloaded from {origin} "
        f"({_one_line(error)}); download it on a machine with a network, or train from random weights: weights=none"
    )


def _one_line(error: Exception) -> str:
    """Return the innermost reason of an error, in one line."""
    inner: BaseException = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    return " ".join(str(inner).split())[:200] or type(inner).__name__
