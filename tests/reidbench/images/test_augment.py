"""The batches of the store against the plain way: one file after the other with Pillow and numpy."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reidbench.data.samples import Samples
from reidbench.errors import DataError, OptionError
from reidbench.images.augment import VIEWS, stored_size, view_crops
from reidbench.images.decode import check_readable
from reidbench.images.pixel_file import open_pixels
from reidbench.images.pixel_store import HostPixels
from reidbench.images.resize import resize_all
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.random_streams import stream
from tests.support.batches import training_batch

CPU = torch.device("cpu")
PREPROCESS = Preprocess(height=32, width=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def write_tree(folder: Path, lengths: list[int]) -> Samples:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:03d}.{'png' if number % 3 == 0 else 'jpg'}" for number in range(sum(lengths))]
    for number, name in enumerate(names):
        shape = (20 + number % 5 * 8, 12 + number % 3 * 9, 3)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    return Samples(
        root=folder,
        images=np.array(names, dtype=np.str_),
        pids=np.arange(1, len(lengths) + 1),
        cams=np.ones(len(lengths), dtype=np.int64),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Samples:
    return write_tree(tmp_path_factory.mktemp("photos"), [1] * 12)


@pytest.fixture(scope="module")
def tracklets(tmp_path_factory) -> Samples:
    return write_tree(tmp_path_factory.mktemp("tracklets"), [3, 1, 7, 2])


def decode(samples: Samples, crop: bool, threads: int = 2) -> HostPixels:
    with tempfile.TemporaryDirectory() as cache:
        size = stored_size(PREPROCESS, crop)
        store = open_pixels(samples, *size, cache=Path(cache), threads=threads, device=CPU, say=print)
        assert isinstance(store, HostPixels)
        return store


def one_by_one(samples: Samples, units: np.ndarray, *, crop: bool, flip: bool, seed: int, step: int) -> np.ndarray:
    """The same batch, image by image; only the stretching and the order of the draws of a place are the core's."""
    height, width = PREPROCESS.height, PREPROCESS.width
    margin_y, margin_x = (height // 8, width // 8) if crop else (0, 0)
    generator = stream(seed, "augment", step)
    batch = []
    for unit in units.tolist():
        which, down, across, mirror = (generator.random() for _ in range(4))
        first, end = samples.starts[unit : unit + 2].tolist()
        pixels = np.empty((height + margin_y, width + margin_x, 3), dtype=np.uint8)
        file = samples.path(first + int(which * (end - first)))
        resize_all([np.asarray(Image.open(file).convert("RGB"))], pixels[None])
        image = Image.fromarray(pixels)
        top, left = int(down * (margin_y + 1)), int(across * (margin_x + 1))
        image = image.crop((left, top, left + width, top + height))
        if flip and mirror < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        values = np.asarray(image).astype(np.float64) / 255
        batch.append(((values - PREPROCESS.mean) / PREPROCESS.std).transpose(2, 0, 1))
    return np.stack(batch)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("kind", ["photos", "tracklets"])
def test_training_batch_equals_the_plain_way(kind, crop, flip, request):
    samples = request.getfixturevalue(kind)
    store = decode(samples, crop)
    for step in range(6):
        units = stream(step, "units").integers(0, len(samples), 9)
        batch = training_batch(store, samples, units, PREPROCESS, crop=crop, flip=flip, seed=3, step=step)
        assert batch.dtype == torch.float32
        assert batch.is_contiguous()
        expected = one_by_one(samples, units, crop=crop, flip=flip, seed=3, step=step)
        np.testing.assert_allclose(batch.numpy(), expected, atol=2e-6)


def test_augmentation_is_a_function_of_seed_step_and_place(photos):
    store = decode(photos, crop=True)

    def batch(units, seed, step):
        return training_batch(store, photos, np.array(units), PREPROCESS, crop=True, flip=True, seed=seed, step=step)

    first = batch([4] * 8, 0, 5)
    assert len({image.numpy().tobytes() for image in first}) > 1  # places differ
    batch([1, 2], 0, 6)
    assert torch.equal(batch([4] * 8, 0, 5), first)  # whatever was drawn before
    assert torch.equal(batch([4] * 3, 0, 5), first[:3])  # and whatever follows in the batch
    assert not torch.equal(batch([4] * 8, 1, 5), first)
    assert not torch.equal(batch([4] * 8, 0, 6), first)


def test_every_crop_flip_and_image_of_a_unit_is_drawn_equally_often(tmp_path):
    # The pixel in the corner says from which image and where a crop was taken, and the one beside it the direction.
    small = Preprocess(height=8, width=16)
    samples = write_tree(tmp_path, [2])
    stored_height, stored_width = stored_size(small, crop=True)
    codes = np.zeros((2, stored_height, stored_width, 3), dtype=np.uint8)
    codes[..., 0] = np.arange(stored_height)[:, None]
    codes[..., 1] = np.arange(stored_width)
    codes[1, ..., 2] = 255
    seen: dict[tuple[int, ...], int] = {}
    for step in range(24):
        units = np.zeros(100, dtype=np.int64)
        batch = training_batch(
            HostPixels(codes, CPU, ahead=False), samples, units, small, crop=True, flip=True, seed=0, step=step
        )
        corner = (batch[:, :, 0, 0] * 255).round().int()
        direction = ((batch[:, 1, 0, 1] - batch[:, 1, 0, 0]) * 255).round().int()
        for key in torch.cat([corner, direction[:, None]], dim=1).tolist():
            seen[tuple(key)] = seen.get(tuple(key), 0) + 1
    assert len(seen) == 2 * 2 * 3 * 2  # rows, images, columns, directions
    assert min(seen.values()) > 60  # of 100 expected; the spread is 10
    assert max(seen.values()) < 140


def test_store_does_not_depend_on_threads(tmp_path):
    samples = write_tree(tmp_path, [1] * 150)
    stores = [decode(samples, crop=True, threads=threads) for threads in (1, 2, 5)]
    assert stores[0].shape == stores[0].pixels.shape == (150, 36, 18, 3)
    assert all(np.array_equal(store.pixels, stores[0].pixels) for store in stores)


def test_store_of_another_size_is_refused(photos):
    with pytest.raises(ValueError, match="holds 36x18, \\(32, 16\\) is needed"):
        training_batch(
            decode(photos, crop=True), photos, np.array([0]), PREPROCESS, crop=False, flip=True, seed=0, step=0
        )


def test_store_names_the_first_bad_file(tmp_path):
    samples = write_tree(tmp_path, [1] * 150)
    for name in (samples.path(149), samples.path(70)):
        name.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"070\.jpg"):
        decode(samples, crop=True)


