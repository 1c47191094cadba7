"""Training batches against one image after the other with Pillow and numpy; views and sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reidbench.data.samples import Samples
from reidbench.errors import OptionError
from reidbench.images.augment import VIEWS, sample_crops, stored_size, view_crops
from reidbench.images.pixel_file import open_pixels
from reidbench.images.resize import resize_image
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.machine import local_machine
from reidbench.utils.random_streams import stream
from tests.support.batches import training_batch
from tests.support.images import noise_images

PREPROCESS = Preprocess(height=32, width=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
SHARES = (slice(0, 2), slice(2, 5))  # of two processes in a batch of 5 units
UNITS = {"photos": [1] * 12, "tracklets": [3, 1, 7, 2]}


def decode(samples, folder, crop=True, threads=2):
    size = stored_size(PREPROCESS, crop)
    return open_pixels(samples, *size, local_machine(cache=folder, threads=threads, device="cpu"))


def one_by_one(samples: Samples, units: np.ndarray, *, crop: bool, flip: bool, seed: int, step: int) -> np.ndarray:
    """The same batch, image by image; only the resize and the order of the random numbers are the core's."""
    height, width = PREPROCESS.height, PREPROCESS.width
    margin_y, margin_x = (height // 8, width // 8) if crop else (0, 0)
    generator = stream(seed, "augment", step)
    batch = []
    for unit in units.tolist():
        which, down, across, mirror = (generator.random() for _ in range(4))
        first, end = samples.starts[unit : unit + 2].tolist()
        pixels = np.empty((height + margin_y, width + margin_x, 3), dtype=np.uint8)
        file = samples.path(first + int(which * (end - first)))
        resize_image(np.asarray(Image.open(file).convert("RGB")), pixels)
        image = Image.fromarray(pixels)
        top, left = int(down * (margin_y + 1)), int(across * (margin_x + 1))
        image = image.crop((left, top, left + width, top + height))
        if flip and mirror < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        values = np.asarray(image).astype(np.float64) / 255
        batch.append(((values - PREPROCESS.mean) / PREPROCESS.std).transpose(2, 0, 1))
    return np.stack(batch)


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("kind", list(UNITS))
def test_batches_equal_those_made_one_by_one(tmp_path, kind, crop):
    samples = noise_images(tmp_path / "images", UNITS[kind])
    store = decode(samples, tmp_path, crop)
    for step in range(6):
        units = stream(step, "units").integers(0, len(samples), 9)
        how = {"flip": step > 0, "seed": 3, "step": step}
        batch = training_batch(store, samples, units, PREPROCESS, **how)
        assert batch.dtype == torch.float32
        np.testing.assert_allclose(batch.numpy(), one_by_one(samples, units, crop=crop, **how), atol=2e-6)


def test_frames_of_a_unit_are_different_while_it_has_enough():
    lengths = np.array([1, 3, 4, 9])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    samples = Samples(Path(), np.array([""] * 17), lengths, lengths, starts)
    units = np.array([3, 1, 0, 2, 3])
    for step in range(9):
        how = {"flip": True, "seed": 1, "step": step, "frames": 4}
        crops = sample_crops((17, 36, 18, 3), samples, units, PREPROCESS, **how)
        for unit, images in zip(units, crops.images.reshape(5, 4) - starts[units, None], strict=True):
            assert np.bincount(images, minlength=lengths[unit]).max() == -(-4 // lengths[unit])
            assert images.max() < lengths[unit]
        parts = [sample_crops((17, 36, 18, 3), samples, units, PREPROCESS, share=part, **how) for part in SHARES]
        for whole, *halves in zip(crops, *parts, strict=True):
            assert np.array_equal(whole, np.concatenate(halves))


def test_augmentation_depends_on_seed_step_and_place(tmp_path):
    photos = noise_images(tmp_path / "images", UNITS["photos"])
    store = decode(photos, tmp_path)

    def batch(units, seed, step):
        return training_batch(store, photos, np.array(units), PREPROCESS, flip=True, seed=seed, step=step)

    first = batch([4] * 8, 0, 5)
    assert len({image.numpy().tobytes() for image in first}) > 1
    batch([1, 2], 0, 6)
    assert torch.equal(batch([4] * 8, 0, 5), first), "whatever was sampled before"
    assert torch.equal(batch([4] * 3, 0, 5), first[:3]), "whatever follows in the batch"
    assert not torch.equal(batch([4] * 8, 1, 5), first)
    assert not torch.equal(batch([4] * 8, 0, 6), first)


def test_pixels_do_not_depend_on_threads(tmp_path):
    samples = noise_images(tmp_path / "images", [1] * 150)
    first, *others = (decode(samples, tmp_path / str(threads), threads=threads).pixels for threads in (1, 2, 5))
    assert first.shape == (150, 36, 18, 3)
    assert all(torch.equal(other, first) for other in others)


def test_stored_size():
    assert stored_size(PREPROCESS, crop=True) == (36, 18)
    assert stored_size(Preprocess(256, 128), crop=True) == (288, 144)
    assert stored_size(Preprocess(105, 99), crop=False) == (105, 99)
    with pytest.raises(OptionError, match="height=100 and width=50 "):
        stored_size(Preprocess(100, 50), crop=True)
    with pytest.raises(OptionError, match=r" width=50 "):
        stored_size(Preprocess(64, 50), crop=True)


def test_views():
    assert view_crops("original", PREPROCESS) == ((32, 16), [(0, 0, False)])
    assert view_crops("center", PREPROCESS) == ((36, 18), [(2, 1, False)])
    assert view_crops("center_flip", PREPROCESS) == ((36, 18), [(2, 1, False), (2, 1, True)])
    corners = {(2, 1), (0, 0), (0, 2), (4, 0), (4, 2)}
    for name, flips in (("five_crops", [False]), ("five_crops_flip", [False, True])):
        size, crops = view_crops(name, PREPROCESS)
        assert size == (36, 18)
        assert sorted(crops) == sorted((*corner, flipped) for corner in corners for flipped in flips)


def test_unknown_views_are_an_error():
    with pytest.raises(OptionError, match=r"'centre_flip'; did you mean center_flip"):
        view_crops("centre_flip", PREPROCESS)
    with pytest.raises(OptionError, match=r"'x'; .*original, center"):
        view_crops("x", PREPROCESS)
    assert all(view_crops(name, PREPROCESS) for name in VIEWS)
