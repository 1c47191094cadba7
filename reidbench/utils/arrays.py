"""Arrays from strangers' files: looked at before they are read, never unpickled."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors
from numpy.lib import format as npy
from numpy.typing import NDArray

from reidbench.errors import DataError
from reidbench.utils.atomic import write_atomic

Float32Array = NDArray[np.float32]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
StringArray = NDArray[np.str_]

NAMES = ("embeddings", "pids", "cams", "starts")


def most_bytes() -> int:
    """Return how many bytes one file's arrays may take: half of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def read_arrays(file: Path, names: Collection[str] = NAMES) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` or ``.safetensors`` file by their names, of ``names`` only.

    Raises DataError, naming file and array, for another format, a damaged file, pickled objects, and arrays that would
    take more than half of the memory; nothing is unpickled, and no array is read before its size is known.
    """
    if file.suffix not in (".npz", ".safetensors"):
        raise DataError(f"{file}: expected a file that ends with .npz, .safetensors or .h5")
    try:
        return _read_npz(file, names) if file.suffix == ".npz" else _read_safetensors(file, names)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, safetensors.SafetensorError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None


def read_matrix(file: Path) -> NDArray[Any]:
    """Return the matrix in an ``.npy`` file, mapped and not read; raises DataError as ``read_arrays``."""
    try:
        with file.open("rb") as opened:
            shape, dtype = _header(opened)
        _check(file, "", shape, dtype, limit=None)
        matrix: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file}: cannot be read as an .npy file: {error}") from None
    if matrix.ndim != 2:
        raise DataError(f"{file}: expected a matrix of distances, one row a query, got shape {matrix.shape}")
    return matrix


def _read_npz(file: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    left = most_bytes()
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name not in names:
                continue
            with archive.open(member) as opened:
                shape, dtype = _header(opened)
            left -= _check(file, name, shape, dtype, left)
            # The archive's own word on the size is checked too: a small file can unpack to any length.
            if member.file_size > dtype.itemsize * int(np.prod(shape, dtype=object)) + 65_536:
                raise ValueError(f"{name} holds more bytes than its shape {shape} needs")
            with archive.open(member) as opened:
                found[name] = npy.read_array(opened, allow_pickle=False)
    return found


def _read_safetensors(file: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    if file.stat().st_size > most_bytes():
        raise ValueError(f"it is larger than half of this machine's memory ({most_bytes() / 2**30:.1f} GiB)")
    with safetensors.safe_open(file, framework="np") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys() if name in names}  # noqa: SIM118, no mapping


def _header(opened: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(opened)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(opened)
    return shape, dtype


def _check(file: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], limit: int | None) -> int:
    named = f"{file}: {name or 'its array'}"
    if dtype.hasobject:
        raise DataError(f"{named} holds pickled objects, which are not read; save it as numbers")
    size = dtype.itemsize * int(np.prod(shape, dtype=object))
    if limit is not None and size > limit:
        raise DataError(
            f"{named} has shape {shape} of {dtype}, {size / 2**30:.1f} GiB, more than the {limit / 2**30:.1f} GiB that "
            "are left of half of this machine's memory"
        )
    return size


def save_arrays(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as one npz, atomically and without pickles."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(file, buffer.getvalue())


def load_arrays(file: Path, names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Return the named arrays, or all, of an npz that this store wrote; raises DataError where it is damaged."""
    try:
        # Opened here, since numpy leaves the file open where it is no archive.
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as opened:
            return {name: opened[name] for name in names or opened.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: is damaged ({error}); delete it and run the same command again") from None


PixelArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
