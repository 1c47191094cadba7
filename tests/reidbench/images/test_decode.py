"""Image files: valid ones decode as with Pillow, unusable ones are named and never decoded in part."""

import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile

from reidbench.data.samples import Samples
from reidbench.errors import DataError
from reidbench.images import decode
from reidbench.images.contents import check_images
from reidbench.images.decode import decode_images, read_digest, read_image
from tests.support.images import noise_images


def picture(height: int = 61, width: int = 37, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(coarse, np.ones((4, 4, 1), dtype=np.uint8))[:height, :width])


def encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


JPEG = encoded(picture(), "JPEG", quality=85)
PNG = encoded(picture(), "PNG")
DEEP = np.arange(8 * 4 * 3, dtype=np.uint16) * 600
INKS = np.asarray(picture().convert("CMYK"))


def png_of_16_bits(channels: int, kind: int) -> bytes:
    """Return a PNG of 8 x 4 pixels with 16 bits a channel, which Pillow opens as RGB, LA or RGBA."""
    lines = np.resize(DEEP, (8, 4 * channels)).astype(">u2")
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 4, 8, 16, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))),
        (b"IEND", b""),
    ]
    written = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


PROGRESSIVE = encoded(picture(), "JPEG", progressive=True)
GREY_PROGRESSIVE = encoded(picture().convert("L"), "JPEG", progressive=True)


