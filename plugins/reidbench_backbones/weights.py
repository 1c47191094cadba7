"""Pretrained weights: published files, and loading them into a network with a head."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Literal

import torch
from torch import Tensor, nn

from reidbench import DataError, Weights, load_tensors

Choice = Literal["imagenet"] | Weights | None


def read_torch_file(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.pth`` file, read with ``weights_only``; raises DataError where it is damaged."""
    try:
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise DataError(f"{file}: cannot be read: {_one_line(error)}; delete it to download it again") from None


def load_weights(
    backbone: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    classifier: Sequence[str],
    flip: Sequence[str] = (),
) -> None:
    """Load tensors named as in ``backbone.network``, or as in a training of reidbench ("network.", "head.").

    Other parts, such as the head, are loaded where the file has them. Tensors of the layers in ``classifier`` are left
    out. The layers in ``flip`` read B, G, R in the file and will read R, G, B. Raises DataError as
    ``reidbench.load_tensors``.
    """
    dropped = {f"{layer}.{name}" for layer in classifier for name in ("weight", "bias")}
    tensors = {name: tensor for name, tensor in tensors.items() if name not in dropped}
    target, prefix = backbone.get_submodule("network"), ""
    parts = {name.partition(".")[0] for name in tensors}
    if "network" in parts:
        target, prefix = (
            nn.ModuleDict({name: part for name, part in backbone.named_children() if name in parts}),
            "network.",
        )
    for name in (f"{prefix}{layer}.weight" for layer in flip):
        if name in tensors:
            tensors[name] = tensors[name].flip(1)
    load_tensors(target, tensors, source)


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
