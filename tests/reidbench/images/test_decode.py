"""Real files: good ones decode as Pillow does, bad ones are named and never half read."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from reidbench.data.samples import Samples
from reidbench.errors import DataError
from reidbench.images import decode as decoding
from reidbench.images.decode import decode_images, read_image
from reidbench.utils.threads import in_threads


def picture(height: int = 61, width: int = 37, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(coarse, np.ones((4, 4, 1), dtype=np.uint8))[:height, :width])


def encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


JPEG = encoded(picture(), "JPEG", quality=85)
PNG = encoded(picture(), "PNG")
GRADIENT = Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))


@pytest.mark.parametrize(
    "data",
    [
        JPEG,
        encoded(picture(), "JPEG", quality=40, subsampling=2),
        encoded(picture(), "JPEG", progressive=True),
        encoded(picture().convert("L"), "JPEG"),
        encoded(picture().convert("CMYK"), "JPEG"),
        encoded(picture(), "JPEG", keep_rgb=True),
        JPEG + b"trailing bytes",
        PNG,
        encoded(picture().convert("P"), "PNG"),
        encoded(picture().convert("1"), "PNG"),
        encoded(picture().convert("LA"), "PNG"),
        encoded(picture(), "BMP"),
        encoded(picture(), "WEBP", lossless=True),
        encoded(picture(), "TIFF"),
    ],
)
def test_same_pixels_as_pillow(tmp_path, data):
    file = tmp_path / "image"
    file.write_bytes(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    image = read_image(file)
    assert image.dtype == np.uint8
    assert np.array_equal(image, expected)


def test_opaque_alpha_is_dropped(tmp_path):
    image = picture().convert("RGBA")
    image.save(tmp_path / "opaque.png")
    assert np.array_equal(read_image(tmp_path / "opaque.png"), np.asarray(picture()))


def damaged_scan() -> bytes:
    scan = JPEG.index(b"\xff\xda") + 12
    return JPEG[: scan + 40] + JPEG[-40:]


def transparent(mode: str) -> Image.Image:
    image = picture().convert("RGBA")
    image.putpixel((3, 3), (1, 2, 3, 0))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"path,pid\n", "found none of them"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "found none of them"),
        (JPEG[: len(JPEG) // 2], "Premature end"),
        (JPEG[:-2], "Premature end"),
        (JPEG[: len(JPEG) // 2] + b"trailing bytes", "Premature end"),
        (JPEG[:30], "is no usable image"),
        (damaged_scan(), "Corrupt JPEG"),
        (encoded(picture().convert("CMYK"), "JPEG")[:-200], "truncated"),
        (PNG[: len(PNG) // 2], "is no usable image"),
        (PNG[:100] + b"\0" * 40 + PNG[140:], "is no usable image"),
        (encoded(transparent("RGBA"), "PNG"), "transparent"),
        (encoded(picture().convert("P"), "PNG", transparency=0), "transparent"),
        (encoded(picture().convert("P"), "PNG", transparency=bytes(256)), "transparent"),
        (encoded(transparent("LA"), "PNG"), "transparent"),
        (encoded(GRADIENT, "PNG"), "mode I;16"),
        (encoded(GRADIENT.convert("F"), "TIFF"), "mode F"),
        (encoded(picture(), "GIF", save_all=True, append_images=[picture(seed=1)]), "several frames"),
    ],
)
def test_bad_files_are_named(tmp_path, data, reason):
    file = tmp_path / "0001_c1.jpg"
    file.write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        read_image(file)
    assert str(file) in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jpg: cannot be read: No such file"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError, match="Is a directory"):
        read_image(tmp_path)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_too_many_pixels(tmp_path, monkeypatch, form):
    picture(50, 40).save(tmp_path / "large", form)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1999)
    with pytest.raises(DataError, match="40x50 pixels, more than 1,999"):
        read_image(tmp_path / "large")


def test_pillows_own_limit(tmp_path, monkeypatch):
    picture(50, 40).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with pytest.raises(DataError, match=r"bomb\.png.*decompression bomb"):
        read_image(tmp_path / "bomb.png")


def test_a_file_longer_than_one_reading_is_read_to_its_end(tmp_path):
    image = picture(300, 200)
    image.save(tmp_path / "large.bmp")
    assert (tmp_path / "large.bmp").stat().st_size > 2 * decoding.PIECE
    assert (read_image(tmp_path / "large.bmp") == np.asarray(image)).all()


@pytest.mark.parametrize("held", [1, 10_000, decoding.HELD])
def test_decode_images_resizes_as_pillow(held, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "HELD", held)
    names = [f"{number}.jpg" for number in range(5)]
    for number, name in enumerate(names):
        picture(50 + 9 * number, 30 + number, seed=number).save(tmp_path / name)
    samples = Samples.of_images(tmp_path, names, [1] * 5, [1] * 5)
    out = np.zeros((3, 18, 9, 3), dtype=np.uint8)
    decode_images(samples, [2, 4, 3], out)
    for place, name in enumerate([names[2], names[4], names[3]]):
        expected = Image.open(tmp_path / name).convert("RGB").resize((9, 18), Image.Resampling.BILINEAR)
        assert np.abs(out[place].astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("threads", [1, 3])
def test_in_threads_keeps_order_and_stays_a_little_ahead(threads):
    started = []

    def work(number: int) -> int:
        started.append(number)
        time.sleep(0.002 * (number % 3))
        return number

    taken = []
    for number in in_threads(work, 20, threads):
        taken.append(number)
        assert len(started) <= len(taken) + 1 + threads
    assert taken == list(range(20))


def test_in_threads_raises_the_first_error_and_drops_the_rest():
    ran = []

    def work(number: int) -> int:
        ran.append(number)
        if number == 1:
            time.sleep(0.02)  # the later error is there first
        if number >= 1:
            raise ValueError(str(number))
        return number

    with pytest.raises(ValueError, match="1"):
        list(in_threads(work, 1000, 2))
    assert len(ran) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
