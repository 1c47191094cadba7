"""Both stores give the same batches, prefetched or not; batches share no memory; trainings are one training."""

import gc
import hashlib
import threading
import time
from contextlib import closing

import numpy as np
import pytest
import torch

import reidbench
from reidbench.images.augment import Crops
from reidbench.images.crop import gather_crops, normalise
from reidbench.images.pixel_file import open_pixels
from reidbench.images.pixel_store import PREFETCHED_BATCHES, BatchBuffers, BatchLoader, PixelStore, network_input
from reidbench.plugins.interfaces import Preprocess
from reidbench.training.checkpoint import WEIGHTS
from reidbench.training.loop import train
from reidbench.utils.machine import local_machine
from tests.support.batches import training_batch
from tests.support.images import noise_images
from tests.support.tiny_training import INFO, RECIPE, Net, noise

CPU = torch.device("cpu")
GPU = torch.device("cuda:0")
STORES = ("device", "map")
PREPROCESS = Preprocess(height=16, width=8, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
COUNT = 40
AUGMENTATION = {"flip": True, "seed": 3}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return noise_images(tmp_path_factory.mktemp("images"), [1] * COUNT)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def opened(samples, cache, name, device="cpu"):
    return open_pixels(samples, 18, 9, local_machine(cache=cache, threads=2, device=device, pixels=name))


def random_crops(seed: int, count: int = 30) -> Crops:
    generator = np.random.default_rng(seed)
    return Crops(
        generator.integers(0, COUNT, count),
        generator.integers(0, 3, count),
        generator.integers(0, 2, count),
        generator.random(count) < 0.5,
    )


def batch_of(store, crops):
    return network_input(store.fetch(crops, PREPROCESS), PREPROCESS, store.device)


@pytest.mark.parametrize("count", [0, 1, 30])
def test_stores_give_the_crops_by_slices(samples, cache, count):
    stores = [opened(samples, cache, name) for name in STORES]
    assert [store.prefetch for store in stores] == [False, True]
    pixels = stores[0].pixels
    for seed in range(5):
        crops = random_crops(seed, count)
        expected = torch.zeros((count, 16, 8, 3), dtype=torch.uint8)
        for place in range(count):
            window = pixels[crops.images[place]][crops.top[place] :][:16, crops.left[place] :][:, :8]
            expected[place] = window.flip(1) if crops.flipped[place] else window
        assert torch.equal(gather_crops(pixels, crops, 16, 8), expected), "as a GPU cuts them"
        for store in stores:
            batch = batch_of(store, crops)
            assert torch.equal(batch, normalise(expected, PREPROCESS))
            assert batch.is_contiguous()
            assert store.shape == (COUNT, 18, 9, 3)
            assert store.device == CPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: pinned memory and its copies")
def test_stores_give_a_gpu_the_same_batch(samples, cache):
    stores = [opened(samples, cache, name, str(GPU)) for name in STORES]
    assert [store.fetch(random_crops(0), PREPROCESS).is_pinned() for store in stores] == [False, True]
    batches = [batch_of(store, random_crops(0)) for store in stores]
    assert all(batch.device == GPU and torch.equal(batch, batches[0]) for batch in batches)


def test_mapped_pixels_for_a_gpu_are_bytes(samples, cache):
    mapped = opened(samples, cache, "map")
    fetched = PixelStore(mapped.pixels, GPU).fetch(random_crops(3), PREPROCESS)
    assert fetched.dtype == torch.uint8
    assert torch.equal(normalise(fetched, PREPROCESS), batch_of(mapped, random_crops(3)))


def test_buffers_are_reused_only_when_unreferenced():
    buffers = BatchBuffers()
    first = torch.from_numpy(buffers.take((2, 3)))
    address = first.data_ptr()
    view = first[1:]
    del first
    assert torch.from_numpy(buffers.take((2, 3))).data_ptr() != address, "a view still needs it"
    del view
    weight = torch.ones(2, 3, requires_grad=True)
    batch = torch.from_numpy(buffers.take((2, 3)))
    batch.fill_(5)
    address = batch.data_ptr()
    product = (weight * batch).sum()
    del batch
    gc.collect()
    other = torch.from_numpy(buffers.take((2, 3)))
    assert other.data_ptr() != address, "the gradient still needs it"
    other.fill_(-1)
    product.backward()
    assert torch.equal(weight.grad, torch.full((2, 3), 5.0))
    del product
    assert len({torch.from_numpy(buffers.take((2, 3))).data_ptr() for _ in range(9)}) == 1
    assert buffers.take((4, 3)).shape == (4, 3)


class RecordingStore:
    """A store that records the thread that fetched each batch."""

    def __init__(self, store: PixelStore) -> None:
        self.store, self.shape, self.device, self.prefetch = store, store.shape, store.device, store.prefetch
        self.threads: list[str] = []

    def fetch(self, crops, preprocess, changes):
        self.threads.append(threading.current_thread().name.split("_")[0])
        return self.store.fetch(crops, preprocess, changes)


@pytest.mark.parametrize("name", STORES)
def test_loader_gives_the_batches_without_prefetching(samples, cache, name):
    plain, store = opened(samples, cache, "device"), RecordingStore(opened(samples, cache, name))
    generator, step = np.random.default_rng(0), 0
    with closing(BatchLoader(store, samples, PREPROCESS, **AUGMENTATION)) as loader:
        for length in (1, 4, 2):
            batches = [generator.integers(0, len(samples), 9) for _ in range(length)]
            for place, units in enumerate(batches):
                batch = loader.batch(units, step, batches[place + 1 :])
                assert torch.equal(batch, training_batch(plain, samples, units, PREPROCESS, **AUGMENTATION, step=step))
                step += 1
    # The first batch of a round is fetched when it is needed, the others before; none is fetched twice.
    thread = "prefetch" if name == "map" else "MainThread"
    assert sorted(store.threads) == sorted(["MainThread"] * 3 + [thread] * 4)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_shares_of_two_processes_make_the_batch(samples, cache):
    store, units, parts = opened(samples, cache, "map"), np.arange(9)[::-1].copy(), []
    for share in (lambda count: slice(count // 2), lambda count: slice(count // 2, count)):
        with closing(BatchLoader(store, samples, PREPROCESS, **AUGMENTATION, share=share)) as loader:
            loader.batch(units, 4, [units])
            parts.append(loader.batch(units, 5))
    assert [len(part) for part in parts] == [4, 5]
    assert torch.equal(torch.cat(parts), training_batch(store, samples, units, PREPROCESS, **AUGMENTATION, step=5))


def test_wrong_guesses_are_dropped(samples, cache):
    store, units, others = opened(samples, cache, "map"), np.arange(8), np.arange(8)[::-1].copy()
    with closing(BatchLoader(store, samples, PREPROCESS, **AUGMENTATION)) as loader:
        loader.batch(units, 0, [units, units])
        for step, actual in ((1, others), (2, units), (7, units), (3, others)):  # steps may jump
            expected = training_batch(store, samples, actual, PREPROCESS, **AUGMENTATION, step=step)
            assert torch.equal(loader.batch(actual, step, [units]), expected)


def test_only_a_few_batches_are_prefetched(samples, cache):
    store, units = RecordingStore(opened(samples, cache, "map")), np.arange(8)
    with closing(BatchLoader(store, samples, PREPROCESS, **AUGMENTATION)) as loader:
        loader.batch(units, 0, [units] * 50)
        time.sleep(0.2)
        assert len(store.threads) == 1 + PREFETCHED_BATCHES


def test_both_stores_train_the_same_weights(tmp_path):
    weights = {}
    for name in (*STORES, "auto"):
        torch.manual_seed(0)
        net, loss = Net(), reidbench.build("loss", "triplet_ohm", INFO)  # it embeds stored images
        machine = local_machine(device="cpu", threads=1, cache=tmp_path / "cache", pixels=name)
        train(net, loss, RECIPE, noise(tmp_path / "images"), seed=1, folder=tmp_path / name, machine=machine)
        weights[name] = hashlib.sha256((tmp_path / name / WEIGHTS).read_bytes()).hexdigest()
    assert len(set(weights.values())) == 1
