"""Array types, and array files: written atomically; read with every error guarded, within limits, never unpickled."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import safetensors
from numpy.lib import format as npy
from numpy.typing import NDArray

from reidbench.errors import DataError, OptionError, did_you_mean
from reidbench.utils.atomic import write_atomic
from reidbench.utils.untrusted_files import ARRAY_BYTES, open_regular

T = TypeVar("T")

BoolArray = NDArray[np.bool_]
Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
PixelArray = NDArray[np.uint8]
StringArray = NDArray[np.str_]


def read_arrays(file: Path, names: Collection[str] | None = None, *, most: int = ARRAY_BYTES) -> dict[str, Any]:
    """Return the arrays of an untrusted file by name: ``names``, or all.

    Those of an ``.npz`` are numpy arrays, those of a ``.safetensors`` are tensors, since numpy has no bfloat16.
    Raises DataError, naming file and array, for another format, what is no regular file, a missing array, a damaged
    file, pickled objects, two arrays of one name, and more than ``most`` bytes (half of the memory) of arrays.
    """
    with _guarded(file, ".npz", ".safetensors") as opened:
        if file.suffix == ".npz":
            with zipfile.ZipFile(opened) as archive:
                members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
                if len(members) < len(archive.infolist()):
                    raise ValueError("two arrays have one name")
                wanted = _choose(members, names)
                _check_size(sum(members[name].file_size for name in wanted), most)  # zipfile unpacks no more
                return {name: _read_member(archive, members[name], name) for name in wanted}
        _check_size(os.fstat(opened.fileno()).st_size, most)
        with safetensors.safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_tensor(name) for name in _choose(tensors.keys(), names)}


def _choose(present: Collection[str], names: Collection[str] | None) -> Collection[str]:
    for name in names or ():
        if name not in present:
            near = did_you_mean(name, present, str)
            raise ValueError(f"it lacks the array {name}; it has {', '.join(present) or 'none'}{near}")
    return present if names is None else names


def read_matrix(file: Path) -> NDArray[Any]:
    """Return the matrix in an untrusted ``.npy`` file, memory-mapped; raises DataError as ``read_arrays``."""
    with _guarded(file, ".npy"):
        matrix: NDArray[Any] = npy.open_memmap(file, mode="r")
    if matrix.ndim != 2:
        raise DataError(f"{file}: expected a matrix, found shape {matrix.shape}")
    return matrix


class MappedRows:
    """The rows of matrices in ``.npy`` files, file after file; a file is memory-mapped only while rows of it are read.

    Takes the files; raises DataError for another dtype than float32 and float64, and where one differs from the first.

    ``starts``: file f holds the rows from ``starts[f]`` up to ``starts[f + 1]`` int64.
    ``shape``: number of rows and columns.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        shapes = [(matrix.shape, matrix.dtype) for matrix in map(read_matrix, files)]
        (_, columns), dtype = shapes[0]
        for file, (shape, found) in zip(files, shapes, strict=True):
            if found not in (np.float32, np.float64) or (shape[1], found) != (columns, dtype):
                expected = f"{columns} columns of {dtype} of {files[0]}" * (file != files[0]) or "float32 or float64"
                raise DataError(f"{file}: expected {expected}, got {shape[1]} columns of {found}")
        self.files, self.dtype, self.starts = files, dtype, np.cumsum([0, *(shape[0] for shape, _ in shapes)])
        self.shape = (int(self.starts[-1]), columns)

    @property
    def parts(self) -> Iterator[tuple[Path, int, int]]:
        """Each file with its first row and that of the next file."""
        return zip(self.files, self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: IntArray | slice) -> NDArray[Any]:
        """Return a copy of rows."""
        rows = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        result = np.empty((len(rows), self.shape[1]), dtype=self.dtype)
        for number in np.unique(owners):
            places = np.flatnonzero(owners == number)
            values: NDArray[Any] = read_matrix(self.files[number])[rows[places] - self.starts[number]]
            if len(places) == len(rows):
                return values
            result[places] = values
        return result


def in_memory(rows: T | MappedRows, owner: str) -> T:
    """Return embeddings that are in memory; raises OptionError for those in files, naming the ``owner`` of the need."""
    if isinstance(rows, MappedRows):
        raise OptionError(f"{owner}: needs all embeddings at once; give them in one .npz file, or use another")
    return rows


@contextmanager
def _guarded(file: Path, *suffixes: str) -> Iterator[BinaryIO]:
    """Yield an array file opened for reading; every error of the block becomes a DataError that names the file."""
    if file.suffix not in suffixes:
        raise DataError(f"{file}: expected a file that ends with {' or '.join(suffixes)}")
    with open_regular(file) as opened:
        try:
            yield opened
        except Exception as error:  # damaged content makes zipfile, decompressors, numpy and safetensors raise anything
            raise DataError(f"{file}: cannot be read: {error or type(error).__name__}") from None


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    with archive.open(member) as opened:
        try:
            array: NDArray[Any] = npy.read_array(opened, allow_pickle=False)
        except Exception as error:
            if "allow_pickle" in str(error):
                raise ValueError(f"{name} holds pickled objects, which are not read; save numbers") from None
            raise ValueError(f"{name}: {error or type(error).__name__}") from None
        if opened.read(1):
            raise ValueError(f"{name} holds more bytes than its shape {array.shape} needs")
    return array


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise ValueError(f"its arrays take {size / 2**30:.1f} GiB, more than the {most / 2**30:.1f} GiB that are read")


def save_arrays(file: Path, arrays: Mapping[str, NDArray[Any]], *, deflated: bool = False) -> None:
    """Write named arrays to an npz file, atomically and without pickles."""
    buffer = io.BytesIO()
    (np.savez_compressed if deflated else np.savez)(buffer, allow_pickle=False, **arrays)
    write_atomic(file, buffer.getvalue())
