"""Read all image files of data: a check of each, its sha256, cached by the file's stats, and one of each part."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from reidbench.data.samples import Samples
from reidbench.data.split import Split
from reidbench.errors import DataError
from reidbench.images.decode import CHUNK_IMAGES, decoder_digest, read_digest
from reidbench.utils.arrays import BoolArray, PixelArray, load_arrays, save_arrays
from reidbench.utils.machine import Machine
from reidbench.utils.progress import progress
from reidbench.utils.threads import map_in_threads
from reidbench.utils.untrusted_files import real_path

FOLDER = "contents"
DIGEST_BYTES = 32
LISTED_FILES = 10  # named in one error

T = TypeVar("T")

# The digests of the samples of this process, read once like their files' stats.
_DIGESTS: WeakKeyDictionary[Samples, PixelArray] = WeakKeyDictionary()


def image_digests(samples: Samples, machine: Machine) -> PixelArray:
    """Return the sha256 of every image file of ``samples``, uint8 [m, 32]; raises as ``read_contents``."""
    read_contents([samples], machine)
    return _DIGESTS[samples]


def content_digest(samples: Samples, machine: Machine) -> str:
    """Return the sha256 (hex) over the contents of all images of ``samples``; raises as ``read_contents``."""
    return hashlib.sha256(image_digests(samples, machine).tobytes()).hexdigest()


def split_contents(split: Split, machine: Machine) -> dict[str, str]:
    """Return the content digest of each part of a split, by its name; raises as ``read_contents``."""
    read_contents(split.parts, machine)
    return {name: content_digest(part, machine) for name, part in named_parts(split).items()}


def named_parts(split: Split) -> dict[str, Samples]:
    """Return the parts of a split by name; "fit" only where it is not the training set."""
    return dict(zip(("train", "query", "gallery", "fit"), split.parts, strict=False))


def read_contents(parts: Sequence[Samples], machine: Machine) -> None:
    """Learn the sha256 of every image file of ``parts``; a file whose stats are known is not read.

    The stats and digests of all files of one folder are in one table below ``machine.cache``. Raises DataError as
    ``read_files`` where an image cannot be used.
    """
    tables = [_Table(part, machine) for part in parts if part not in _DIGESTS]
    files = list(dict.fromkeys(file for table in tables for file in table.unknown_files()))
    read = dict(zip(files, read_files(files, read_digest, machine.threads), strict=True)) if files else {}
    for table in tables:
        table.complete(read)
        _DIGESTS[table.samples] = table.digests


class _Table:
    """The digests of ``samples``, as far as the table of their folder knows them.

    ``digests``: sha256 of each image, uint8 [m, 32].
    ``known``: whether it is known, bool [m].
    """

    def __init__(self, samples: Samples, machine: Machine) -> None:
        self.samples, self.machine = samples, machine
        # What another decoder has accepted is checked again.
        place = f"{real_path(samples.root)}\0{decoder_digest()}"
        self.file = machine.cache / FOLDER / f"{hashlib.sha256(place.encode()).hexdigest()[:24]}.npz"
        hashed = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in samples.images.tolist())
        self.names = np.frombuffer(b"".join(hashed), dtype="<u8")
        self.digests: PixelArray = np.zeros((len(self.names), DIGEST_BYTES), dtype=np.uint8)
        table = self._read()
        names = table["names"]
        rows = np.minimum(np.searchsorted(names, self.names), max(len(names) - 1, 0))
        self.known: BoolArray = np.zeros(len(self.names), dtype=np.bool_)
        if len(names):
            self.known = (names[rows] == self.names) & (table["stats"][rows] == samples.file_stats).all(1)
            self.digests[self.known] = table["digests"][rows[self.known]]

    def unknown_files(self) -> list[str]:
        root = str(self.samples.root)
        return [f"{root}/{name}" for name in self.samples.images[~self.known].tolist()]

    def complete(self, read: dict[str, bytes]) -> None:
        """Add digests, by file, and write them into the table of the folder."""
        if self.known.all():
            return
        content = b"".join(read[file] for file in self.unknown_files())
        self.digests[~self.known] = np.frombuffer(content, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
        # Read again, since another part may have been written; the new rows are first, so that they replace old ones.
        old = self._read()
        new = {"names": self.names, "stats": self.samples.file_stats, "digests": self.digests}
        both = {key: np.concatenate([array[~self.known], old[key]]) for key, array in new.items()}
        rows = np.unique(both["names"], return_index=True)[1]
        try:
            save_arrays(self.file, {key: array[rows] for key, array in both.items()})
        except DataError as error:
            self.machine.log(f"the contents of images are read again by the next command: {error}")

    def _read(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the table, empty where there is none or it is damaged, which is logged."""
        if self.file.is_file():
            try:
                return load_arrays(self.file, ("names", "stats", "digests"))
            except DataError:
                self.machine.log(f"{self.file}: is damaged: the contents of the images are read again")
                self.file.unlink(missing_ok=True)
        digests = np.zeros((0, DIGEST_BYTES), np.uint8)
        return {"names": np.zeros(0, "<u8"), "stats": np.zeros((0, 4), np.int64), "digests": digests}


def check_images(
    parts: Sequence[Samples],
    threads: int,
    read: Callable[[str], object],
    problem: str = "cannot be used",
    most: int = 0,
) -> int:
    """Call ``read`` once for every image file of ``parts``, or for ``most`` evenly spread ones; return their number.

    Raises DataError as ``read_files``.
    """
    files = list(dict.fromkeys(f"{samples.root}/{name}" for samples in parts for name in samples.images.tolist()))
    files = files[:: max(1, -(-len(files) // most))] if most else files
    return len(read_files(files, lambda file: read(file) is None, threads, problem))


def read_files(
    files: Sequence[str], read: Callable[[str], T], threads: int, problem: str = "cannot be used"
) -> list[T]:
    """Return what ``read`` returns for each image file, in order, read in ``threads`` threads.

    Raises DataError with the number of files that it fails for, that they ``problem``, the first ten and the reasons.
    """

    def read_chunk(number: int) -> list[T | DataError]:
        results = list[T | DataError]()
        for file in files[number * CHUNK_IMAGES : (number + 1) * CHUNK_IMAGES]:
            try:
                results.append(read(file))
            except DataError as error:
                results.append(error)
        return results

    results = list[T | DataError]()
    with progress("checking images", len(files)) as update:
        for chunk in map_in_threads(read_chunk, -(-len(files) // CHUNK_IMAGES), threads):
            results += chunk
            update(len(results), "")
    if errors := [str(each) for each in results if isinstance(each, DataError)]:
        listed = errors[:LISTED_FILES] + [f"and {len(errors) - LISTED_FILES:,} more"] * (len(errors) > LISTED_FILES)
        raise DataError(f"{len(errors):,} of {len(files):,} images {problem}:\n  " + "\n  ".join(listed))
    return cast("list[T]", results)
