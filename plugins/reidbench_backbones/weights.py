"""Pretrained weights: finding, fetching and reading their files, and fitting them to a network."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import math
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from reidbench import DataError, File, track

TIMEOUT = 10.0  # seconds without an answer after which a fetch is given up
MEBIBYTE = 1 << 20
SHOWN = 5  # names of tensors in a message

Weights = Literal["imagenet"] | File | None

HOW_TO_WRITE = (
    "write it with safetensors.torch.save_file(tensors, path, metadata={"
    '"mean": "[0.485, 0.456, 0.406]", "std": "[0.229, 0.224, 0.225]", "channels": "RGB"}): three numbers each, for '
    'pixels divided by 255, in the order of the channels, which are "RGB" or "BGR"'
)


@dataclass(frozen=True)
class Normalisation:
    """What weights expect of pixels / 255: ``mean`` and ``std`` of the channels, in the order R, G, B.

    ``bgr`` says that the weights themselves read B, G, R.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False


def read_normalisation(file: Path) -> Normalisation:
    """Return what a safetensors file's metadata says under "mean", "std" and "channels"; no tensor is read.

    Raises DataError, naming the keys and how to write them, where one is missing or makes no sense.
    """
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(f"{file}: is no safetensors file ({error}); convert it, and {HOW_TO_WRITE}") from None
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
        said = ", ".join(f"{key}={metadata[key]!r}" for key in ("mean", "std", "channels"))
        raise DataError(f"{file}: its metadata says {said}, which is no normalisation; {HOW_TO_WRITE}")
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
        raise DataError(f"{file}: cannot be read: {error}; it is damaged, so make it again") from None


def read_published(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that torch wrote, and nothing but tensors; raises DataError where it is damaged."""
    try:
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise DataError(f"{file}: cannot be read: {_one_line(error)}; delete it to fetch it again") from None


def load(
    network: nn.Module,
    head: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    classifier: Sequence[str],
    flip: Sequence[str] = (),
) -> None:
    """Load tensors named as in the network, or as in a trained run of reidbench ("network.", "head.").

    Tensors of the layers in ``classifier`` are left out. The layers in ``flip`` read B, G, R in the file and will read
    R, G, B. Counters of batch norms may be missing, which nothing reads. Raises DataError, naming ``source`` and the
    tensors that are missing, unexpected or of another shape.
    """
    own = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    of_head = {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    if own.keys().isdisjoint(tensors):
        dropped = {f"{layer}.{name}" for layer in classifier for name in ("weight", "bias")}
        tensors = {f"network.{name}": tensor for name, tensor in tensors.items() if name not in dropped}
    elif not of_head.keys().isdisjoint(tensors):
        own |= of_head
    mistakes = {
        "missing": [n for n in own if n not in tensors and not n.endswith(".num_batches_tracked")],
        "unexpected": [n for n in tensors if n not in own],
        "of another shape": [
            f"{n} {list(tensors[n].shape)}, expected {list(own[n].shape)}"
            for n in own
            if n in tensors and tensors[n].shape != own[n].shape
        ],
    }
    if any(mistakes.values()):
        said = "; ".join(f"{len(names)} {what} ({_first(names)})" for what, names in mistakes.items() if names)
        raise DataError(f"{source}: is not of this network: {said}")
    flipped = {f"network.{layer}.weight": tensors[f"network.{layer}.weight"].flip(1) for layer in flip}
    nn.ModuleDict({"network": network, "head": head}).load_state_dict({**tensors, **flipped}, strict=False)


def _first(names: Sequence[str]) -> str:
    shown = [name.removeprefix("network.") for name in names[:SHOWN]]
    return ", ".join(shown) + (", …" if len(names) > SHOWN else "")


def torch_hub_file(url: str, owner: str) -> Path:
    """Return a published file in torch.hub's folder, fetched where it is not there yet.

    The digits after the last "-" of its name must begin the sha256 of its content. Raises DataError, naming the file,
    the folder, and why it could not be fetched.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / PurePosixPath(url).name
    match = re.search(r"-([0-9a-f]{8,})\.\w+$", file.name)
    prefix = match[1] if match else ""
    found = "is not there"
    try:
        if file.is_file():
            if _sha256(file).startswith(prefix):
                return file
            found = "is there, but its content is not what its name says (sha256)"
        _fetch(url, file, prefix)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(not_found(owner, file.name, str(folder), found, f"from {url}", error)) from None
    return file


def _fetch(url: str, file: Path, prefix: str) -> None:
    """Write the content of ``url`` to ``file``, whole and checked or not at all."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(6)}.tmp")
    with _open(url) as answer:
        length = int(answer.headers.get("Content-Length") or 0)

        def chunks() -> Iterator[bytes]:
            while chunk := answer.read(MEBIBYTE):
                yield chunk

        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as opened:
                for chunk in track(chunks(), math.ceil(length / MEBIBYTE), f"fetching {file.name} (MiB)"):
                    opened.write(chunk)
            digest = _sha256(temporary)
            if not digest.startswith(prefix):
                raise ValueError(f"what came has the sha256 {digest[:8]}…, not {prefix}…")
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def model_hub_file(repository: str, names: Sequence[str], owner: str) -> Path:
    """Return the first of these files that a repository of the Hugging Face hub has: from its cache, else fetched.

    ``repository`` may end with "@" and a revision. Raises DataError, naming repository, files and folder, and why none
    could be fetched.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache  # noqa: PLC0415, slow to import
    from huggingface_hub.errors import EntryNotFoundError  # noqa: PLC0415

    name, _, revision = repository.partition("@")
    for file in names:
        cached = try_to_load_from_cache(name, file, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    reason: Exception = FileNotFoundError("the repository has none of these")
    try:
        _reach(constants.ENDPOINT)
        for file in names:
            with contextlib.suppress(EntryNotFoundError):
                return Path(hf_hub_download(name, file, revision=revision or None, etag_timeout=TIMEOUT))
    except Exception as error:  # the hub raises errors of several libraries
        reason = error
    folder = str(constants.HF_HUB_CACHE)
    raise DataError(not_found(owner, " or ".join(names), folder, "is not there", f"from huggingface.co/{name}", reason))


def _reach(address: str) -> None:
    """Raise OSError at once where a server cannot be reached: the hub's own client would try for half a minute."""
    with contextlib.suppress(urllib.error.HTTPError):  # an answer, whatever it says
        _open(urllib.request.Request(address, method="HEAD")).close()


def _open(request: str | urllib.request.Request) -> Any:
    """Return a server's answer; proxies are those of the environment as it is now, not at the first call."""
    return urllib.request.build_opener().open(request, timeout=TIMEOUT)


def not_found(owner: str, file: str, folder: str, found: str, origin: str, error: Exception) -> str:
    """Return the one message for weights that can be neither found nor fetched."""
    return (
        f"{owner}: the weights are not at hand: {file} was looked for in {folder} and {found}, and could not be "
        f"fetched {origin} ({_one_line(error)}); fetch it with a network, or train from drawn weights: weights=none"
    )


def _one_line(error: Exception) -> str:
    """Return the reason that lies deepest in an error, in one line."""
    inner: BaseException = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    return " ".join(str(inner).split())[:200] or type(inner).__name__
