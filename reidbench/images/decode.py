"""Files to pixels: one decoder for every run, and never half an image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
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
from reidbench.images import resize as pixel_loops
from reidbench.utils.arrays import IntArray, PixelArray
from reidbench.utils.atomic import write_atomic
from reidbench.utils.progress import progress
from reidbench.utils.threads import in_threads

T = TypeVar("T")

# Images that one thread decodes before it takes the next ones.
CHUNK = 64

# Bytes of decoded images that a thread holds before it resizes them.
HELD = 2**22
# Bytes of a file read at once: more than most photographs of one person.
PIECE = 2**16

# Pillow's own limit. Its other formats are left out: some run external programs on a stranger's file.
MAX_PIXELS = 89_478_485
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
JPEG_MAGIC = b"\xff\xd8\xff"
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


@cache
def decoder_digest() -> str:
    """Return a sha256 (hex) over all that turns a file into pixels: these modules and the libraries' versions."""
    versions = f"{metadata.version('simplejpeg')} {metadata.version('pillow')}\n"
    code = Path(__file__).read_bytes() + Path(pixel_loops.__file__).read_bytes()
    return hashlib.sha256(versions.encode() + code).hexdigest()


def files_digest(parts: Sequence[Samples]) -> str:
    """Return a sha256 (hex) over the images' places, sizes and times of change on this machine, and the decoder.

    It tells whether what was once decoded is still what lies there. Raises DataError where a file is missing.
    """
    digest = hashlib.sha256(decoder_digest().encode())
    for samples in parts:
        root = str(samples.root.resolve())
        digest.update(f"{root}\0{len(samples.images)}\n".encode())
        for name in samples.images.tolist():
            try:
                found = os.stat(f"{root}/{name}")  # noqa: PTH116, pathlib would double the time of 10^6 files
            except OSError as error:
                raise DataError(f"{root}/{name}: cannot be read: {error.strerror}") from None
            digest.update(f"{name}\0{found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read_image(path: Path | str) -> PixelArray:
    """Return the RGB image in a file, uint8 [h, w, 3], as stored: an orientation in its metadata is not applied.

    Raises DataError with the file and the reason where it is missing, empty, damaged, larger than 89 megapixels, has
    several frames or more than 8 bits a channel, or is transparent anywhere (dropping alpha would show hidden colours).
    """
    try:
        data = _content(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not data:
        raise DataError(f"{path}: is empty, expected an image")
    try:
        return _decode_jpeg(data) if data.startswith(JPEG_MAGIC) else np.asarray(_decode_with_pillow(data))
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make a decoder raise anything, from struct.error to SyntaxError
        raise DataError(f"{path}: is no usable image: {error or type(error).__name__}") from None


def _content(path: Path | str) -> bytes:
    """Return a file's bytes in four calls of the system, where ``read_bytes`` makes nine.

    Each of them gives Python's global lock away and has to win it back from the other threads that decode.
    """
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(opened, PIECE):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(opened)


def _decode_jpeg(data: bytes) -> PixelArray:
    height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    _check_size(width, height)
    if colorspace not in ("YCbCr", "RGB", "Gray"):
        return np.asarray(_decode_with_pillow(data))
    # Strict: libjpeg's warnings about damaged data are errors, which Pillow lets pass as grey or shifted blocks.
    decoded: PixelArray = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
    return decoded


def _decode_with_pillow(data: bytes) -> Image.Image:
    try:
        opened = Image.open(BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"expected one of {', '.join(FORMATS)}, found none of them") from None
    with opened as image:
        _check_size(*image.size)
        if getattr(image, "is_animated", False):
            raise ValueError("it holds several frames; save the one that is meant")
        if image.mode not in MODES:
            raise ValueError(f"its pixels are of mode {image.mode}; save it with 8 bits a channel")
        if not image.has_transparency_data:
            return image.convert("RGB")
        with_alpha = image.convert("RGBA")
        if with_alpha.getchannel("A").getextrema() != (255, 255):
            raise ValueError("it has transparent pixels; lay it on a background and save it without them")
        return with_alpha.convert("RGB")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"it has {width}x{height} pixels, more than {MAX_PIXELS:,}")


def decode_images(samples: Samples, images: Sequence[int] | IntArray, out: PixelArray) -> None:
    """Write ``images`` of ``samples``, stretched to out's height and width, into ``out`` [len(images), h, w, 3].

    Bilinear with antialias, at most one grey level from what Pillow makes of it. Raises DataError as read_image.
    """
    # Strings and not paths, and one compiled call for many images: in what Python does between the compiled parts the
    # threads that decode wait for each other.
    root, names = str(samples.root), samples.images[np.asarray(images, dtype=np.int64)].tolist()
    first, held, size = 0, list[PixelArray](), 0
    for place, name in enumerate(names, start=1):
        held.append(read_image(f"{root}/{name}"))
        size += held[-1].nbytes
        if size >= HELD or place == len(names):
            pixel_loops.resize_all(held, out[first:place])
            first, held, size = place, [], 0


NAMED = 10


def check_readable(parts: Sequence[Samples], cache: Path, threads: int) -> None:
    """Decode every image of ``parts`` once, so that a damaged one is named before the first step.

    A success is remembered in ``cache`` until a file is touched or the decoder changes. Raises DataError as
    ``decode_all``, and where the cache cannot be written.
    """
    marker = cache / "readable" / files_digest(parts)
    if not marker.exists():
        write_atomic(marker, f"{decode_all(parts, threads)} images were decoded\n")


def decode_all(parts: Sequence[Samples], threads: int) -> int:
    """Decode every image of ``parts``, keep none, and return how many there are.

    Raises DataError with up to ten files that cannot be used and their reasons.
    """
    files = list(dict.fromkeys(samples.path(image) for samples in parts for image in range(len(samples.images))))

    def complaints(number: int) -> list[str]:
        found = []
        for file in files[number * CHUNK : (number + 1) * CHUNK]:
            try:
                read_image(file)
            except DataError as error:
                found.append(str(error))
        return found

    mistakes: list[str] = []
    with progress("checking images", len(files)) as update:
        for number, found in enumerate(in_threads(complaints, -(-len(files) // CHUNK), threads), start=1):
            mistakes += found
            update(min(number * CHUNK, len(files)), "")
    if mistakes:
        shown = mistakes[:NAMED] + [f"and {len(mistakes) - NAMED} more"] * (len(mistakes) > NAMED)
        raise DataError(f"{len(mistakes)} of {len(files)} images cannot be used:\n  " + "\n  ".join(shown))
    return len(files)
