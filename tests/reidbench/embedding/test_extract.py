"""Streamed embeddings against a loop over images and crops with a small network."""

import os
import signal
import threading
import time
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from reidbench.data.samples import Samples
from reidbench.embedding import extract
from reidbench.embedding.extract import embed_images, embed_stored
from reidbench.errors import DataError
from reidbench.images.augment import VIEWS, stored_size, view_crops
from reidbench.images.decode import decode_images
from reidbench.images.pixel_file import open_pixels
from reidbench.images.resize import resize_image
from reidbench.plugins.interfaces import Backbone, Preprocess
from reidbench.utils.machine import local_machine
from tests.support.images import noise_images

cpu = partial(local_machine, device="cpu")


class SmallNet(Backbone):
    def __init__(self) -> None:
        super().__init__()
        self.embedding_dim = 6
        self.preprocess = Preprocess(height=16, width=8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
        self.convolution = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.frozen_norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout()
        self.head = nn.LazyLinear(self.embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        features = self.frozen_norm(self.norm(self.convolution(images)).relu())
        return self.head(self.dropout(features.flatten(1)))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = SmallNet()
    network.train()
    for _ in range(3):
        network(torch.rand(32, 3, 16, 8))  # so that running statistics and batch statistics differ
    return network


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return noise_images(tmp_path_factory.mktemp("images"), [1] * 70)


def one_by_one(network: SmallNet, samples: Samples, views: str) -> np.ndarray:
    preprocess = network.preprocess
    (height, width), crops = view_crops(views, preprocess)
    network.eval()
    rows = []
    for name in samples.images.tolist():
        pixels = np.empty((height, width, 3), dtype=np.uint8)
        resize_image(np.asarray(Image.open(samples.root / name).convert("RGB")), pixels)
        image = Image.fromarray(pixels)
        outputs = []
        for top, left, flipped in crops:
            crop = image.crop((left, top, left + preprocess.width, top + preprocess.height))
            if flipped:
                crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            values = (np.asarray(crop) / 255 - preprocess.mean) / preprocess.std
            with torch.no_grad():
                outputs.append(network(torch.from_numpy(values.transpose(2, 0, 1)[None]).float())[0].double().numpy())
        rows.append(np.mean(outputs, axis=0))
    network.train()
    return np.stack(rows)


@pytest.mark.parametrize("delay", [0, 1, 20])
def test_delayed_reading_changes_nothing(network, samples, monkeypatch, delay):
    """As on a GPU: the last embeddings are read after the last batch, which is cut to the number of images."""
    monkeypatch.setattr(extract, "BATCH", 8)
    expected = embed_images(network, samples, "center_flip", cpu(threads=2), "embedding")
    monkeypatch.setattr(extract, "_read_delay", lambda device: delay)
    for count in (0, 1, 8, 9, 64, 70):
        part = samples.take(np.arange(count))
        assert torch.equal(embed_images(network, part, "center_flip", cpu(threads=2), "embedding"), expected[:count])


@pytest.mark.parametrize("views", VIEWS)
def test_views_are_averaged(network, samples, views):
    embeddings = embed_images(network, samples, views, cpu(threads=2), "embedding")
    assert embeddings.dtype == torch.float32
    np.testing.assert_allclose(embeddings.numpy(), one_by_one(network, samples, views), rtol=1e-5, atol=1e-5)


def test_threads_and_number_of_images_do_not_matter(network, samples, monkeypatch):
    everything = embed_images(network, samples, "center_flip", cpu(threads=1), "embedding")
    assert torch.equal(embed_images(network, samples, "center_flip", cpu(threads=3), "embedding"), everything)
    for count in (1, 5):
        few = embed_images(network, samples.take(np.arange(count)), "center_flip", cpu(threads=1), "embedding")
        assert torch.equal(few, everything[:count])
    monkeypatch.setattr(extract, "BATCH", 7)
    other = embed_images(network, samples, "center_flip", cpu(threads=1), "embedding")
    torch.testing.assert_close(other, everything, rtol=1e-5, atol=1e-5)


def test_modes_are_restored(network, samples):
    network.train()
    network.frozen_norm.eval()
    embed_images(network, samples.take(np.arange(3)), "original", cpu(threads=1), "embedding")
    assert network.training
    assert network.norm.training
    assert not network.frozen_norm.training
    broken = Samples.of_images(samples.root, ["missing.png"], [1], [1])
    with pytest.raises(DataError, match=r"missing\.png"):
        embed_images(network, broken, "original", cpu(threads=1), "embedding")
    assert network.training
    network.train()


class Interrupting(SmallNet):
    """A network that is interrupted at its third batch."""

    def forward(self, images: Tensor) -> Tensor:
        self.seen = getattr(self, "seen", 0) + 1
        if self.seen == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return super().forward(images)


@pytest.mark.parametrize("of", ["files", "store"])
def test_interruption_leaves_no_thread_and_restores_modes(samples, tmp_path, monkeypatch, of):
    monkeypatch.setattr(extract, "BATCH", 8)
    network = Interrupting()
    network.train()
    store = open_pixels(samples, 16, 8, local_machine(cache=tmp_path, device="cpu", pixels="map"))

    def embed():
        if of == "files":
            return embed_images(network, samples, "original", cpu(threads=3), "embedding")
        return embed_stored(network, store, np.arange(70))

    with pytest.raises(KeyboardInterrupt) as caught:
        embed()
    assert network.seen == 3
    assert network.training
    # Even while the error refers to every frame that it passed.
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")], caught


@pytest.mark.parametrize("threads", [1, 3])
def test_only_a_few_batches_are_decoded_ahead(samples, monkeypatch, threads):
    monkeypatch.setattr(extract, "BATCH", 2)
    decoded: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def recording(samples, images, out, digests):
        decode_images(samples, images, out, digests)
        decoded.append(weakref.ref(out.base))

    class Slow(SmallNet):
        def forward(self, images: Tensor) -> Tensor:
            time.sleep(0.01)
            alive.append(sum(pixels() is not None for pixels in decoded))
            return super().forward(images)

    embed_images(Slow(), samples, "original", cpu(threads=threads), "embedding", decode=recording)
    assert len(decoded) == len(alive) == 35
    assert threads <= max(alive) <= threads + 2


def test_embeddings_can_be_differentiated(network, samples):
    embeddings = embed_images(network, samples.take(np.arange(2)), "original", cpu(threads=1), "embedding")
    weight = torch.ones(6, requires_grad=True)
    (embeddings * weight).sum().backward()
    assert torch.allclose(weight.grad, embeddings.sum(dim=0))


@pytest.mark.parametrize("crop", [True, False])
def test_stored_pixels_give_the_embeddings_of_the_files(network, samples, tmp_path, crop):
    size = stored_size(network.preprocess, crop)
    store = open_pixels(samples, *size, local_machine(cache=tmp_path, threads=1, device="cpu"))
    images = np.array([3, 69, 0, 3, *range(66)])
    network.train()
    network.frozen_norm.eval()
    embeddings = embed_stored(network, store, images)
    assert network.training
    assert network.norm.training
    assert not network.frozen_norm.training
    network.train()
    expected = embed_images(network, samples, "center" if crop else "original", cpu(threads=1), "embedding")[images]
    torch.testing.assert_close(embeddings, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(embed_stored(network, store, images[1:4]), embeddings[1:4]), "whatever else is embedded"
    assert embed_stored(network, store, np.array([], dtype=np.int64)).shape == (0, 6)
    assert not embeddings.requires_grad
    (embeddings * torch.ones(6, requires_grad=True)).sum().backward()