@pytest.mark.parametrize(
    "data",
    [
        JPEG,
        encoded(picture(), "JPEG", quality=40, subsampling=2),
        PROGRESSIVE,
        GREY_PROGRESSIVE,
        encoded(
            picture(), "JPEG", progressive=True, restart_marker_blocks=3, exif=JPEG[:20] + JPEG, comment=b"\xff\xda"
        ),
        encoded(picture().convert("L"), "JPEG"),
        encoded(picture(), "JPEG", keep_rgb=True),
        JPEG + b"trailing bytes",
        PNG,
        encoded(picture().convert("P"), "PNG"),
        encoded(picture().convert("1"), "PNG"),
        encoded(picture().convert("LA"), "PNG"),
        encoded(picture().convert("RGBA"), "PNG"),  # opaque
        encoded(picture(), "BMP"),
        encoded(picture(), "WEBP", lossless=True),
        encoded(picture().convert("L"), "PPM"),
        b"P5 2 1 15\n\x00\x0f",  # its largest value becomes 255
    ],
)
def test_same_pixels_as_pillow(tmp_path, data):
    file = tmp_path / "image"
    file.write_bytes(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    image = read_image(file)
    assert image.dtype == np.uint8
    assert np.array_equal(image, expected)


def damaged_scan() -> bytes:
    scan = JPEG.index(b"\xff\xda") + 12
    return JPEG[: scan + 40] + JPEG[-40:]


def transparent(mode: str) -> Image.Image:
    image = picture().convert("RGBA")
    image.putpixel((3, 3), (1, 2, 3, 0))
    return image.convert(mode)


HEADER_TELLS = ("it is empty", "its format", "bits", "mode", "several frames", "its colours")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"path,pid\n", "its format is none of"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "its format is none of"),
        (JPEG[: len(JPEG) // 2], "damaged, cut short"),
        (JPEG[:-2], "damaged, cut short"),
        (JPEG[: len(JPEG) // 2] + b"trailing bytes", "damaged, cut short"),
        (JPEG[:30], "damaged, cut short"),
        (damaged_scan(), "damaged, cut short"),
        (encoded(picture().convert("CMYK"), "JPEG"), "its colours are CMYK"),
        (simplejpeg.encode_jpeg(INKS, 90, "CMYK", "420"), "its colours are YCCK"),
        (PNG[: len(PNG) // 2], "is not a usable image"),
        (PNG[:100] + b"\0" * 40 + PNG[140:], "is not a usable image"),
        (encoded(transparent("RGBA"), "PNG"), "transparent"),
        (encoded(picture().convert("P"), "PNG", transparency=0), "transparent"),
        (encoded(picture().convert("P"), "PNG", transparency=bytes(256)), "transparent"),
        (encoded(transparent("LA"), "PNG"), "transparent"),
        (png_of_16_bits(1, 0), "bits a channel"),
        (png_of_16_bits(3, 2), "bits a channel"),
        (png_of_16_bits(2, 4), "bits a channel"),
        (png_of_16_bits(4, 6), "bits a channel"),
        (JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"), "8 bits a channel"),
        (encoded(picture(), "WEBP", save_all=True, append_images=[picture(seed=1)]), "several frames"),
        (encoded(picture(), "TIFF"), "its format is none of"),
        (encoded(picture(), "PPM"), "its format is PPM"),
        (b"P5 1 1 65535\n\x01\x02", "its format is PPM"),
        (encoded(picture().convert("L"), "PPM")[:-1], "damaged, cut short"),
    ],
)
def test_unusable_files_are_named(tmp_path, data, reason):
    file = tmp_path / "0001_c1.jpg"
    file.write_bytes(data)
    for read in (read_image, *([read_digest] if reason.startswith(HEADER_TELLS) else [])):
        with pytest.raises(DataError, match=reason) as caught:
            read(file)
        assert str(file) in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jpg: .*No such file"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError, match=rf"{tmp_path}: .*no regular file"):
        read_image(tmp_path)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_too_many_pixels(tmp_path, monkeypatch, form):
    picture(50, 40).save(tmp_path / "large", form)
    monkeypatch.setattr(decode, "MAX_PIXELS", 1999)
    for read in (read_image, read_digest):
        with pytest.raises(DataError, match="40x50 pixels, more than 1,999"):
            read(tmp_path / "large")


def test_pillows_global_switches_let_no_part_through(tmp_path, monkeypatch):
    whole = {**{form: encoded(picture(), form) for form in ("JPEG", "PNG", "BMP", "WEBP")}}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    for form, data in whole.items():
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        (tmp_path / form).write_bytes(data)
        assert read_image(tmp_path / form).size > 900
        for part in (0.3, 0.6, 0.9):
            (tmp_path / f"{form} {part}").write_bytes(data[: int(part * len(data))])
            with pytest.raises(DataError, match=f"{form} {part}"):
                read_image(tmp_path / f"{form} {part}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(DataError, match=r"PNG: .*more than 89,478,485 pixels"):
        read_image(tmp_path / "PNG")


def test_every_flipped_bit_of_a_png_is_an_error(tmp_path):
    for place in range(8, len(PNG) - 12, 13):
        (tmp_path / "flipped.png").write_bytes(PNG[:place] + bytes([PNG[place] ^ 1]) + PNG[place + 1 :])
        with pytest.raises(DataError, match="damaged"):
            read_image(tmp_path / "flipped.png")


def test_long_file_is_read_to_its_end(tmp_path):
    image = picture(300, 200)
    image.save(tmp_path / "large.bmp")
    assert (tmp_path / "large.bmp").stat().st_size > 2 * decode.READ_BYTES
    assert (read_image(tmp_path / "large.bmp") == np.asarray(image)).all()


def test_decode_images_resizes_as_pillow(tmp_path):
    names = [f"{number}.jpg" for number in range(5)]
    for number, name in enumerate(names):
        picture(50 + 9 * number, 30 + number, seed=number).save(tmp_path / name)
    samples = Samples.of_images(tmp_path, names, [1] * 5, [1] * 5)
    out = np.zeros((3, 18, 9, 3), dtype=np.uint8)
    decode_images(samples, [2, 4, 3], out)
    for place, name in enumerate([names[2], names[4], names[3]]):
        expected = Image.open(tmp_path / name).convert("RGB").resize((9, 18), Image.Resampling.BILINEAR)
        assert np.abs(out[place].astype(int) - np.asarray(expected)).max() <= 1


def test_header_behind_the_first_bytes_is_found(tmp_path):
    options = {"exif": b"Exif\0\0" + bytes(65_000), "comment": bytes(60_000)}
    picture(300, 200).save(tmp_path / "image", "JPEG", **options)
    assert (tmp_path / "image").stat().st_size > decode.READ_BYTES
    read_digest(tmp_path / "image")


@pytest.mark.parametrize("full", [True, False])
def test_check_names_up_to_ten_files(tmp_path, full):
    samples = noise_images(tmp_path, [1] * 140)
    assert check_images([samples, samples], 2, read_image if full else read_digest) == 140
    unusable = [0, 5, 139, *range(60, 70)]
    for number in unusable:
        content = samples.path(number).read_bytes()
        samples.path(number).write_bytes(content[: len(content) // 2 if full else 20])
    with pytest.raises(DataError, match="13 of 140 images") as caught:
        check_images([samples, samples], 2, read_image if full else read_digest)
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 11
    for line, number in zip(lines[:10], sorted(unusable)[:10], strict=True):
        assert str(samples.path(number)) in line
    assert lines[-1].strip() == "and 3 more"


def test_damage_behind_the_header_needs_decoding(tmp_path):
    samples = noise_images(tmp_path, [1] * 3)
    samples.path(1).write_bytes(samples.path(1).read_bytes()[:-30])
    assert check_images([samples], 1, read_digest) == 3
    with pytest.raises(DataError, match=r"0001\.jpg"):
        check_images([samples], 1, read_image)
