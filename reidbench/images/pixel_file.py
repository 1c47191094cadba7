"""The cache of decoded pixels: one file for each list of images and size, whole or absent.

A file begins with a digest (hex) of the images' contents and the decoder, padded to ``HEADER_BYTES``; uint8 pixels
[m, h, w, 3] and the CRC-32 of each image's pixels, uint32 [m], follow. Its name is a digest of the images' folder,
names and size. It is used only where the digest of contents and decoder agrees, and an image only where its checksum
does; else the images are decoded anew and the file is replaced.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import zlib
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.errors import DataError
from reidbench.images.augment import Shape
from reidbench.images.contents import FOLDER as CONTENTS
from reidbench.images.contents import image_digests
from reidbench.images.decode import CHUNK_IMAGES, decode_images, decoder_digest
from reidbench.images.pixel_store import PixelStore
from reidbench.utils.arrays import IntArray, PixelArray
from reidbench.utils.atomic import atomic_file, sweep, write_error
from reidbench.utils.device import available_memory
from reidbench.utils.lock import lock
from reidbench.utils.machine import AUTO, SCALES, Machine
from reidbench.utils.progress import progress
from reidbench.utils.threads import map_in_threads
from reidbench.utils.untrusted_files import real_path

HEADER_BYTES = 4096
LOAD_BYTES = 4 * 2**20  # copied to the device at once by each thread
CHECKSUM = np.dtype("<u4")
FOLDER = "pixels"
CACHE_FOLDERS = (FOLDER, CONTENTS, "compiled", "weights", SCALES)  # all that this program stores in a cache folder
LOCK_SECONDS = 7 * 24 * 3600.0


class PixelFile(NamedTuple):
    """A file of the cache, whether or not it is there.

    ``path``: its path, whose name is a digest of the images' folder, names and size.
    ``header``: its first bytes, a digest of the contents of the images and of the decoder.
    ``shape``: shape of the pixels.
    """

    path: Path
    header: bytes
    shape: Shape

    @property
    def nbytes(self) -> int:
        """The bytes of the pixels."""
        return math.prod(self.shape)

    @property
    def file_bytes(self) -> int:
        """The bytes of the file."""
        return HEADER_BYTES + self.nbytes + self.shape[0] * CHECKSUM.itemsize


def choose_store(name: str, nbytes: int, device: torch.device) -> str:
    """Return "device" or "map" for ``nbytes`` of pixels; "auto" is "device" where half of its free memory holds them.

    Raises DataError where "device" is requested and its memory is too small.
    """
    free = available_memory(device)
    if name == "device" and nbytes > free:
        sizes = f"the training images take {nbytes / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free on {device}"
        raise DataError(f"--pixels device: {sizes}; use --pixels map")
    if name == AUTO:
        return "device" if nbytes <= free // 2 else "map"
    return name


def open_pixels(samples: Samples, height: int, width: int, machine: Machine) -> PixelStore:
    """Return all images of ``samples``, resized to ``height`` x ``width``, in the store that ``machine.pixels`` names.

    They are decoded once, into a file below ``machine.cache``. Where another process is decoding the same images, this
    one logs that and waits. Pixels that do not have their checksum are decoded again where they are loaded into memory,
    and a DataError that names the file where they are memory-mapped, which is noticed when an image is first used.
    Raises DataError for images that cannot be used and where the cache cannot be written; else as ``choose_store``.
    """
    digest = hashlib.sha256(decoder_digest().encode() + image_digests(samples, machine).tobytes()).hexdigest()
    names = hashlib.sha256("".join(f"{name}\n" for name in samples.images.tolist()).encode()).hexdigest()
    place = f"{real_path(samples.root)}\0{names} {height}x{width} bilinear"
    path = machine.cache / FOLDER / f"{hashlib.sha256(place.encode()).hexdigest()[:24]}.pixels"
    file = PixelFile(path, digest.encode().ljust(HEADER_BYTES), (len(samples.images), height, width, 3))
    store = choose_store(machine.pixels, file.nbytes, machine.device)
    if not _is_current(file):
        _build(samples, file, machine)
    checksums = np.fromfile(path, CHECKSUM, offset=HEADER_BYTES + file.nbytes)
    if store == "map":
        machine.log(f"{len(checksums):,} training images of {height}x{width} are memory-mapped from {path.parent}")
        try:
            pixels = np.memmap(path, np.uint8, "r", HEADER_BYTES, file.shape)
        except OSError as error:
            advice = "name a folder on another file system with --cache, or use --pixels device"
            raise DataError(f"{path}: cannot be mapped into memory ({error.strerror}); {advice}") from None
        return PixelStore(pixels, machine.device, partial(_check, pixels, checksums, path))
    loaded = _load(file, checksums, machine)
    if loaded is None:
        machine.log(f"{path}: is damaged: decoding again")
        path.unlink(missing_ok=True)
        return open_pixels(samples, height, width, machine)
    return PixelStore(loaded, machine.device)


def cached_bytes(cache: Path) -> int:
    """Return the bytes of everything that this program stores below ``cache``."""
    return sum(file.stat().st_size for name in CACHE_FOLDERS for file in (cache / name).rglob("*") if file.is_file())


def clear(cache: Path) -> int:
    """Delete everything that this program stores below ``cache``, and nothing else; return the freed bytes.

    A process that is using pixels can go on. Raises DataError where something cannot be deleted.
    """
    freed = cached_bytes(cache)
    for name in CACHE_FOLDERS:
        try:
            if (cache / name).exists():
                shutil.rmtree(cache / name)
        except OSError as error:
            raise write_error(cache / name, "could not be deleted", error) from None
    return freed


def _is_current(file: PixelFile) -> bool:
    """Return whether a pixel file is there, with its header and length."""
    try:
        with file.path.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            return size == file.file_bytes and opened.read(HEADER_BYTES) == file.header
    except OSError:
        return False


def _build(samples: Samples, file: PixelFile, machine: Machine) -> None:
    """Write the pixel file, or wait for another process that does; an interrupted build is dropped."""
    with lock(
        file.path.with_suffix(".lock"),
        "decoding images",
        wait=LOCK_SECONDS,
        waiting=lambda holder: machine.log(f"waiting for {holder}, which is decoding the same images"),
    ):
        if _is_current(file):  # another process has just built it
            return
        if file.path.exists():
            machine.log("images or the decoder have changed since the pixels were cached: decoding again")
        sweep(file.path.parent, file.path.name)
        _decode(samples, file, machine)


def _decode(samples: Samples, file: PixelFile, machine: Machine) -> None:
    """Write the pixel file, chunk by chunk in the order of the images."""
    total, digests = len(samples.images), image_digests(samples, machine)

    def decode_chunk(number: int) -> tuple[PixelArray, list[int]]:
        images = range(number * CHUNK_IMAGES, min((number + 1) * CHUNK_IMAGES, total))
        pixels = np.empty((len(images), *file.shape[1:]), dtype=np.uint8)
        decode_images(samples, images, pixels, digests)
        return pixels, [zlib.crc32(image.data) for image in pixels]

    with (
        atomic_file(file.path, file.file_bytes) as opened,
        progress("decoding the training images", total, overall=machine.overall) as update,
        closing(map_in_threads(decode_chunk, -(-total // CHUNK_IMAGES), machine.threads)) as chunks,
    ):
        opened.write(file.header)
        checksums: list[int] = []
        # Written and not mapped: an error of the disk is then an exception, and memory holds a few chunks only.
        for pixels, chunk_checksums in chunks:
            opened.write(pixels.data)
            checksums += chunk_checksums
            update(len(checksums), "")
        opened.write(np.array(checksums, dtype=CHECKSUM).data)


def _load(file: PixelFile, checksums: NDArray[Any], machine: Machine) -> Tensor | None:
    """Return the pixels in a device's memory, None where they are damaged.

    They are read piece by piece, so that the host's memory holds them at most once.
    """
    pixels = torch.empty(file.shape, dtype=torch.uint8, device=machine.device)
    image_bytes = math.prod(file.shape[1:])
    images = max(1, LOAD_BYTES // image_bytes)

    def load_piece(number: int) -> bool:
        """Load one piece and return whether it is undamaged."""
        first = number * images
        part = pixels[first : first + images]
        offset = HEADER_BYTES + first * image_bytes
        piece = np.fromfile(file.path, np.uint8, part.numel(), offset=offset).reshape(part.shape)
        part.copy_(torch.from_numpy(piece))
        return not _damaged(piece, checksums[first : first + images])

    pieces = map_in_threads(load_piece, -(-len(pixels) // images), machine.threads)
    with closing(pieces):
        return pixels if all(pieces) else None


def _damaged(pixels: PixelArray, checksums: NDArray[Any]) -> bool:
    """Return whether any of some images does not have its checksum."""
    return any(zlib.crc32(image.data) != checksum for image, checksum in zip(pixels, checksums.tolist(), strict=True))


def _check(pixels: PixelArray, checksums: NDArray[Any], file: Path, images: IntArray) -> None:
    """Raise DataError, and delete the file, where one of ``images`` does not have its checksum."""
    if _damaged(pixels[images], checksums[images]):
        file.unlink(missing_ok=True)
        raise DataError(f"{file}: was damaged and is deleted; the same command decodes the images again and resumes")
