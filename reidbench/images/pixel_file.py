"""The cache of decoded pixels: one file for each list of images and size, whole or absent.

A file begins with a JSON header, padded to ``HEADER_BYTES``, that says what it was decoded from; uint8 pixels
[m, h, w, 3] follow. Its name is a digest of the images' folder, names and size. It is used only where the header's
digest of file sizes, modification times and decoder agrees; else the images are decoded anew and the file is replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.errors import DataError, OptionError
from reidbench.images.augment import Shape
from reidbench.images.decode import CHUNK_IMAGES, decode_images, decoder_digest
from reidbench.images.pixel_store import PixelStore
from reidbench.utils.atomic import atomic_file, sweep, write_error
from reidbench.utils.device import available_memory
from reidbench.utils.lock import lock
from reidbench.utils.machine import AUTO, SCALES, Machine
from reidbench.utils.progress import progress
from reidbench.utils.threads import map_in_threads

STORES = (AUTO, "device", "map")
HEADER_BYTES = 4096
LOAD_BYTES = 64 * 2**20  # copied to the device at once
FOLDER = "pixels"
CACHE_FOLDERS = (FOLDER, "compiled", SCALES)  # all that this program stores in a cache folder
LOCK_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Header:
    """What a pixel file was decoded from.

    ``root``: folder of the images.
    ``images``: number of images.
    ``height``: rows of pixels of each.
    ``width``: columns of pixels of each.
    ``files``: sha256 (hex) over the files' sizes and modification times and the decoder.
    ``made``: when they were decoded, in ISO 8601; "" in a comparison.
    """

    root: str
    images: int
    height: int
    width: int
    files: str
    made: str = ""

    @property
    def shape(self) -> Shape:
        return (self.images, self.height, self.width, 3)

    @property
    def nbytes(self) -> int:
        """The bytes of the pixels."""
        return int(np.prod(self.shape, dtype=np.int64))


def check_store(name: str) -> None:
    """Raise OptionError where there is no pixel store of that name."""
    if name not in STORES:
        raise OptionError(f"--pixels: expected {', '.join(STORES[:-1])} or {STORES[-1]}, got {name!r}")


def choose_store(name: str, nbytes: int, device: torch.device) -> str:
    """Return "device" or "map" for ``nbytes`` of pixels; "auto" is "device" where half of its free memory holds them.

    Raises OptionError for an unknown name, DataError where "device" is requested and its memory is too small.
    """
    check_store(name)
    free = available_memory(device)
    if name == "device" and nbytes > free:
        raise DataError(
            f"--pixels device: the training images take {nbytes / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free on "
            f"{device}; use --pixels map"
        )
    if name == AUTO:
        return "device" if nbytes <= free // 2 else "map"
    return name


def open_pixels(samples: Samples, height: int, width: int, machine: Machine) -> PixelStore:
    """Return all images of ``samples``, resized to ``height`` x ``width``, in the store that ``machine.pixels`` names.

    They are decoded once, into a file below ``machine.cache``. Where another process is decoding the same images, this
    one logs that and waits. Raises DataError for the first image that cannot be used and where the cache cannot be
    written; else as ``choose_store``.
    """
    header = Header(str(samples.root.resolve()), len(samples.images), height, width, _files_digest(samples))
    file = _file(machine.cache, samples, header)
    store = choose_store(machine.pixels, header.nbytes, machine.device)
    if not _is_current(file, header):
        _build(samples, header, file, machine)
    if store == "map":
        machine.log(f"{header.images:,} training images of {height}x{width} are memory-mapped from {file.parent}")
        try:
            pixels = np.memmap(file, np.uint8, "r", HEADER_BYTES, header.shape)
        except OSError as error:
            raise DataError(
                f"{file}: cannot be mapped into memory ({error.strerror}); name a folder on another file system with "
                "--cache, or use --pixels device"
            ) from None
        return PixelStore(pixels, machine.device)
    return PixelStore(_load(file, header, machine.device), machine.device)


def entries(cache: Path) -> list[tuple[Path, Header | None]]:
    """Return the pixel files in a cache folder with their headers, None where a file is incomplete."""
    files = [*(cache / FOLDER).glob("*.pixels"), *(cache / FOLDER).glob(".*.pixels.*.tmp")]
    return [(file, _read_header(file)) for file in sorted(files)]


def clear(cache: Path) -> int:
    """Delete everything that this program stores below ``cache``, and nothing else; return the freed bytes.

    A process that is using pixels can go on. Raises DataError where something cannot be deleted.
    """
    freed = sum(file.stat().st_size for name in CACHE_FOLDERS for file in (cache / name).rglob("*") if file.is_file())
    for name in CACHE_FOLDERS:
        try:
            if (cache / name).exists():
                shutil.rmtree(cache / name)
        except OSError as error:
            raise write_error(cache / name, "could not be deleted", error) from None
    return freed


def _files_digest(samples: Samples) -> str:
    """Return a sha256 (hex) over the images' folder, names, sizes and modification times, and the decoder."""
    digest = hashlib.sha256(decoder_digest().encode())
    digest.update(f"{samples.root.resolve()}\0{len(samples.images)}\n".encode())
    for name, (size, modified) in zip(samples.images.tolist(), samples.file_stats.tolist(), strict=True):
        digest.update(f"{name}\0{size} {modified}\n".encode())
    return digest.hexdigest()


