"""Read all image files of data: a check of each, its sha256, cached by the file's stats, and one of each part."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

import numpy as np

from reidbench.data.samples import Samples
from reidbench.data.split import Split
from reidbench.errors import DataError
from reidbench.images.decode import CHUNK_IMAGES, decoder_digest, read_digest
from reidbench.utils.arrays import BoolArray, PixelArray, read_arrays, save_arrays
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
    names = ("train", "query", "gallery", "fit")  # the last only where it is not the training set
    return {name: content_digest(part, machine) for name, part in zip(names, split.parts, strict=False)}


def read_contents(parts: Sequence[Samples], machine: Machine) -> None:
    """Learn the sha256 of every image file of ``parts``; a file whose stats are known is not read.

    The stats and digests of the files of one list are in one table below ``machine.cache``. Raises DataError as
    ``read_files`` where an image cannot be used.
    """
    tables = {part: _read_table(part, machine) for part in parts if part not in _DIGESTS}
    unread = {
        part: [f"{part.root}/{name}" for name in part.images[~known].tolist()] for part, (_, known) in tables.items()
    }
    files = list(dict.fromkeys(file for names in unread.values() for file in names))
    read = dict(zip(files, read_files(files, read_digest, machine.threads), strict=True)) if files else {}
    for part, (digests, known) in tables.items():
        if unread[part]:
            content = b"".join(read[file] for file in unread[part])
            digests[~known] = np.frombuffer(content, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
            try:
                save_arrays(_table_file(part, machine), {"stats": part.file_stats, "digests": digests})
            except DataError as error:
                machine.log(f"the contents of images are read again by the next command: {error}")
        _DIGESTS[part] = digests


def _table_file(samples: Samples, machine: Machine) -> Path:
    # What another decoder has accepted is checked again.
    names = "\0".join([decoder_digest(), str(real_path(samples.root)), *samples.images.tolist()])
    return machine.cache / FOLDER / f"{hashlib.sha256(names.encode()).hexdigest()[:24]}.npz"


def _read_table(samples: Samples, machine: Machine) -> tuple[PixelArray, BoolArray]:
    """Return the sha256 of each image as the table has it, uint8 [m, 32], and whether its file has the same stats [m].

    A damaged table is logged and deleted.
    """
    file = _table_file(samples, machine)
    if file.is_file():
        try:
            table = read_arrays(file, ("stats", "digests"))
            return table["digests"], (table["stats"] == samples.file_stats).all(1)
        except DataError:
            machine.log(f"{file}: is damaged: the contents of the images are read again")
            file.unlink(missing_ok=True)
    return np.zeros((len(samples.images), DIGEST_BYTES), np.uint8), np.zeros(len(samples.images), np.bool_)


def check_images(parts: Sequence[Samples], threads: int, read: Callable[[str], object], most: int = 0) -> int:
    """Call ``read`` once for every image file of ``parts``, or for ``most`` evenly spread ones; return their number.

    Raises DataError as ``read_files``.
    """
    files = list(dict.fromkeys(f"{samples.root}/{name}" for samples in parts for name in samples.images.tolist()))
    files = files[:: max(1, -(-len(files) // most))] if most else files
    return len(read_files(files, lambda file: read(file) is None, threads))


def read_files(files: Sequence[str], read: Callable[[str], T], threads: int) -> list[T]:
    """Return what ``read`` returns for each image file, in order, read in ``threads`` threads.

    Raises DataError with the number of files that it fails for, the first ten and the reasons.
    """

    def attempt(file: str) -> T | DataError:
        try:
            return read(file)
        except DataError as error:
            return error

    def read_chunk(number: int) -> list[T | DataError]:
        return [attempt(file) for file in files[number * CHUNK_IMAGES : (number + 1) * CHUNK_IMAGES]]

    results = list[T | DataError]()
    with progress("checking images", len(files)) as update:
        for chunk in map_in_threads(read_chunk, -(-len(files) // CHUNK_IMAGES), threads):
            results += chunk
            update(len(results), "")
    if errors := [str(each) for each in results if isinstance(each, DataError)]:
        listed = errors[:LISTED_FILES] + [f"and {len(errors) - LISTED_FILES:,} more"] * (len(errors) > LISTED_FILES)
        raise DataError(f"{len(errors):,} of {len(files):,} images cannot be used:\n  " + "\n  ".join(listed))
    return cast("list[T]", results)
