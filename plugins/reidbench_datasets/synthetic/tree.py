"""The tree of files: drawn once, by one process, in a folder that gets its name when it is whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from reidbench import DataError, track
from reidbench_datasets.synthetic.plan import GALLERY, QUERY, TRAIN, Shot, Tree, plan

KILOBYTES = 4  # that an average image takes on a disk


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock file while the block runs, waiting for another process; the kernel lets go if this one is killed."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(tree: Tree, shots: list[Shot], folder: Path) -> None:
    # The renderer brings a compiler: it is imported only where there is something to draw.
    from reidbench_datasets.synthetic.artist import Artist  # noqa: PLC0415

    artist = Artist(tree)
    artist.jpeg(shots[0])  # compiles the kernels, so that the time left is that of drawing

    def write(shot: Shot) -> None:
        (folder / shot.name).write_bytes(artist.jpeg(shot))

    for part in (TRAIN, QUERY, GALLERY):
        (folder / part).mkdir(parents=True)
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for _ in track(pool.map(write, shots), len(shots), "drawing"):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def ensure_drawn(tree: Tree, parent: Path) -> Path:
    """Return the tree's folder below ``parent``, drawn first where it is not there yet.

    Files are written into a temporary folder beside it, which gets its name only when it is whole; one process
    draws at a time, and what a killed one has left is thrown away. Raises DataError where the folder cannot be written
    to or lacks an image.
    """
    folder = parent / tree.folder
    shots = plan(tree)
    if not folder.is_dir():
        try:
            parent.mkdir(parents=True, exist_ok=True)
            with _alone(parent / f".{tree.folder}.lock"):
                if not folder.is_dir():
                    unfinished = parent / f".{tree.folder}.unfinished"
                    shutil.rmtree(unfinished, ignore_errors=True)
                    try:
                        _write(tree, shots, unfinished)
                        unfinished.rename(folder)
                    finally:
                        shutil.rmtree(unfinished, ignore_errors=True)
        except OSError as error:
            raise DataError(
                f"{folder}: its {len(shots)} images (about {len(shots) * KILOBYTES // 1000 + 1} MB) could not be drawn "
                f"there: {error.strerror or error}; make room there or make it writable, or name another "
                "data root"
            ) from None
    present = {f"{part}/{name}" for part in (TRAIN, QUERY, GALLERY) for name in _listed(folder / part)}
    missing = [shot.name for shot in shots if shot.name not in present]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(shots)} images are not there, the first is {missing[0]}; "
            "delete the folder, and it is drawn anew"
        )
    return folder


def _listed(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []
