"""Weights by address: nothing but the file of the digest is used, and it is downloaded once."""

from __future__ import annotations

import hashlib

import pytest
from huggingface_hub import constants

from reidbench.errors import DataError
from reidbench.utils import download
from reidbench.utils.download import cached_weights, without_downloads
from tests.support.cases import cases
from tests.support.weights_server import weights_server

CONTENT = b"weights" * 300_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def requests() -> list[str]:
    return []


@pytest.fixture
def server(requests, tmp_path, monkeypatch):
    monkeypatch.setenv("REIDBENCH_CACHE", str(tmp_path / "cache"))
    with weights_server(CONTENT, requests) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield address


@pytest.mark.parametrize("place", ["{server}/w.safetensors", "hf://owner/name/sub/w.safetensors"])
def test_a_file_is_downloaded_once(place: str, server: str, requests: list[str]) -> None:
    address = f"{place.format(server=server)}#sha256={DIGEST}"
    file = cached_weights(address)
    assert file.read_bytes() == CONTENT
    assert any("w.safetensors" in request for request in requests)
    count = len(requests)
    with without_downloads():
        assert cached_weights(address) == file
        with pytest.raises(DataError, match="not downloaded"):
            cached_weights(address.replace(DIGEST, "0" * 64))
    assert len(requests) == count, "without the network"
    file.write_bytes(b"damaged")
    assert cached_weights(address).read_bytes() == CONTENT
    assert [each.name for each in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(("address", "message"), cases(__file__, "other_addresses_are_refused"))
def test_other_addresses_are_refused(address: str, message: str, server: str, requests: list[str]) -> None:
    with pytest.raises(DataError, match=message):
        cached_weights(address.format(server=server, digest=DIGEST))
    assert not [request for request in requests if "elsewhere" not in request]


def test_another_digest_or_size_is_never_used(server, tmp_path, monkeypatch):
    for place in (f"{server}/w.safetensors", "hf://owner/name/w.safetensors"):
        with pytest.raises(DataError, match=DIGEST):
            cached_weights(f"{place}#sha256={'0' * 64}")
        with monkeypatch.context() as patch:
            patch.setattr(download, "ARRAY_BYTES", 1000)
            with pytest.raises(DataError, match="1,000 bytes"):
                cached_weights(f"{place}#sha256={DIGEST}")
    assert not list((tmp_path / "cache" / "weights").iterdir())
