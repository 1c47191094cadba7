"""Array types, and array files: written atomically, their sizes checked before they are read, never unpickled."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

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


def most_bytes() -> int:
    """Return the bytes that the arrays of one untrusted file may take: half of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def read_arrays(file: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return those arrays of an untrusted ``.npz`` or ``.safetensors`` file that have one of ``names``, by name.

    Raises DataError, naming file and array, for another format, a damaged file, pickled objects, and arrays that
    would take more than half of the memory; no array is read before its size is known.
    """
    if file.suffix not in (".npz", ".safetensors"):
        raise DataError(f"{file}: expected a file that ends with .npz or .safetensors")
    try:
        return _read_npz(file, names) if file.suffix == ".npz" else _read_safetensors(file, names)
    except _ERRORS as error:
        raise DataError(f"{file}: cannot be read: {error}") from None


def read_matrix(file: Path) -> NDArray[Any]:
    """Return the matrix in an untrusted ``.npy`` file, memory-mapped; raises DataError as ``read_arrays``."""
    try:
        with file.open("rb") as opened:
            shape, dtype = _read_header(opened)
        _check_size(file, "its array", shape, dtype, limit=None)
        matrix: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except _ERRORS as error:
        raise DataError(f"{file}: cannot be read as an .npy file: {error}") from None
    if matrix.ndim != 2:
        raise DataError(f"{file}: expected a distance matrix with one row per query, found shape {matrix.shape}")
    return matrix


def _read_npz(file: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    limit = most_bytes()
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name not in names:
                continue
            with archive.open(member) as opened:
                shape, dtype = _read_header(opened)
            size = _check_size(file, name, shape, dtype, limit)
            limit -= size
            # The size that the archive declares is checked too: a small file can unpack to any length.
            if member.file_size > size + 65_536:
                raise ValueError(f"{name} holds more bytes than its shape {shape} needs")
            with archive.open(member) as opened:
                arrays[name] = npy.read_array(opened, allow_pickle=False)
    return arrays


def _read_safetensors(file: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    if file.stat().st_size > most_bytes():
        raise ValueError(f"it is larger than half of this machine's memory ({most_bytes() / 2**30:.1f} GiB)")
    with safetensors.safe_open(file, framework="np") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys() if name in names}  # noqa: SIM118, no mapping


def _read_header(opened: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(opened)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(opened)
    return shape, dtype


def _check_size(file: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], limit: int | None) -> int:
    """Return the bytes of an array; raises DataError for pickled objects and for more bytes than ``limit``."""
    if dtype.hasobject:
        raise DataError(f"{file}: {name} holds pickled objects, which are not read; save it as numbers")
    size = dtype.itemsize * int(np.prod(shape, dtype=object))
    if limit is not None and size > limit:
        raise DataError(
            f"{file}: {name} has shape {shape} of {dtype}, {size / 2**30:.1f} GiB, more than the {limit / 2**30:.1f} "
            "GiB that remain of half of this machine's memory"
        )
    return size


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
