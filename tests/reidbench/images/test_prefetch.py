"""A feed gives what the plain way does, whatever was made ahead; trainings in all four tiers are one training."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import reidbench
from reidbench.data.samples import Samples
from reidbench.errors import DataError
from reidbench.images.augment import Windows
from reidbench.images.pixel_file import open_pixels
from reidbench.images.pixel_store import HostPixels, PixelStore, StreamedPixels
from reidbench.images.prefetch import DEPTH, Feed
from reidbench.plugins.interfaces import Preprocess
from reidbench.training.checkpoint import WEIGHTS
from reidbench.training.loop import train
from reidbench.utils.machine import local_machine
from tests.support.batches import training_batch
from tests.support.tiny_training import INFO, RECIPE, Net, noise

CPU = torch.device("cpu")
TIERS = ("device", "host", "map", "stream")
PREPROCESS = Preprocess(height=16, width=8)
HOW = {"crop": True, "flip": True, "seed": 3}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return noise(tmp_path_factory.mktemp("feeding") / "images")


def opened(samples: Samples, cache: Path, tier: str) -> PixelStore:
    return open_pixels(samples, 18, 9, cache=cache, threads=2, device=CPU, say=lambda _: None, tier=tier)


class Noting:
    """A store that notes in which thread each batch was fetched."""

    def __init__(self, store: PixelStore) -> None:
        self.store, self.shape, self.device, self.ahead = store, store.shape, store.device, store.ahead
        self.threads: list[str] = []

    def fetch(self, windows: Windows, preprocess: Preprocess) -> Tensor:
        self.threads.append(threading.current_thread().name.split("_")[0])
        return self.store.fetch(windows, preprocess)

    def finish(self, fetched: Tensor, preprocess: Preprocess) -> Tensor:
        return self.store.finish(fetched, preprocess)

    def close(self) -> None:
        self.store.close()


def rounds(samples: Samples) -> list[list[np.ndarray]]:
    generator = np.random.default_rng(0)
    return [[generator.integers(0, len(samples), 9) for _ in range(length)] for length in (1, 4, 2)]


@pytest.mark.parametrize("tier", TIERS)
def test_a_feed_gives_the_plain_batches(samples: Samples, tmp_path: Path, tier: str) -> None:
    plain = opened(samples, tmp_path, "device")
    store = Noting(opened(samples, tmp_path, tier))
    step = 0
    with closing(Feed(store, samples, PREPROCESS, **HOW)) as feed:
        for batches in rounds(samples):
            for place, units in enumerate(batches):
                batch = feed.batch(units, step, batches[place + 1 :])
                assert torch.equal(batch, training_batch(plain, samples, units, PREPROCESS, **HOW, step=step))
                step += 1
    # The first of a round is made when it is asked for, the others before; nothing is made twice.
    ahead = "feed" if tier != "device" else "MainThread"
    assert sorted(store.threads) == sorted(["MainThread"] * 3 + [ahead] * 4)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("feed", "decode"))]


def test_the_shares_of_several_processes_are_the_whole(samples: Samples, tmp_path: Path) -> None:
    plain = opened(samples, tmp_path, "device")
    units = np.arange(9)[::-1].copy()
    shares = []
    for share in (0, 1):
        store = opened(samples, tmp_path, "map")
        places = (lambda count: slice(count // 2), lambda count: slice(count // 2, count))[share]
        with closing(Feed(store, samples, PREPROCESS, **HOW, places=places)) as feed:
            feed.batch(units, 4, [units])
            shares.append(feed.batch(units, 5))
    assert [len(batch) for batch in shares] == [4, 5]
    assert torch.equal(torch.cat(shares), training_batch(plain, samples, units, PREPROCESS, **HOW, step=5))


def test_a_wrong_guess_is_dropped(samples: Samples, tmp_path: Path) -> None:
    plain = opened(samples, tmp_path, "device")
    units, others = np.arange(8), np.arange(8)[::-1].copy()
    with closing(Feed(opened(samples, tmp_path, "host"), samples, PREPROCESS, **HOW)) as feed:
        feed.batch(units, 0, [units, units])
        for step, asked in ((1, others), (2, units), (7, units), (3, others)):  # and steps may jump
            expected = training_batch(plain, samples, asked, PREPROCESS, **HOW, step=step)
            assert torch.equal(feed.batch(asked, step, [units]), expected)


def test_no_more_than_a_few_batches_are_made_ahead(samples: Samples, tmp_path: Path) -> None:
    store = Noting(opened(samples, tmp_path, "map"))
    units = np.arange(8)
    with closing(Feed(store, samples, PREPROCESS, **HOW)) as feed:
        feed.batch(units, 0, [units] * 50)
        time.sleep(0.2)
        assert len(store.threads) == 1 + DEPTH


def test_an_unusable_image_is_named_at_its_batch(tmp_path: Path) -> None:
    own = noise(tmp_path / "images")
    own.path(5).write_bytes(b"no image")
    with closing(Feed(StreamedPixels(own, 18, 9, CPU, 2), own, PREPROCESS, **HOW)) as feed:
        fine, broken = np.arange(5), np.arange(4, 8)
        feed.batch(fine, 0, [fine, broken])
        feed.batch(fine, 1, [broken])
        with pytest.raises(DataError, match=r"/5\.png: is no usable image"):
            feed.batch(broken, 2)


def test_trainings_in_all_tiers_end_with_the_same_weights(samples: Samples, tmp_path: Path) -> None:
    ends = {}
    for tier in (*TIERS, "auto"):
        torch.manual_seed(0)
        net, loss = Net(), reidbench.build("loss", "triplet_ohm", INFO)  # it embeds what is stored
        said: list[str] = []
        folder = tmp_path / tier
        cache = tmp_path / "cache" / tier
        machine = local_machine(device="cpu", threads=1, cache=cache, pixels=tier, log=said.append)
        train(net, loss, RECIPE, samples, seed=1, folder=folder, machine=machine)
        ends[tier] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        assert len(said) == (tier != "auto")
        assert (cache / "pixels").exists() == (tier != "stream")
    assert len(set(ends.values())) == 1


def test_which_store_a_tier_is(samples: Samples, tmp_path: Path) -> None:
    stores = {tier: opened(samples, tmp_path, tier) for tier in TIERS}
    held = {tier: store for tier, store in stores.items() if isinstance(store, HostPixels)}
    assert {tier: (isinstance(store.pixels, np.memmap), store.ahead) for tier, store in held.items()} == {
        "device": (False, False),
        "host": (False, True),
        "map": (True, True),
    }
    assert isinstance(stores["stream"], StreamedPixels)
