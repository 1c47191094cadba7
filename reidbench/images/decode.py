"""Decode image files to RGB pixels and check them before a run: one decoder for everything, no partial images."""

from __future__ import annotations

import ast
import hashlib
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from io import BytesIO
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, UnidentifiedImageError

from reidbench.data.samples import Samples
from reidbench.errors import DataError
from reidbench.images import resize
from reidbench.utils.arrays import IntArray, PixelArray
from reidbench.utils.syntax import syntax_digest

CHUNK_IMAGES = 64  # decoded by one thread before it takes the next ones
READ_BYTES = 2**16  # read at once: more than most crops of a person take

# Pillow's own limit. Its other formats are excluded: some run external programs on untrusted files.
MAX_PIXELS = 89_478_485
MAX_BYTES = 2**29  # more than that many pixels take uncompressed
FORMATS = ("BMP", "PNG", "PPM", "WEBP")
JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
EMPTY = "it is empty; copy it again from its source"
DAMAGED = (
    "it is damaged, cut short or of an unsupported kind; copy it again from its source, save it again as a JPEG or PNG "
    "with 8 bits a channel, or take it out of the dataset"
)
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr")


@cache
def decoder_digest() -> str:
    """Return a sha256 (hex) over what turns a file into pixels: these modules and the versions of the libraries."""
    versions = f"{metadata.version('simplejpeg')} {metadata.version('pillow')}\n"
    code = [syntax_digest(ast.parse(Path(file).read_bytes()).body) for file in (__file__, resize.__file__)]
    return hashlib.sha256((versions + " ".join(code)).encode()).hexdigest()


def read_image(path: Path | str, digest: bytes = b"") -> PixelArray:
    """Return the RGB image in a file, uint8 [h, w, 3], as stored: an orientation in its metadata is not applied.

    Palettes, grey levels and 1 to 7 bits become 0 to 255. Raises DataError with the file and the reason where it is
    missing, empty or damaged, has more than 89 megapixels, several frames or more than 8 bits a channel, is CMYK or
    transparent anywhere (dropping alpha would show hidden colours); also where a ``digest`` is given and the sha256 of
    the file is another.
    """
    with _named(path):
        return _decode(_content(path, digest))


def check_file(path: Path | str) -> None:
    """Raise DataError where a file is missing or empty."""
    with _named(path):
        if not os.stat(path).st_size:  # noqa: PTH116, pathlib would double the time of 10^6 files
            raise DataError(EMPTY)


def read_digest(path: Path | str) -> bytes:
    """Return the sha256 [32 bytes] of an image file; raises DataError as ``read_image`` where its header alone tells.

    Damage behind the header and transparency go unnoticed.
    """
    with _named(path):
        data = _content(path)
        if data.startswith(JPEG_MAGIC):
            _check_jpeg(data)
        else:
            _open_with_pillow(data).close()
        return hashlib.sha256(data).digest()


@contextmanager
def _named(path: Path | str) -> Iterator[None]:
    """Turn any error of the block into a DataError that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make a decoder raise anything, from struct.error to SyntaxError
        reason = str(error) if isinstance(error, DataError) else getattr(error, "strerror", None) or DAMAGED
        raise DataError(f"{path}: is not a usable image: {reason}") from None


def _content(path: Path | str, digest: bytes = b"") -> bytes:
    """Return the bytes of a file, in five system calls; ``read_bytes`` makes nine.

    Each call releases Python's global lock and must win it back from the other decoding threads. Raises DataError where
    a ``digest`` is given and the sha256 of the file is another.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a named pipe would wait for a writer
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise DataError(f"it is no regular file of at most {MAX_BYTES / 2**20:.0f} MiB; save it as an image file")
        pieces = [os.read(descriptor, READ_BYTES)]
        while pieces[-1]:
            pieces.append(os.read(descriptor, READ_BYTES))
    finally:
        os.close(descriptor)
    data = b"".join(pieces)
    if not data:
        raise DataError(EMPTY)
    if digest and hashlib.sha256(data).digest() != digest:
        raise DataError("its content has changed since the run began; run the same command again")
    return data


def _decode(data: bytes) -> PixelArray:
    if data.startswith(JPEG_MAGIC):
        _check_jpeg(data)
        # Strict: damaged data, which Pillow decodes to grey or shifted blocks, is an error.
        decoded: PixelArray = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
        return decoded
    if data.startswith(PNG_MAGIC):
        _open_with_pillow(data).verify()  # the checksums of all chunks; decoding lets some damage pass
    with _open_with_pillow(data) as image:
        if not image.has_transparency_data:
            return np.asarray(image.convert("RGB"))
        with_alpha = image.convert("RGBA")
        if with_alpha.getchannel("A").getextrema() != (255, 255):
            raise DataError("it has transparent pixels; save it on an opaque background")
        return np.asarray(with_alpha.convert("RGB"))


def _check_jpeg(data: bytes) -> None:
    height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    _check_size(width, height)
    if colorspace in ("CMYK", "YCCK"):
        raise DataError(f"its colours are {colorspace}, which have no fixed RGB values; save it as RGB")


def _open_with_pillow(data: bytes) -> Image.Image:
    """Return an image whose header has been read and checked; its pixels are not decoded yet.

    Pillow's settings, which other packages change, are those of the process: from here on no image is decoded in part,
    and no warning of Pillow is shown.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:  # at twice Pillow's limit, before its size can be read below
        raise DataError(f"it has more than {MAX_PIXELS:,} pixels; save it smaller") from None
    except UnidentifiedImageError:
        raise DataError(f"its format is none of JPEG, {', '.join(FORMATS)}, or its header is damaged") from None
    _check_size(*image.size)
    if data.startswith(PNG_MAGIC) and data[24] > 8:  # its depth; Pillow's mode is "RGB" for some with 16
        raise DataError(f"it has {data[24]} bits a channel, whose range is not known; save it with 8")
    if getattr(image, "is_animated", False):
        raise DataError("it has several frames; save one of them")
    if image.format == "PPM" and image.mode != "L":  # Pillow's mode of a colour one does not tell its depth
        raise DataError("its format is PPM, of which only grey images with 8 bits (PGM) are read; save it as a PNG")
    if image.mode not in MODES:
        raise DataError(f"its pixel mode is {image.mode}; save it as RGB with 8 bits a channel")
    return image


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(f"it has {width}x{height} pixels, more than {MAX_PIXELS:,}; save it smaller")


def decode_images(
    samples: Samples, images: Sequence[int] | IntArray, out: PixelArray, digests: PixelArray | None = None
) -> None:
    """Decode ``images`` of ``samples``, resized to the height and width of ``out``, into it [len(images), h, w, 3].

    The resize differs from Pillow's by at most one grey level. Raises DataError as ``read_image``, with the sha256 of
    each image of ``samples`` in ``digests`` [m, 32], if given.
    """
    root = str(samples.root)  # a path object for each image would take as long as reading its file
    for place, image in enumerate(np.asarray(images, dtype=np.int64).tolist()):
        digest = b"" if digests is None else digests[image].tobytes()
        resize.resize_image(read_image(f"{root}/{samples.images[image]}", digest), out[place])
