"""What every drawn tree needs: a folder that one process holds, whole files, images drawn on all processors."""

from __future__ import annotations

import fcntl
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reidbench import DataError
from reidbench_datasets.synthetic.plan import Shot, Tree

# A drawn tree says in this file what it should hold.
CARD = "STANDIN.json"
LOCK = ".STANDIN.lock"

CAMERAS = 6
CHUNK = 1024  # images between two words about the progress


class Picture(Protocol):
    """One image: what it shows, and its base name."""

    @property
    def shot(self) -> Shot: ...

    @property
    def name(self) -> str: ...


def shared_out(total: int, weights: Iterable[int]) -> list[int]:
    """Return whole shares that add up to ``total``, in proportion to the weights."""
    below = np.concatenate([[0], np.cumsum(np.fromiter(weights, dtype=np.int64))])
    return np.diff(total * below // below[-1]).tolist()


@contextmanager
def claimed(directory: Path, card: Mapping[str, Any], images: int) -> Iterator[None]:
    """Hold the folder for this process while the block runs; it is new, empty, or was begun with the same card.

    Raises DataError where it is something else, is held, or cannot be written; ``images`` says how large it will be.
    """
    try:
        with _held(directory, card):
            yield
    except OSError as error:
        raise DataError(
            f"{directory}: the stand-in's {images} images (about {images * 4 // 1000 + 1} MB) could not be drawn "
            f"there: {error.strerror or error}; make room or make the folder writable and call again with the same "
            "options, it goes on where it stopped; or name another folder"
        ) from None


@contextmanager
def _held(directory: Path, card: Mapping[str, Any]) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / CARD
    held = sorted({path.name for path in directory.iterdir()} - {LOCK, f".{CARD}.tmp"})
    if held and CARD not in held:
        raise DataError(
            f"{directory}: holds something else already ({', '.join(held[:3])}{', …' if len(held) > 3 else ''}); "
            "name a folder that is new or empty"
        )
    with (directory / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{directory}: another process is drawing into it; wait until it is done") from None
        if not file.exists():
            write(file, (json.dumps(dict(card), indent=2) + "\n").encode())
        _check(file, card)
        yield


def _check(file: Path, card: Mapping[str, Any]) -> None:
    """Raise DataError where a folder's card is not that of the stand-in which is asked for."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file}: cannot be read ({error}); delete the folder, or name another one") from None
    if found == dict(card):
        return
    options = found.get("options") if isinstance(found, dict) else None
    if isinstance(options, dict) and options != card["options"]:
        there, asked = (", ".join(f"{k}={v}" for k, v in said.items()) for said in (options, card["options"]))
        reason = f"was begun with other options ({there}), now asked for ({asked}); give the same ones"
    else:
        reason = "was begun by another version of reidbench; delete the folder"
    raise DataError(f"{file.parent}: {reason}, or name another folder")


def present(folder: Path) -> set[str]:
    """Return the names of the files that are there; an empty one, as a loss of power leaves it, counts as missing."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.stat().st_size}


def write(path: Path, data: bytes) -> None:
    """Write a file that is whole or not there; one process holds the folder, so the temporary name is its own."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_images(directory: Path, identities: int, seed: int, pictures: Sequence[Picture]) -> Iterator[int]:
    """Draw images on all processors and yield how many are done."""
    if not pictures:
        return
    # The renderer brings a compiler: it is imported only where there is something to draw.
    from reidbench_datasets.synthetic.artist import Artist  # noqa: PLC0415

    artist = Artist(Tree(identities, CAMERAS, "normal", seed))
    artist.jpeg(pictures[0].shot)  # compiles the kernels, so that the time left is that of drawing

    def draw(picture: Picture) -> None:
        write(directory / picture.shot.folder / picture.name, artist.jpeg(picture.shot))

    for folder in {picture.shot.folder for picture in pictures}:
        (directory / folder).mkdir(exist_ok=True)
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        done, rest = 0, iter(pictures)
        while chunk := list(islice(rest, CHUNK)):
            for _ in pool.map(draw, chunk):
                done += 1
                yield done
    finally:
        pool.shutdown(cancel_futures=True)


def mat_file(key: str, table: NDArray[Any], what: str) -> bytes:
    """Return a MATLAB 5 file with one table, the same whenever it is made; ``what`` is said in its first line."""
    from scipy.io import savemat  # noqa: PLC0415, it would be loaded with every listing of plugins

    content = io.BytesIO()
    savemat(content, {key: table}, do_compression=True)
    # The first 116 bytes are text for people, in which scipy puts the time.
    return f"MATLAB 5.0 MAT-file, of a stand-in for {what}".encode().ljust(116) + content.getvalue()[116:]
