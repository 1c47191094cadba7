"""Array types, and array files: written atomically, their sizes checked before they are read, never unpickled."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.lib import format as npy
from numpy.typing import NDArray

from reidbench.errors import DataError
from reidbench.utils.atomic import write_atomic

BoolArray = NDArray[np.bool_]
Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
PixelArray = NDArray[np.uint8]
StringArray = NDArray[np.str_]

_ERRORS = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, safetensors.SafetensorError)


def read_arrays(file: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return those arrays of an untrusted ``.npz`` or ``.safetensors`` file that have one of ``names``, by name.

    Raises DataError, naming file and array, for another format, a damaged file, pickled objects, and arrays that
    would take more than half of the memory together.
    """
    if file.suffix not in (".npz", ".safetensors"):
        raise DataError(f"{file}: expected a file that ends with .npz or .safetensors")
    try:
        if file.suffix == ".npz":
            return _read_npz(file, names)
        _check_size(file.stat().st_size)
        with safetensors.safe_open(file, framework="np") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys() if name in names}  # noqa: SIM118, no mapping
    except _ERRORS as error:
        raise DataError(f"{file}: cannot be read: {error}") from None


def read_matrix(file: Path) -> NDArray[Any]:
    """Return the matrix in an untrusted ``.npy`` file, memory-mapped; raises DataError as ``read_arrays``."""
    try:
        matrix: NDArray[Any] = npy.open_memmap(file, mode="r")
    except _ERRORS as error:
        raise DataError(f"{file}: cannot be read as an .npy file: {error}") from None
    if matrix.ndim != 2:
        raise DataError(f"{file}: expected a distance matrix with one row per query, found shape {matrix.shape}")
    return matrix


def _read_npz(file: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(file) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        wanted = {name: member for name, member in members.items() if name in names}
        _check_size(sum(member.file_size for member in wanted.values()))  # zipfile unpacks no more than these sizes
        for name, member in wanted.items():
            with archive.open(member) as opened:
                try:
                    arrays[name] = npy.read_array(opened, allow_pickle=False)
                except (ValueError, MemoryError) as error:
                    if "allow_pickle" in str(error):
                        raise ValueError(f"{name} holds pickled objects, which are not read; save numbers") from None
                    raise ValueError(f"{name}: {error}") from None
                if opened.read(1):
                    raise ValueError(f"{name} holds more bytes than its shape {arrays[name].shape} needs")
    return arrays


def _check_size(size: int) -> None:
    """Raise ValueError where arrays of ``size`` bytes take more than half of this machine's memory."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    if size > most:
        raise ValueError(f"its arrays take {size / 2**30:.1f} GiB, more than half of this machine's memory")


def save_arrays(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays to an npz file, atomically and without pickles."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(file, buffer.getvalue())


def load_arrays(file: Path, names: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Return the named arrays, or all, of an npz file that ``save_arrays`` wrote; raises DataError if it is damaged."""
    try:
        # Opened here, since numpy leaves the file open where it is no archive.
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as opened:
            return {name: opened[name] for name in names or opened.files}
    except _ERRORS as error:
        raise DataError(f"{file}: is damaged ({error}); delete it and run the same command again") from None
