"""The stores give the same batches bit for bit, and lend no memory twice."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reidbench.data.samples import Samples
from reidbench.errors import DataError
from reidbench.images.augment import Windows
from reidbench.images.crop import normalise
from reidbench.images.decode import decode_images
from reidbench.images.pixel_store import Buffers, DevicePixels, HostPixels, PixelStore, StreamedPixels
from reidbench.plugins.interfaces import Preprocess

CPU = torch.device("cpu")
PREPROCESS = Preprocess(height=16, width=8, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SIZE = (18, 9)
COUNT = 40


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    names = [f"{number}.{'png' if number % 4 else 'jpg'}" for number in range(COUNT)]
    for number, name in enumerate(names):
        Image.fromarray(generator.integers(0, 256, (20 + number, 11, 3), dtype=np.uint8)).save(folder / name)
    return Samples.of_images(folder, names, [1] * COUNT, [1] * COUNT)


@pytest.fixture(scope="module")
def pixels(samples: Samples) -> np.ndarray:
    out = np.zeros((COUNT, *SIZE, 3), dtype=np.uint8)
    decode_images(samples, range(COUNT), out)
    return out


@pytest.fixture
def stores(samples: Samples, pixels: np.ndarray, tmp_path: Path) -> dict[str, PixelStore]:
    file = tmp_path / "pixels"
    file.write_bytes(b"\0" * 4096 + pixels.tobytes())
    mapped = np.memmap(file, dtype=np.uint8, mode="r", offset=4096, shape=pixels.shape)
    return {
        "device": DevicePixels(torch.from_numpy(pixels)),
        "host": HostPixels(pixels, CPU, ahead=True),
        "map": HostPixels(mapped, CPU, ahead=True),
        "stream": StreamedPixels(samples, *SIZE, CPU, 3),
    }


def windows(seed: int, count: int = 30) -> Windows:
    generator = np.random.default_rng(seed)
    return Windows(
        generator.integers(0, COUNT, count),
        generator.integers(0, 3, count),
        generator.integers(0, 2, count),
        generator.random(count) < 0.5,
    )


@pytest.mark.parametrize("count", [0, 1, 30])
def test_every_store_gives_the_same_batch(stores: dict[str, PixelStore], pixels: np.ndarray, count: int) -> None:
    for seed in range(5):
        asked = windows(seed, count)
        expected = np.zeros((count, 16, 8, 3), dtype=np.uint8)
        for place in range(count):
            image = pixels[asked.images[place]]
            window = image[asked.top[place] :][:16, asked.left[place] :][:, :8]
            expected[place] = window[:, ::-1] if asked.mirrored[place] else window
        wanted = normalise(torch.from_numpy(expected), PREPROCESS)
        for name, store in stores.items():
            batch = store.finish(store.fetch(asked, PREPROCESS), PREPROCESS)
            assert torch.equal(batch, wanted), name
            assert batch.is_contiguous()
            assert store.shape == (COUNT, *SIZE, 3)
            assert store.device == CPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: pinned memory and its copies")
def test_a_gpu_gets_the_same_batch_from_every_store(samples: Samples, pixels: np.ndarray) -> None:
    gpu = torch.device("cuda:0")
    stores: list[PixelStore] = [
        DevicePixels(torch.from_numpy(pixels).to(gpu)),
        HostPixels(pixels, gpu, ahead=True),
        StreamedPixels(samples, *SIZE, gpu, 2),
    ]
    fetched = [store.fetch(windows(0), PREPROCESS) for store in stores]
    assert [tensor.is_pinned() for tensor in fetched] == [False, True, True]
    batches = [store.finish(tensor, PREPROCESS) for store, tensor in zip(stores, fetched, strict=True)]
    assert all(batch.device == gpu and torch.equal(batch, batches[0]) for batch in batches)


def test_for_another_device_the_pixels_are_cut_and_nothing_more(samples: Samples, pixels: np.ndarray) -> None:
    gpu = torch.device("cuda:0")
    asked = windows(3)
    expected = HostPixels(pixels, CPU, ahead=True).fetch(asked, PREPROCESS)
    for store in (HostPixels(pixels, gpu, ahead=True), StreamedPixels(samples, *SIZE, gpu, 2)):
        fetched = store.fetch(asked, PREPROCESS)
        assert fetched.dtype == torch.uint8
        assert torch.equal(normalise(fetched, PREPROCESS), expected)


def test_an_image_that_is_not_there_is_refused(stores: dict[str, PixelStore]) -> None:
    zero = np.zeros(1, dtype=np.int64)
    for image in (COUNT, -1):
        for name in ("host", "map"):
            with pytest.raises(IndexError, match=rf"images 0\.\.39, asked for \[{image}\]"):
                stores[name].fetch(Windows(zero + image, zero, zero, zero > 0), PREPROCESS)


def test_streaming_names_the_image_that_cannot_be_used(tmp_path: Path) -> None:
    for number in range(20):
        Image.fromarray(np.zeros((20, 10, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "13.png").write_bytes(b"no image")
    names = [f"{number}.png" for number in range(20)]
    store = StreamedPixels(Samples.of_images(tmp_path, names, [1] * 20, [1] * 20), *SIZE, CPU, 2)
    zeros = np.zeros(20, dtype=np.int64)
    with pytest.raises(DataError, match=r"13\.png: is no usable image"):
        store.fetch(Windows(np.arange(20), zeros, zeros, zeros > 0), PREPROCESS)
    fine = np.array([3, 3, 0])
    assert len(store.fetch(Windows(fine, zeros[:3], zeros[:3], zeros[:3] > 0), PREPROCESS)) == 3
    store.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_memory_is_lent_again_only_when_nothing_needs_it() -> None:
    buffers = Buffers()
    first = torch.from_numpy(buffers.lend((2, 3)))
    place = first.data_ptr()
    view = first[1:]
    del first
    assert torch.from_numpy(buffers.lend((2, 3))).data_ptr() != place, "a view still needs it"
    del view
    weight = torch.ones(2, 3, requires_grad=True)
    lent = torch.from_numpy(buffers.lend((2, 3)))
    lent.fill_(5)
    place = lent.data_ptr()
    product = (weight * lent).sum()
    del lent
    gc.collect()
    taken = torch.from_numpy(buffers.lend((2, 3)))
    assert taken.data_ptr() != place, "the gradient still needs it"
    taken.fill_(-1)
    product.backward()
    assert torch.equal(weight.grad, torch.full((2, 3), 5.0))
    del product
    places = {torch.from_numpy(buffers.lend((2, 3))).data_ptr() for _ in range(9)}
    assert len(places) == 1, "one after the other they need no more"
    assert buffers.lend((4, 3)).shape == (4, 3)


def test_a_store_makes_batches_in_memory_it_has(stores: dict[str, PixelStore]) -> None:
    for name in ("host", "stream"):
        places = [stores[name].fetch(windows(seed), PREPROCESS).data_ptr() for seed in range(5)]
        assert len(set(places)) == 1
        held = [stores[name].fetch(windows(seed), PREPROCESS) for seed in range(3)]
        assert len({batch.data_ptr() for batch in held}) == 3
