"""Stand-in trees: folders that one process at a time renders, resumes, and describes in a file STANDIN.json."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidbench import DataError, lock, parse_json, read_text
from reidbench_datasets.dataset_trees import CARD
from reidbench_datasets.synthetic.plan import RENDERER_VERSION, Tree
from reidbench_datasets.synthetic.random_numbers import RandomNumbers
from reidbench_datasets.synthetic.writer import Entry, images_in, write_entries, write_file

LOCK = ".STANDIN.lock"

CAMERAS = 6


def shares(total: int, weights: Iterable[int]) -> list[int]:
    """Return whole shares that add up to ``total``, in proportion to the weights."""
    below = np.concatenate([[0], np.cumsum(np.fromiter(weights, dtype=np.int64))])
    return np.diff(total * below // below[-1]).tolist()


def halves(rng: RandomNumbers, identities: int, testing: int) -> tuple[list[int], list[int]]:
    """Return ``testing`` of the identities 1..identities, then the others, for training; both in order."""
    pids = rng.shuffled(range(1, identities + 1))
    return sorted(pids[:testing]), sorted(pids[testing:])


def card(dataset: str, options: Mapping[str, int], plan_version: int, counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of STANDIN.json that all stand-ins share: what it is, its options, its counts."""
    return {
        "what": f"a stand-in for {dataset}: drawn people, no photographs; made by reidbench data synthesize",
        "options": dict(options),
        "drawing_version": RENDERER_VERSION,
        "plan_version": plan_version,
        "counts": dict(counts),
    }


def write_standin(
    directory: Path, content: Mapping[str, Any], *tables: Sequence[Entry], cameras: int = CAMERAS
) -> Iterator[tuple[int, int]]:
    """Write what is missing of the files of ``tables``, one table after the other, and yield (images done, images).

    ``content`` is that of STANDIN.json, whose options "identities" and "seed" choose the people. Raises DataError where
    the folder holds anything else, is being written by another process, or cannot be written.
    """
    total = sum(map(images_in, tables))
    with _claimed(directory, content, total):
        folders = {path.rpartition("/")[0] for table in tables for path, _ in table}
        present = {f"{folder}/{name}" for folder in folders for name in _files_in(directory / folder)}
        missing = [[entry for entry in table if entry[0] not in present] for table in tables]
        done = total - sum(map(images_in, missing))
        yield done, total
        scene = Tree(content["options"]["identities"], cameras, "normal", content["options"]["seed"])
        for table in missing:
            for written in write_entries(directory, scene, table):
                yield done + written, total
            done += images_in(table)


@contextmanager
def _claimed(directory: Path, content: Mapping[str, Any], images: int) -> Iterator[None]:
    try:
        with _locked(directory, content):
            yield
    except OSError as error:
        raise DataError(
            f"{directory}: cannot write the stand-in's {images} images (about {images * 4 // 1000 + 1} MB) there: "
            f"{error.strerror or error}; free space or make the folder writable, and repeat the command to resume; or "
            "name another folder"
        ) from None


@contextmanager
def _locked(directory: Path, content: Mapping[str, Any]) -> Iterator[None]:
    """Hold a folder that is new, empty, or begun with the same STANDIN.json."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / CARD
    names = sorted({path.name for path in directory.iterdir()} - {LOCK, f".{CARD}.tmp"})
    if names and CARD not in names:
        raise DataError(
            f"{directory}: is not empty ({', '.join(names[:3])}{', …' if len(names) > 3 else ''}); name a new or empty "
            "folder"
        )
    with lock(directory / LOCK, "writing the stand-in"):
        if not file.exists():
            write_file(file, (json.dumps(dict(content), indent=2) + "\n").encode())
        _check_card(file, content)
        yield


def _check_card(file: Path, content: Mapping[str, Any]) -> None:
    """Raise DataError where a folder's STANDIN.json is not that of the requested stand-in."""
    try:
        written = parse_json(read_text(file), str(file))
    except DataError as error:
        raise DataError(f"{error}; delete the folder, or name another one") from None
    if written == dict(content):
        return
    options = written.get("options") if isinstance(written, dict) else None
    if isinstance(options, dict) and options != content["options"]:
        before, now = (", ".join(f"{k}={v}" for k, v in each.items()) for each in (options, content["options"]))
        reason = f"was begun with other options ({before}, now {now}); use the same ones"
    else:
        reason = "was begun by another version of reidbench; delete the folder"
    raise DataError(f"{file.parent}: {reason}, or name another folder")


def _files_in(folder: Path) -> set[str]:
    """Return the names of the files of a folder; an empty file, as a power failure leaves it, counts as missing."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.stat().st_size}


def mat_file(key: str, table: NDArray[Any], dataset: str) -> bytes:
    """Return a MATLAB 5 file with one table; the bytes do not depend on the time. ``dataset`` enters its first line."""
    from scipy.io import savemat  # noqa: PLC0415, slow to import

    content = io.BytesIO()
    savemat(content, {key: table}, do_compression=True)
    # The first 116 bytes are text for humans, into which scipy writes the time.
    return f"MATLAB 5.0 MAT-file, of a stand-in for {dataset}".encode().ljust(116) + content.getvalue()[116:]