def test_stored_size():
    assert stored_size(PREPROCESS, crop=True) == (36, 18)
    assert stored_size(Preprocess(256, 128), crop=True) == (288, 144)
    assert stored_size(Preprocess(105, 99), crop=False) == (105, 99)
    with pytest.raises(OptionError, match="height=100 and width=50 cannot give; use multiples of 8"):
        stored_size(Preprocess(100, 50), crop=True)
    with pytest.raises(OptionError, match=r"input, which width=50 cannot give"):
        stored_size(Preprocess(64, 50), crop=True)


def test_views():
    assert view_crops("original", PREPROCESS) == ((32, 16), [(0, 0, False)])
    assert view_crops("center", PREPROCESS) == ((36, 18), [(2, 1, False)])
    assert view_crops("center_flip", PREPROCESS) == ((36, 18), [(2, 1, False), (2, 1, True)])
    places = {(2, 1), (0, 0), (0, 2), (4, 0), (4, 2)}
    size, crops = view_crops("five_crops", PREPROCESS)
    assert size == (36, 18)
    assert len(crops) == 5
    assert set(crops) == {(*place, False) for place in places}
    size, crops = view_crops("five_crops_flip", PREPROCESS)
    assert len(crops) == 10
    assert set(crops) == {(*place, mirrored) for place in places for mirrored in (False, True)}


def test_unknown_views():
    with pytest.raises(OptionError, match=r"no views 'centre_flip'; did you mean center_flip\?"):
        view_crops("centre_flip", PREPROCESS)
    with pytest.raises(OptionError, match="no views 'x'; there are original, center"):
        view_crops("x", PREPROCESS)
    assert all(view_crops(name, PREPROCESS) for name in VIEWS)


def test_check_readable_reads_everything_once_until_a_file_changes(tmp_path):
    samples = write_tree(tmp_path / "tree", [1, 2, 3])
    check_readable([samples, samples], tmp_path, 2)
    (marker,) = (tmp_path / "readable").iterdir()  # no temporary file is left
    assert marker.read_text() == "6 images were decoded\n"

    damaged = samples.path(1)
    before, whole = damaged.stat(), damaged.read_bytes()
    damaged.write_bytes(whole[:-30] + bytes(30))  # of the same size
    os.utime(damaged, ns=(before.st_atime_ns, before.st_mtime_ns))
    check_readable([samples, samples], tmp_path, 2)  # neither size nor time tell that it changed: nothing is read
    os.utime(damaged, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(DataError, match=damaged.name):
        check_readable([samples, samples], tmp_path, 2)


def test_check_readable_takes_no_other_tree_for_this_one(tmp_path):
    sound, other = (write_tree(tmp_path / name, [1, 2]) for name in ("sound", "other"))
    check_readable([sound], tmp_path, 2)
    damaged, twin = other.path(0), sound.path(0)
    damaged.write_bytes(damaged.read_bytes()[:-30] + bytes(30))
    os.utime(damaged, ns=(twin.stat().st_atime_ns, twin.stat().st_mtime_ns))
    with pytest.raises(DataError, match=damaged.name):
        check_readable([other], tmp_path, 2)


def test_check_readable_names_up_to_ten_files(tmp_path):
    samples = write_tree(tmp_path, [1] * 140)
    bad = [0, 5, 139, *range(60, 70)]
    for number in bad:
        samples.path(number).write_bytes(samples.path(number).read_bytes()[:-30])
    with pytest.raises(DataError, match="13 of 140 images cannot be used") as caught:
        check_readable([samples, samples], tmp_path / "cache", 2)
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 11
    for line, number in zip(lines[:10], sorted(bad)[:10], strict=True):
        assert str(samples.path(number)) in line
    assert lines[-1].strip() == "and 3 more"
    assert not (tmp_path / "cache").exists()


def test_check_readable_needs_a_cache_that_can_be_written(tmp_path, photos):
    (tmp_path / "readable").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="could not be written"):
        check_readable([photos], tmp_path, 2)
