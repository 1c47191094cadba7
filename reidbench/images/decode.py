"""Decode image files to RGB pixels and check them before a run: one decoder for everything, no partial images."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from reidbench.data.samples import Samples
from reidbench.errors import DataError
from reidbench.images import resize
from reidbench.utils.arrays import IntArray, PixelArray
from reidbench.utils.progress import progress
from reidbench.utils.syntax import syntax_digest
from reidbench.utils.threads import map_in_threads

T = TypeVar("T")

CHUNK_IMAGES = 64  # decoded by one thread before it takes the next ones
RESIZE_BYTES = 2**22  # of decoded images that are resized in one call
READ_BYTES = 2**16  # read at once: more than most crops of a person take, and than the header of a photograph
LISTED_FILES = 10  # named in one error

# Pillow's own limit. Its other formats are excluded: some run external programs on untrusted files.
MAX_PIXELS = 89_478_485
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
JPEG_MAGIC = b"\xff\xd8\xff"
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


@cache
def decoder_digest() -> str:
    """Return a sha256 (hex) over what turns a file into pixels: these modules and the versions of the libraries."""
    versions = f"{metadata.version('simplejpeg')} {metadata.version('pillow')}\n"
    code = [syntax_digest(ast.parse(Path(file).read_bytes()).body) for file in (__file__, resize.__file__)]
    return hashlib.sha256((versions + " ".join(code)).encode()).hexdigest()


def read_image(path: Path | str) -> PixelArray:
    """Return the RGB image in a file, uint8 [h, w, 3], as stored: an orientation in its metadata is not applied.

    Raises DataError with the file and the reason where it is missing, empty or damaged, has more than 89 megapixels,
    several frames or more than 8 bits a channel, or is transparent anywhere (dropping alpha would show hidden colours).
    """
    return _named(path, lambda: _decode(_content(path)))


def read_header(path: Path | str) -> None:
    """Read the header of an image file; raises DataError as ``read_image`` where the header alone tells.

    Damage behind the header and transparency go unnoticed.
    """
    _named(path, lambda: _decode_header(path))


def _named(path: Path | str, read: Callable[[], T]) -> T:
    """Return what ``read`` returns; any error of it becomes a DataError that names the file."""
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make a decoder raise anything, from struct.error to SyntaxError
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise DataError(f"{path}: is not a usable image: {reason}") from None


def _content(path: Path | str, *, whole: bool = True) -> bytes:
    """Return the bytes of a file, or the first 64 KiB, in four system calls; ``read_bytes`` makes nine.

    Each call releases Python's global lock and must win it back from the other decoding threads.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = [os.read(descriptor, READ_BYTES)]
        while whole and pieces[-1]:
            pieces.append(os.read(descriptor, READ_BYTES))
    finally:
        os.close(descriptor)
    if not pieces[0]:
        raise ValueError("it is empty")
    return b"".join(pieces)


def _decode(data: bytes) -> PixelArray:
    if data.startswith(JPEG_MAGIC) and _jpeg_colorspace(data) in ("YCbCr", "RGB", "Gray"):
        # Strict: damaged data, which Pillow decodes to grey or shifted blocks, is an error.
        decoded: PixelArray = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
        return decoded
    with _open_with_pillow(data) as image:
        if not image.has_transparency_data:
            return np.asarray(image.convert("RGB"))
        with_alpha = image.convert("RGBA")
        if with_alpha.getchannel("A").getextrema() != (255, 255):
            raise ValueError("it has transparent pixels; save it on an opaque background")
        return np.asarray(with_alpha.convert("RGB"))


def _decode_header(path: Path | str) -> None:
    head = _content(path, whole=False)
    if not head.startswith(JPEG_MAGIC):
        _open_with_pillow(_content(path)).close()  # a TIFF may have its header at the end
        return
    try:
        _jpeg_colorspace(head)
    except ValueError:
        _jpeg_colorspace(_content(path))  # large metadata may stand before the header


def _jpeg_colorspace(data: bytes) -> str:
    height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    _check_size(width, height)
    return str(colorspace)


def _open_with_pillow(data: bytes) -> Image.Image:
    """Return an image whose header has been read and checked; its pixels are not decoded yet."""
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"its format is none of {', '.join(FORMATS)}") from None
    _check_size(*image.size)
    if getattr(image, "is_animated", False):
        raise ValueError("it has several frames; save one of them")
    if image.mode not in MODES:
        raise ValueError(f"its pixel mode is {image.mode}; save it with 8 bits a channel")
    return image


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"it has {width}x{height} pixels, more than {MAX_PIXELS:,}")


def decode_images(samples: Samples, images: Sequence[int] | IntArray, out: PixelArray) -> None:
    """Decode ``images`` of ``samples``, resized to the height and width of ``out``, into it [len(images), h, w, 3].

    The resize differs from Pillow's by at most one grey level. Raises DataError as ``read_image``.
    """
    # Strings instead of paths, and one compiled call for many images: decoding threads wait for each other in the
    # Python code between compiled calls.
    root, names = str(samples.root), samples.images[np.asarray(images, dtype=np.int64)].tolist()
    first, decoded, size = 0, list[PixelArray](), 0
    for end, name in enumerate(names, start=1):
        decoded.append(read_image(f"{root}/{name}"))
        size += decoded[-1].nbytes
        if size >= RESIZE_BYTES or end == len(names):
            resize.resize_all(decoded, out[first:end])
            first, decoded, size = end, [], 0


def check_images(parts: Sequence[Samples], threads: int, *, decode: bool = False) -> int:
    """Read the header of every image file of ``parts`` once, or ``decode`` it, and return the number of files.

    Raises DataError with the number of unusable files, the first ten of them and their reasons.
    """
    files = list(dict.fromkeys(f"{samples.root}/{name}" for samples in parts for name in samples.images.tolist()))
    read: Callable[[str], object] = read_image if decode else read_header

    def check_chunk(number: int) -> list[str]:
        errors = []
        for file in files[number * CHUNK_IMAGES : (number + 1) * CHUNK_IMAGES]:
            try:
                read(file)
            except DataError as error:
                errors.append(str(error))
        return errors

    errors: list[str] = []
    with progress("checking images", len(files)) as update:
        chunks = map_in_threads(check_chunk, -(-len(files) // CHUNK_IMAGES), threads)
        for number, chunk_errors in enumerate(chunks, start=1):
            errors += chunk_errors
            update(min(number * CHUNK_IMAGES, len(files)), "")
    if errors:
        listed = errors[:LISTED_FILES] + [f"and {len(errors) - LISTED_FILES} more"] * (len(errors) > LISTED_FILES)
        raise DataError(f"{len(errors)} of {len(files)} images cannot be used:\n  " + "\n  ".join(listed))
    return len(files)
