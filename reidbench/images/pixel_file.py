"""Decoded pixels kept on disk: one file for each set of images and size, whole or not there.

A file begins with a header of JSON, padded to ``HEADER`` bytes, that says what it was made from; uint8 pixels
[m, h, w, 3] follow. It is found by the images' place and names, and used only where the
header's digest of the files agrees, so an image that has changed since is decoded anew and the old pixels are replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.errors import DataError
from reidbench.images.decode import CHUNK, decode_images, files_digest
from reidbench.images.pixel_placement import AUTO, Tier, choose, describe, room_of
from reidbench.images.pixel_store import DevicePixels, HostPixels, PixelStore, StreamedPixels
from reidbench.utils.atomic import _sync_folder, refused
from reidbench.utils.lock import lock
from reidbench.utils.machine import SCALES, in_gib
from reidbench.utils.progress import progress
from reidbench.utils.threads import in_threads

HEADER = 4096
# Bytes read at once.
PIECE = 64 * 2**20
FOLDER = "pixels"
# All that lives below a cache folder: what the other modules keep there is made again when it is missed.
FOLDERS = (FOLDER, "readable", "compiled", SCALES)
# Time between two marks of how far decoding has come, from where it goes on after a kill.
MARK_SECONDS = 5.0
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
    tier: str = AUTO,
) -> PixelStore:
    """Return all images of ``samples``, stretched to ``height`` x ``width``, for a network on ``device``.

    They are decoded once and kept below ``cache``, in ``threads`` threads; the ``tier``, see tiers.py, says where they
    are held, and one that decodes them for every batch keeps nothing. Where another process is decoding the same
    images, this one says so and waits for it. Raises DataError for the first image that cannot be used, where the cache
    cannot be written or has no room, and where the pixels do not fit into memory; OptionError for an unknown tier.
    """
    wanted = _entry(samples, height, width, files_digest([samples]))
    file = _file(cache, samples, wanted)
    kept = _holds(file, wanted)
    chosen = _choose(tier, wanted, file, kept, device, cache)
    if tier != AUTO or chosen.name != "device":
        say(describe(chosen, wanted.shape, device))
    if chosen.name == "stream":
        return StreamedPixels(samples, height, width, device, threads)
    if not kept:
        _make(samples, wanted, file, threads, say)
    if chosen.name == "map":
        return HostPixels(
            np.memmap(file, dtype=np.uint8, mode="r", offset=HEADER, shape=wanted.shape), device, ahead=True
        )
    on_gpu = chosen.name == "device" and device.type != "cpu"
    try:
        held = _load(file, wanted, device if on_gpu else torch.device("cpu"))
    except (torch.OutOfMemoryError, MemoryError):
        raise DataError(
            f"{wanted.images:,} images of {height}x{width} pixels take {in_gib(wanted.nbytes)}, more than is left "
            f"{'on ' + str(device) if on_gpu else 'in memory'}; use --pixels {'host' if on_gpu else 'map'}"
        ) from None
    return DevicePixels(held) if on_gpu else HostPixels(held.numpy(), device, ahead=chosen.name == "host")


@dataclass(frozen=True)
class Planned:
    """Where pixels would be held, ``said`` in words, and the bytes that they would newly take.

    ``disk`` below the cache folder, ``memory`` on the network's device.
    """

    said: str
    disk: int
    memory: int


def planned_tier(samples: Samples, height: int, width: int, *, cache: Path, device: torch.device, tier: str) -> Planned:
    """Return where ``open_pixels`` would hold the pixels, as far as it can be told without looking at files.

    Raises as ``choose``.
    """
    wanted = _entry(samples, height, width, "")
    file = _file(cache, samples, wanted)
    found = _read(file)
    kept = found is not None and found.shape == wanted.shape
    chosen = _choose(tier, wanted, file, kept, device, cache)
    held = chosen.name == "device" or (chosen.name == "host" and device.type == "cpu")
    return Planned(
        describe(chosen, wanted.shape, device),
        disk=0 if kept or chosen.name == "stream" else HEADER + wanted.nbytes - _left(file, wanted),
        memory=wanted.nbytes if held else 0,
    )


def _choose(tier: str, wanted: Entry, file: Path, kept: bool, device: torch.device, cache: Path) -> Tier:
    there = room_of(device, cache)
    there = replace(there, disk=there.disk + _left(file, wanted))
    return choose(tier, HEADER + wanted.nbytes, there, kept=kept)


def _left(file: Path, wanted: Entry) -> int:
    """Return the bytes of ``file`` whose room on the disk an interrupted process has taken already."""
    try:
        return min(HEADER + wanted.nbytes, aside(file).stat().st_size)
    except OSError:
        return 0


def _make(samples: Samples, wanted: Entry, file: Path, threads: int, say: Callable[[str], None]) -> None:
    """Decode the images into ``file``, or wait for another process that does."""
    with lock(
        file.with_suffix(".lock"),
        "decoding images",
        wait=_PATIENCE_SECONDS,
        waiting=lambda holder: say(f"waits for {holder}, which decodes the same images"),
    ):
        if not _holds(file, wanted):  # else another process has just made it
            if file.exists():
                say("images, or the decoder, have changed since the pixels were kept: they are decoded again")
            _decode(samples, wanted, file, threads, say)


def _load(file: Path, wanted: Entry, device: torch.device) -> Tensor:
    """Return the pixels in a device's memory, read piece by piece so that they are never in memory twice."""
    _, height, width, _ = wanted.shape
    held = torch.empty(wanted.shape, dtype=torch.uint8, device=device)
    images = max(1, PIECE // (height * width * 3))
    with file.open("rb") as opened:
        opened.seek(HEADER)
        for first in range(0, wanted.images, images):
            part = held[first : first + images]
            piece = part if device.type == "cpu" else torch.empty(part.shape, dtype=torch.uint8)
            if opened.readinto(piece.numpy().data.cast("B")) != piece.nbytes:
                raise DataError(f"{file}: is shorter than it was a moment ago; try again")
            part.copy_(piece)
    return held


def entries(cache: Path) -> list[tuple[Path, Entry | None]]:
    """Return the files of pixels in a cache folder with what they say of themselves, None where one is damaged."""
    return [(file, _read(file)) for file in sorted((cache / FOLDER).glob("*.pixels"))]


def unfinished(cache: Path) -> list[Path]:
    """Return the files in a cache folder that a process is decoding images into, or was when it was interrupted."""
    return sorted((cache / FOLDER).glob(aside(Path("*.pixels")).name))


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


def _entry(samples: Samples, height: int, width: int, files: str) -> Entry:
    return Entry(str(samples.root.resolve()), len(samples.images), height, width, files, "")


def _file(cache: Path, samples: Samples, entry: Entry) -> Path:
    return cache / FOLDER / f"{_key(samples, entry)}.pixels"


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


def _decode(samples: Samples, wanted: Entry, file: Path, threads: int, say: Callable[[str], None]) -> None:
    total, size = wanted.images, wanted.height * wanted.width * 3
    # The room is taken before the first image is decoded, so that a full disk is noticed now and not after an hour.
    with reserved(file, HEADER + wanted.nbytes) as beside, beside.open("r+b", buffering=0) as opened:
        first = _decoded(opened.read(HEADER), wanted)
        if first:
            say(f"goes on behind the {first:,} images that were decoded before an interruption")
        else:
            # What is left of other pixels is written over from here on, so its header may vouch for them no longer.
            _write(opened.fileno(), memoryview(bytes(HEADER)), 0, file)
            _settle(opened.fileno(), file)

        def decode_chunk(number: int) -> int:
            images = range(first + number * CHUNK, min(first + (number + 1) * CHUNK, total))
            pixels = np.empty((len(images), *wanted.shape[1:]), dtype=np.uint8)
            decode_images(samples, images, pixels)
            # Written, not mapped: memory stays bounded, and a disk's error is an exception that says so.
            _write(opened.fileno(), pixels.data.cast("B"), HEADER + images.start * size, file)
            return images.stop

        def mark(**said: object) -> None:
            _write(opened.fileno(), memoryview(json.dumps(asdict(wanted) | said).encode().ljust(HEADER)), 0, file)

        # Closed first, whatever happens: no thread may write after the file is closed.
        with (
            progress("decoding the training images", total, first) as update,
            closing(in_threads(decode_chunk, -(-(total - first) // CHUNK), threads)) as chunks,
        ):
            marked = time.monotonic()
            for done in chunks:
                update(done, "")
                if time.monotonic() - marked >= MARK_SECONDS:
                    _settle(opened.fileno(), file)  # the pixels are there before it is said that they are
                    mark(decoded=done)
                    marked = time.monotonic()
        mark(made=datetime.now(UTC).isoformat(timespec="seconds"))


def _decoded(header: bytes, wanted: Entry) -> int:
    """Return how many images, from the first on, a file that was left behind holds as they are wanted."""
    try:
        found = json.loads(header)
        decoded = found.pop("decoded")
    except (ValueError, KeyError, AttributeError):
        return 0
    return int(decoded) if found == asdict(wanted) else 0


def _write(descriptor: int, data: memoryview, place: int, file: Path) -> None:
    with preparing(file, f"{file.name} could not be written"):
        while data:
            written = os.pwrite(descriptor, data, place)
            # Sends it to the disk from now on, beside the decoding: at the end there is little left to wait for.
            os.posix_fadvise(descriptor, place, written, os.POSIX_FADV_DONTNEED)
            data, place = data[written:], place + written


def _settle(descriptor: int, file: Path) -> None:
    """Wait until the disk has what was written."""
    with preparing(file, f"{file.name} could not be written"):
        os.fdatasync(descriptor)


@contextmanager
def reserved(path: Path, size: int) -> Iterator[Path]:
    """Yield the file ``aside(path)`` of ``size`` bytes, its room on the disk taken, that becomes ``path`` at the end.

    For large files: a full disk is noticed before the work. What a process left there that was killed, or whose block
    ended with an error, is yielded as it is, so that its work can go on; hold the lock that guards it, and write in
    ``preparing``. Missing folders are made. Raises DataError as ``write_atomic``.
    """
    beside = aside(path)
    with preparing(path, f"{path.name} ({size:,} bytes) could not be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("ab") as file:
            if file.tell() != size:
                file.truncate(0)
            os.posix_fallocate(file.fileno(), 0, size)
    yield beside
    with preparing(path, f"{path.name} could not be put in place"):
        with beside.open("r+b") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)


@contextmanager
def preparing(path: Path, what: str) -> Iterator[None]:
    """Where the system refuses what the block does to ``aside(path)``, leave nothing of it and raise as ``refused``.

    So a full disk is not left full.
    """
    try:
        yield
    except OSError as error:
        with suppress(OSError):
            aside(path).unlink()
        raise refused(path, what, error) from None


def aside(path: Path) -> Path:
    """Return where ``reserved`` prepares a file."""
    return path.with_name(f".{path.name}.part")