def _file(cache: Path, samples: Samples, header: Header) -> Path:
    names = hashlib.sha256("".join(f"{name}\n" for name in samples.images.tolist()).encode()).hexdigest()
    place = f"{header.root}\0{names} {header.height}x{header.width} bilinear"
    return cache / FOLDER / f"{hashlib.sha256(place.encode()).hexdigest()[:24]}.pixels"


def _is_current(file: Path, header: Header) -> bool:
    stored = _read_header(file)
    return stored is not None and asdict(stored) | {"made": ""} == asdict(header)


def _read_header(file: Path) -> Header | None:
    """Return the header of a pixel file, None where the file is absent, damaged or of another length than it says."""
    try:
        with file.open("rb") as opened:
            header = Header(**json.loads(opened.read(HEADER_BYTES)))
            size = os.fstat(opened.fileno()).st_size
    except (OSError, ValueError, TypeError):
        return None
    return header if size == HEADER_BYTES + header.nbytes else None


def _build(samples: Samples, header: Header, file: Path, machine: Machine) -> None:
    """Decode the images into ``file``, or wait for another process that does; an interrupted build is dropped."""
    with lock(
        file.with_suffix(".lock"),
        "decoding images",
        wait=LOCK_SECONDS,
        waiting=lambda holder: machine.log(f"waiting for {holder}, which is decoding the same images"),
    ):
        if _is_current(file, header):  # another process has just built it
            return
        if file.exists():
            machine.log("images or the decoder have changed since the pixels were cached: decoding again")
        sweep(file.parent, file.name)
        _decode(samples, header, file, machine)


def _decode(samples: Samples, header: Header, file: Path, machine: Machine) -> None:
    """Write the pixel file, chunk by chunk in the order of the images."""
    total = header.images

    def decode_chunk(number: int) -> np.ndarray:
        images = range(number * CHUNK_IMAGES, min((number + 1) * CHUNK_IMAGES, total))
        pixels = np.empty((len(images), *header.shape[1:]), dtype=np.uint8)
        decode_images(samples, images, pixels)
        return pixels

    made = datetime.now(UTC).isoformat(timespec="seconds")
    first_block = json.dumps(asdict(header) | {"made": made}).encode().ljust(HEADER_BYTES)
    with (
        atomic_file(file, HEADER_BYTES + header.nbytes) as opened,
        progress("decoding the training images", total, overall=machine.overall) as update,
        closing(map_in_threads(decode_chunk, -(-total // CHUNK_IMAGES), machine.threads)) as chunks,
    ):
        opened.write(first_block)
        decoded = 0
        # Written and not mapped: an error of the disk is then an exception, and memory holds a few chunks only.
        for pixels in chunks:
            opened.write(pixels.data)
            decoded += len(pixels)
            update(decoded, "")


def _load(file: Path, header: Header, device: torch.device) -> Tensor:
    """Return the pixels in a device's memory, read piece by piece so that the host's memory holds them at most once."""
    pixels = torch.empty(header.shape, dtype=torch.uint8, device=device)
    images = max(1, LOAD_BYTES // (header.height * header.width * 3))
    with file.open("rb") as opened:
        opened.seek(HEADER_BYTES)
        for first in range(0, header.images, images):
            part = pixels[first : first + images]
            piece = part if device.type == "cpu" else torch.empty(part.shape, dtype=torch.uint8)
            if opened.readinto(piece.numpy().data.cast("B")) != piece.nbytes:
                raise DataError(f"{file}: was cut short while it was read; run the same command again")
            part.copy_(piece)
    return pixels
