"""Download files that an address and a sha256 name; each is cached under its sha256, which is checked at every use."""

from __future__ import annotations

import re
import tempfile
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reidbench.errors import DataError
from reidbench.utils.machine import default_cache
from reidbench.utils.untrusted_files import ARRAY_BYTES, file_digest

SUFFIX = ".safetensors"
HUB = "hf://"
_FORM = re.compile(r"(hf://[^#/]+/[^#/]+/[^#]+\.safetensors|https?://[^#]+\.safetensors)#sha256=([0-9a-f]{64})")
_BLOCK = 2**20
_SECONDS = 30.0  # without an answer


def cached_weights(address: str) -> Path:
    """Return the file of ``https://…#sha256=DIGEST`` or ``hf://OWNER/NAME/FILE#sha256=DIGEST``, downloaded if need be.

    Raises DataError for another form of address, where nothing can be downloaded, and where its sha256 is another.
    """
    form = _FORM.fullmatch(address)
    if not form:
        raise DataError(
            f"expected https://HOST/PATH{SUFFIX}#sha256=DIGEST or {HUB}OWNER/NAME/PATH{SUFFIX}#sha256=DIGEST, with the "
            "64 digits that the publisher names: weights of an unknown digest are not downloaded"
        )
    place, digest = form.groups()
    file = default_cache() / "weights" / f"{digest}{SUFFIX}"
    if file.is_file() and file_digest(file) == digest:
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        try:
            downloaded = (_from_hub if place.startswith(HUB) else _from_url)(place, Path(folder))
        except Exception as error:  # urllib, the hub's client and its HTTP library raise errors of their own
            raise DataError(f"{place}: cannot be downloaded: {error}") from None
        if (found := file_digest(downloaded)) != digest:
            raise DataError(f"{place}: has the sha256 {found}, expected {digest}; it is not used")
        downloaded.replace(file)
    return file


def _from_url(place: str, folder: Path) -> Path:
    _check_address(place)
    opener, file = urllib.request.build_opener(_Redirects), folder / "weights"
    with opener.open(place, timeout=_SECONDS) as answer, file.open("wb") as written:
        while block := answer.read(_BLOCK):
            _check_size(written.tell() + len(block))
            written.write(block)
    return file


def _from_hub(place: str, folder: Path) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url  # noqa: PLC0415 - takes a second

    owner, name, file = place.removeprefix(HUB).split("/", 2)
    _check_address(url := hf_hub_url(f"{owner}/{name}", file))
    _check_size(get_hf_file_metadata(url).size or 0)
    return Path(hf_hub_download(f"{owner}/{name}", file, local_dir=folder))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that are allowed."""

    def redirect_request(self, *request: Any) -> urllib.request.Request | None:
        _check_address(request[-1])
        return super().redirect_request(*request)


def _check_size(size: int) -> None:
    if size > ARRAY_BYTES:
        raise DataError(f"has more than the {ARRAY_BYTES:,} bytes that are read")


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and (parts.scheme, parts.hostname) not in (("http", "localhost"), ("http", "127.0.0.1")):
        raise DataError(f"{parts.scheme}://{parts.netloc} is neither https nor this machine")
