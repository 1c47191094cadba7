"""Download files that an address and a sha256 name; each is cached under its sha256, which is checked at every use."""

from __future__ import annotations

import re
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reidbench.errors import DataError
from reidbench.utils.machine import default_cache
from reidbench.utils.untrusted_files import ARRAY_BYTES, file_digest

# (host and path, or owner, name and path; the sha256)
_FORM = re.compile(r"(https?://[^#]+\.safetensors|hf://[^#/]+/[^#/]+/[^#]+\.safetensors)#sha256=([0-9a-f]{64})")

_only_cached = ContextVar("_only_cached", default=False)


@contextmanager
def without_downloads() -> Iterator[None]:
    """Use only what is cached in the block, as where other people's records name the addresses."""
    token = _only_cached.set(True)
    try:
        yield
    finally:
        _only_cached.reset(token)


def cached_weights(address: str) -> Path:
    """Return the file of ``https://…#sha256=DIGEST`` or ``hf://OWNER/NAME/FILE#sha256=DIGEST``, downloaded if need be.

    Raises DataError for another form of address, where nothing can or may be downloaded, and where its sha256 is
    another.
    """
    form = _FORM.fullmatch(address)
    if not form:
        raise DataError(
            "expected https://HOST/PATH.safetensors#sha256=DIGEST or hf://OWNER/NAME/PATH.safetensors#sha256=DIGEST, "
            "with the 64 digits that the publisher names: weights of an unknown digest are not downloaded"
        )
    place, digest = form.groups()
    file = default_cache() / "weights" / f"{digest}.safetensors"
    if file.is_file() and file_digest(file) == digest:
        return file
    if _only_cached.get():
        raise DataError(f"{place}: is not in {file.parent}, and addresses in other people's records are not downloaded")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        try:
            downloaded = (_from_hub if place.startswith("hf:") else _from_url)(place, Path(folder))
        except Exception as error:  # urllib, the hub's client and its HTTP library raise errors of their own
            raise DataError(f"{place}: cannot be downloaded: {error}") from None
        if (actual := file_digest(downloaded)) != digest:
            raise DataError(f"{place}: has the sha256 {actual}, expected {digest}; it is not used")
        downloaded.replace(file)
    return file


def _from_url(place: str, folder: Path) -> Path:
    _check(place)
    opener, file = urllib.request.build_opener(_Redirects), folder / "weights"
    with opener.open(place, timeout=30) as answer, file.open("wb") as written:
        while block := answer.read(2**20):
            _check(place, written.tell() + len(block))
            written.write(block)
    return file


def _from_hub(place: str, folder: Path) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url  # noqa: PLC0415 - takes a second

    *repository, file = place.removeprefix("hf://").split("/", 2)
    url = hf_hub_url("/".join(repository), file)
    _check(url)
    _check(url, get_hf_file_metadata(url).size or ARRAY_BYTES + 1)  # an unknown size is refused
    return Path(hf_hub_download("/".join(repository), file, local_dir=folder))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that are allowed."""

    def redirect_request(self, *request: Any) -> urllib.request.Request | None:
        _check(request[-1])
        return super().redirect_request(*request)


def _check(url: str, size: int = 0) -> None:
    """Raise DataError for an address that is neither https nor this machine's, and for too large a file."""
    parts = urlsplit(url)
    if parts.scheme != "https" and (parts.scheme, parts.hostname) not in (("http", "localhost"), ("http", "127.0.0.1")):
        raise DataError(f"{parts.scheme}://{parts.netloc} is neither https nor this machine")
    if size > ARRAY_BYTES:
        raise DataError(f"has more than the {ARRAY_BYTES:,} bytes that are read")
