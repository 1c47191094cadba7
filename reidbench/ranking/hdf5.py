"""Embeddings as the paper's authors' code writes them: an HDF5 file with ``emb`` and the CSV that it was made from."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidbench.errors import DataError, OptionError
from reidbench.utils.arrays import most_bytes

DATASET = "emb"
JUNK_NAMES = {"00-1": "-1"}  # as MARS writes it

# The camera in a name of Market-1501 (0002_c1s1_000451_03.jpg) or MARS (0001C1T0001F001.jpg).
CAMERA = re.compile(r"_c(\d{1,9})|C(\d{1,9})T\d")
# The pid in such a name, where it begins with one.
PID = re.compile(r"(-1|\d{1,18})_c\d|(00-1|\d{4})C\d{1,9}T\d")


def read_hdf5(file: Path, listed: Path | None) -> dict[str, NDArray[Any]]:
    """Return ``embeddings`` [n, D], ``pids`` and ``cams`` [n] of an ``.h5`` file and its CSV without header.

    The CSV has one line an image, pid and name, in the order of the rows; the camera is read from the name, and
    the pid must be the name's where the name has one. It lies
    beside the file with the same name (``.csv``) where ``listed`` is None. Raises OptionError where h5py is not
    installed, DataError, naming file and line, where something cannot be used; no more than half of the memory is read.
    """
    try:
        import h5py  # noqa: PLC0415, an extra
    except ImportError:
        raise OptionError(
            f'{file}: h5py is not installed, which reads such files; install it: pip install "reidbench[h5]"'
        ) from None
    try:
        with h5py.File(file, "r") as opened:
            if isinstance(opened.get(DATASET, getlink=True), h5py.ExternalLink) or not isinstance(
                opened.get(DATASET), h5py.Dataset
            ):
                raise ValueError(f"it has no data set {DATASET!r} of its own; it has {', '.join(opened) or 'nothing'}")
            found = opened[DATASET]
            if found.is_virtual or found.external:
                raise ValueError(f"{DATASET} lies in other files")
            size = found.dtype.itemsize * int(np.prod(found.shape or (), dtype=object))
            if found.dtype.hasobject or size > most_bytes():
                raise ValueError(
                    f"{DATASET} has shape {found.shape} of {found.dtype}, {size / 2**30:.1f} GiB; expected numbers "
                    f"that fit into half of this machine's memory ({most_bytes() / 2**30:.1f} GiB)"
                )
            embeddings = found[()]
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    pids, cams = _read_csv(listed or file.with_suffix(".csv"))
    return {"embeddings": np.asarray(embeddings), "pids": pids, "cams": cams}


def _read_csv(file: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    pids, cams = [], []
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            for line, row in enumerate(csv.reader(opened, strict=True), start=1):
                if len(row) != 2:
                    raise DataError(f"{file}: line {line}: expected a pid and a file name, got {len(row)} columns")
                pid, name = JUNK_NAMES.get(row[0].strip(), row[0].strip()), row[1].rpartition("/")[2]
                camera = CAMERA.search(name)
                if not re.fullmatch(r"-?\d{1,18}", pid):
                    raise DataError(f"{file}: line {line}: pid {row[0]!r:.80} is no whole number")
                if camera is None:
                    raise DataError(
                        f"{file}: line {line}: the name {name!r:.80} says no camera (0002_c1s1_… or 0001C1T0001F001…); "
                        "save the embeddings as .npz with cams"
                    )
                said = PID.match(name)
                if said is not None and int(pid) != int(JUNK_NAMES.get(said[2], said[1] or said[2])):
                    raise DataError(
                        f"{file}: line {line}: the pid is {pid}, but the name {name!r:.80} says {said[1] or said[2]}; "
                        "is this the CSV that the embeddings were made from?"
                    )
                pids.append(int(pid))
                cams.append(int(camera[1] or camera[2]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as the CSV of an .h5 file: {error}") from None
    return np.array(pids, dtype=np.int64), np.array(cams, dtype=np.int64)
