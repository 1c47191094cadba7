"""Padding, colour jitter and erasing against loops over single pixels, and against torchvision's colour functions."""

import colorsys
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional

from reidbench.data.samples import Samples
from reidbench.images.augment import BITS, GREY, QUARTER_TURN, TRIES, Augmentation, sample_changes, sample_crops
from reidbench.images.crop import normalise, with_changes
from reidbench.images.pixel_file import open_pixels
from reidbench.images.pixel_store import BatchLoader, PixelStore
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.machine import local_machine
from reidbench.utils.random_streams import stream
from tests.support.images import noise_images

TERMS = ("brightness", "contrast", "saturation", "hue")
ALL = Augmentation(pad=3, jitter=0.7, brightness=0.9, contrast=1.0, saturation=1.0, hue=0.5, erase=0.6)
PREPROCESS = Preprocess(height=16, width=8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
WHOLE = {"step": 5, "frames": 1, "share": slice(None)}


def images_by_loops(pixels: np.ndarray, how: Augmentation, height: int, width: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the images of a batch [3, h, w, 3], flipped, cropped and changed one pixel after the other."""
    crop, jitter, erase = (stream(seed, name, 5).random for name in ("augment", "jitter", "erase"))
    for source in pixels.astype(int):
        _, top, left, mirror = (crop() for _ in range(4))
        applied, *numbers = (jitter() for _ in range(5))
        change = [(2 * number - 1) * getattr(how, term) for number, term in zip(numbers, TERMS, strict=True)]
        b, c, s, h = change if applied < how.jitter else [0] * 4
        top, left = int(top * (2 * how.pad + 1)) - how.pad, int(left * (2 * how.pad + 1)) - how.pad
        image = np.zeros((height, width, 3), dtype=int)
        for y, x in np.ndindex(height, width):
            if 0 <= top + y < height and 0 <= left + x < width:
                image[y, width - 1 - x if mirror < 0.5 else x] = source[top + y, left + x]
        grey = sum(int(image[..., k].sum()) * GREY[k] for k in range(3))
        offset = round(2**BITS * (1 + b) * -c) * grey // (256 * height * width) + 2 ** (BITS - 1)
        out = np.full_like(image, offset)
        for i, k in np.ndindex(3, 3):
            turned = math.cos(h * math.tau) * ((i == k) - GREY[k] / 256) + math.sin(h * math.tau) * QUARTER_TURN[i][k]
            out[..., i] += round(2**BITS * (1 + b) * (1 + c) * (GREY[k] / 256 + (1 + s) * turned)) * image[..., k]
        out = np.clip(out // 2**BITS, 0, 255)
        applied, top, left, *tries = (erase() for _ in range(3 + 2 * TRIES))
        for number, shape in zip(tries[:TRIES], tries[TRIES:], strict=True):
            area = height * width * (how.erase_area[0] + (how.erase_area[1] - how.erase_area[0]) * number)
            aspect = how.erase_aspect + (1 / how.erase_aspect - how.erase_aspect) * shape
            tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if tall < height and wide < width and applied < how.erase:
                top, left = int(top * (height - tall + 1)), int(left * (width - wide + 1))
                out[top : top + tall, left : left + wide] = how.erase_fill
                break
        yield out


ranges = {"erase_area": st.tuples(st.floats(0.01, 0.3), st.floats(0.3, 1)), "erase_aspect": st.floats(0.1, 1)}
ranges |= {"erase_fill": st.tuples(*[st.integers(0, 255)] * 3), "hue": st.floats(0, 0.5), "pad": st.integers(0, 9)}
ranges |= dict.fromkeys(("jitter", "erase", *TERMS[:3]), st.floats(0, 1))


@given(how=st.builds(Augmentation, **ranges), height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_batches_equal_those_of_loops(how, height, width, seed):
    pixels, size = np.random.default_rng(seed).integers(0, 256, (3, height, width, 3), dtype=np.uint8), (height, width)
    photos = Samples(Path(), np.array([""] * 3), np.arange(3), np.arange(3), np.arange(4))
    preprocess = Preprocess(*size)
    crops = sample_crops(pixels.shape, photos, np.arange(3), preprocess, flip=True, seed=seed, pad=how.pad, **WHOLE)
    changes = sample_changes(how, 3, preprocess, seed=seed, **WHOLE)
    expected = torch.from_numpy(np.stack([*images_by_loops(pixels, how, *size, seed)]).astype(np.uint8))
    for device, expectation in (("cpu", normalise(expected, preprocess)), ("meta", expected)):
        store = PixelStore(torch.from_numpy(pixels), torch.device(device))  # any but a CPU: as a GPU's pixels are cut
        assert torch.equal(store.fetch(crops, preprocess, changes), expectation)


def loaded(samples: Samples, cache: Path, store: str, device: str, threads: int) -> torch.Tensor:
    """Return the bytes of two batches of a loader and of one that two processes share."""
    pixels = open_pixels(samples, 16, 8, local_machine(cache=cache, threads=threads, device=device, pixels=store))
    units, batches = np.arange(12), []
    for step, share in ((0, slice), (1, slice), (2, lambda count: slice(5)), (2, lambda count: slice(5, count))):
        with closing(BatchLoader(pixels, samples, PREPROCESS, share, ALL, flip=True, seed=1, frames=2)) as loader:
            batches.append(loader.batch(units, step, [units]).cpu())
    values = torch.cat(batches).permute(0, 2, 3, 1) * torch.tensor(PREPROCESS.std) + torch.tensor(PREPROCESS.mean)
    return (values * 255).round().byte()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_stores_threads_processes_and_devices_give_the_same_bytes(tmp_path, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    samples = noise_images(tmp_path / "images", [1] * 12)
    expected = loaded(samples, tmp_path, "device", "cpu", threads=2)
    assert len({image.numpy().tobytes() for image in expected}) == len(expected) == 3 * 24
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        for store in ("device", "map"):
            assert torch.equal(loaded(samples, tmp_path, store, device, threads), expected)
    torch.set_num_threads(before)


@pytest.mark.parametrize("term", TERMS)
def test_each_term_is_the_one_of_its_name(term):
    images = torch.from_numpy(np.random.default_rng(0).integers(80, 170, (20, 9, 7, 3), dtype=np.uint8))
    changes = sample_changes(Augmentation(jitter=1.0, **{term: 0.3}), 20, Preprocess(9, 7), seed=3, **WHOLE)
    result = with_changes(images.clone(), changes)
    change = 0.3 * (2 * stream(3, "jitter", 5).random((20, 5))[:, 1 + TERMS.index(term)] - 1)
    for image, changed, amount in zip(images / 255, result / 255, change.tolist(), strict=True):
        if term == "hue":
            hues = (colorsys.rgb_to_hsv(*colours[0, 0].tolist())[0] for colours in (changed, image))
            assert abs((next(hues) - next(hues) - amount + 0.5) % 1 - 0.5) < 0.1
            assert (functional.rgb_to_grayscale((changed - image).permute(2, 0, 1)).abs() < 0.006).all()
        else:
            expected = getattr(functional, f"adjust_{term}")(image.permute(2, 0, 1), 1 + amount).permute(1, 2, 0)
            assert (expected - changed).abs().max() < 0.005


def test_probabilities_and_areas():
    changes = sample_changes(ALL, 4000, Preprocess(256, 128), seed=0, **WHOLE)
    jittered = (changes.matrices != np.eye(3) * 2**BITS).any(axis=(1, 2))
    sides = changes.boxes[:, 2:] - changes.boxes[:, :2]
    areas = sides.prod(axis=1)[sides[:, 0] > 0] / (256 * 128)
    assert (jittered.mean(), len(areas) / 4000) == (pytest.approx(0.7, abs=0.03), pytest.approx(0.6, abs=0.03))
    assert (areas.min(), areas.max()) == (pytest.approx(0.02, abs=0.002), pytest.approx(0.4, abs=0.01))
