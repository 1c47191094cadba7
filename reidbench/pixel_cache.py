"""Decoded pixels kept on disk: one file for each set of images and size, whole or not there.

A file begins with a header of JSON, padded to ``HEADER`` bytes, that says what it was made from; uint8 pixels
[m, h, w, 3] follow and are mapped into memory. It is found by the images' place and names, and used only where the
header's digest of the files agrees, so an image that has changed since is decoded anew and the old pixels are replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from reidbench.decoding import PixelArray, decode_images, files_digest, in_threads
from reidbench.errors import DataError
from reidbench.files import lock, refused, reserved, sweep
from reidbench.pixels import CHUNK, PixelStore
from reidbench.progress import progress
from reidbench.values import Samples

HEADER = 4096
FOLDER = "pixels"
# All that lives below a cache folder: what the other modules keep there is made again when it is missed.
FOLDERS = (FOLDER, "readable", "compiled")
_PATIENCE_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Entry:
    """What a file of pixels says of itself: where its images lie, how many, how large, and when they were decoded."""

    root: str
    images: int
    height: int
    width: int
    files: str
    made: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.images, self.height, self.width, 3)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


def open_pixels(
    samples: Samples,
    height: int,
    width: int,
    *,
    cache: Path,
    threads: int,
    device: torch.device,
    say: Callable[[str], None],
) -> PixelStore:
    """Return all images of ``samples``, stretched to ``height`` x ``width``, on ``device``; decoded only once.

    Where another process is decoding the same images, this one says so and waits for it. Raises DataError for the
    first image that cannot be used, where the cache cannot be written or has no room, and where the pixels do not fit
    into the device's memory.
    """
    files = files_digest([samples])
    wanted = Entry(str(samples.root.resolve()), len(samples.images), height, width, files, "")
    file = cache / FOLDER / f"{_key(samples, wanted)}.pixels"
    if not _holds(file, wanted):
        said = "waits for {}, which decodes the same images"
        with lock(
            file.with_suffix(".lock"),
            "decoding images",
            wait=_PATIENCE_SECONDS,
            waiting=lambda holder: say(said.format(holder)),
        ):
            if not _holds(file, wanted):  # else another process has just made it
                sweep(file.parent, file.name)
                if file.exists():
                    say("images, or the decoder, have changed since the pixels were kept: they are decoded again")
                _decode(samples, wanted, file, threads)
    mapped = np.memmap(file, dtype=np.uint8, mode="c", offset=HEADER, shape=wanted.shape)
    try:
        return PixelStore(torch.from_numpy(mapped).to(device))
    except torch.OutOfMemoryError:
        raise DataError(
            f"{wanted.images:,} images of {height}x{width} pixels take {wanted.nbytes / 2**30:.1f} GiB, more than "
            f"{device} has left; lower the backbone's height and width, or use another device"
        ) from None


def entries(cache: Path) -> list[tuple[Path, Entry | None]]:
    """Return the files of pixels in a cache folder with what they say of themselves, None where one is damaged."""
    return [(file, _read(file)) for file in sorted((cache / FOLDER).glob("*.pixels"))]


def clear(cache: Path) -> int:
    """Delete everything that this program keeps below ``cache`` and return its bytes; nothing else is touched.

    A process that is using pixels keeps them until it ends. Raises DataError where something cannot be deleted.
    """
    freed = sum(file.stat().st_size for name in FOLDERS for file in (cache / name).rglob("*") if file.is_file())
    for name in FOLDERS:
        try:
            if (cache / name).exists():
                shutil.rmtree(cache / name)
        except OSError as error:
            raise refused(cache / name, "could not be deleted", error) from None
    return freed


def _key(samples: Samples, entry: Entry) -> str:
    names = hashlib.sha256("".join(f"{name}\n" for name in samples.images.tolist()).encode()).hexdigest()
    place = f"{entry.root}\0{names} {entry.height}x{entry.width} bilinear"
    return hashlib.sha256(place.encode()).hexdigest()[:24]


def _holds(file: Path, wanted: Entry) -> bool:
    found = _read(file)
    return found is not None and asdict(found) | {"made": ""} == asdict(wanted)


def _read(file: Path) -> Entry | None:
    """Return the header of a file of pixels, None where there is none or the file has another length than it says."""
    try:
        with file.open("rb") as opened:
            entry = Entry(**json.loads(opened.read(HEADER)))
            size = os.fstat(opened.fileno()).st_size
    except (OSError, ValueError, TypeError):
        return None
    return entry if size == HEADER + entry.nbytes else None


def _decode(samples: Samples, wanted: Entry, file: Path, threads: int) -> None:
    made = datetime.now(UTC).isoformat(timespec="seconds")
    header = json.dumps(asdict(wanted) | {"made": made}).encode().ljust(HEADER)
    total = wanted.images
    # The room is taken before the first image is decoded: a disk that fills up under a mapping kills the process.
    with reserved(file, HEADER + wanted.nbytes) as temporary:
        with temporary.open("r+b") as opened:
            opened.write(header)
        pixels: PixelArray = np.memmap(temporary, dtype=np.uint8, mode="r+", offset=HEADER, shape=wanted.shape)

        def decode_chunk(number: int) -> int:
            first = number * CHUNK
            decode_images(samples, first, pixels[first : first + CHUNK])
            return min(first + CHUNK, total)

        with progress("decoding the training images", total) as update:
            for done in in_threads(decode_chunk, -(-total // CHUNK), threads):
                update(done, "")
        pixels.flush()  # type: ignore[attr-defined]
