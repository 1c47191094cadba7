"""Units of images with their identities and cameras.

A *unit* is one or more images that share one embedding; *junk* (pid -1) is excluded from rankings; a *distractor* (pid
0) is ranked and always a negative. Nothing here imports torch, so that listing and planning stay fast.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from reidbench.errors import DataError, PluginError
from reidbench.utils.arrays import IntArray, StringArray

JUNK = -1
DISTRACTOR = 0


@dataclass(frozen=True, eq=False)
class Samples:
    """Units of images: unit i has ``images[starts[i]:starts[i + 1]]``.

    Fields:
        root: the folder that image paths are relative to.
        images: POSIX paths [m].
        pids, cams: identity and camera of each unit [n] int64.
        starts: [n + 1] int64, rising from 0 to m.

    Raises PluginError for other types and dtypes and where the arrays do not fit together, DataError where a path
    leaves the root.
    """

    root: Path
    images: StringArray
    pids: IntArray
    cams: IntArray
    starts: IntArray

    def __post_init__(self) -> None:
        if not isinstance(self.root, Path):
            raise PluginError(f"Samples: root must be a pathlib.Path, got {type(self.root).__name__}")
        for name, kind in (("images", np.str_), ("pids", np.int64), ("cams", np.int64), ("starts", np.int64)):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.ndim != 1 or not np.issubdtype(array.dtype, kind):
                found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
                raise PluginError(f"Samples: {name} must be an array of {kind.__name__}, 1-d, got {found}")
        units = len(self.pids)
        if len(self.cams) != units or len(self.starts) != units + 1:
            found = f"{len(self.cams)} cams and {len(self.starts)} starts"
            raise PluginError(f"{self.root}: {units} pids need {units} cams and {units + 1} starts, got {found}")
        if self.starts[0] != 0 or self.starts[-1] != len(self.images) or (np.diff(self.starts) < 1).any():
            raise PluginError(f"{self.root}: starts must rise from 0 to the number of images ({len(self.images)})")
        for name in self.images.tolist():
            # The plain text first: a path object for each of 10^6 names would take seconds.
            if name.startswith("/") or (".." in name and ".." in PurePosixPath(name).parts):
                raise DataError(f"{self.root}: the image path {name!r} leaves its root; expected a path below the root")

    @classmethod
    def of_images(cls, root: Path, images: Iterable[str], pids: Iterable[int], cams: Iterable[int]) -> Samples:
        """Return samples in which every unit is one image; ``images``, ``pids`` and ``cams`` have one length.

        Raises PluginError where they are not texts and whole numbers.
        """
        names, numbers = list(images), {"pids": np.array(list(pids)), "cams": np.array(list(cams))}
        if not all(isinstance(name, str) for name in names):
            raise PluginError("Samples: images must be texts: paths relative to root")
        for key, array in numbers.items():
            if array.size and not np.issubdtype(array.dtype, np.integer):
                raise PluginError(f"Samples: {key} must be whole numbers, got {array.dtype} {list(array.shape)}")
        return cls(
            root=root,
            images=np.array(names, dtype=np.str_),
            pids=numbers["pids"].astype(np.int64),
            cams=numbers["cams"].astype(np.int64),
            starts=np.arange(len(names) + 1, dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.pids)

    def __add__(self, other: Samples) -> Samples:
        """Return the units of both, these first; both must lie below one root."""
        if self.root != other.root:
            raise DataError(f"samples of two roots cannot be joined: {self.root} and {other.root}")
        return Samples(
            root=self.root,
            images=np.concatenate([self.images, other.images]),
            pids=np.concatenate([self.pids, other.pids]),
            cams=np.concatenate([self.cams, other.cams]),
            starts=np.concatenate([self.starts, self.starts[-1] + other.starts[1:]]),
        )

    def take(self, units: IntArray) -> Samples:
        """Return the given units [n'] in the given order."""
        images, starts = self.rows(units)
        return Samples(self.root, self.images[images], self.pids[units], self.cams[units], starts)

    def rows(self, units: IntArray) -> tuple[IntArray, IntArray]:
        """Return the indices into ``images`` [m'] of the given units' images, unit by unit, and starts [n' + 1]."""
        lengths = np.diff(self.starts)[units]
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
        images = np.repeat(self.starts[:-1][units] - starts[:-1], lengths) + np.arange(starts[-1])
        return images, starts

    def path(self, image: int) -> Path:
        """Return the file of one image."""
        return self.root / str(self.images[image])

    @cached_property
    def file_stats(self) -> IntArray:
        """Byte size, time of modification and of change (ns) and inode of every image file, int64 [m, 4], read once.

        Raises DataError where a file is missing.
        """
        stats = np.empty((len(self.images), 4), dtype=np.int64)
        for image, name in enumerate(self.images.tolist()):
            try:
                stat = os.stat(f"{self.root}/{name}")  # noqa: PTH116, pathlib would double the time of 10^6 files
            except OSError as error:
                raise DataError(f"{self.root}/{name}: cannot be read: {error.strerror}") from None
            inode = stat.st_ino & 2**63 - 1  # some file systems use all 64 bits
            stats[image] = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, inode
        return stats

    @cached_property
    def digest(self) -> str:
        """The sha256 (hex) of the content: names, byte sizes, pids, cams and starts; the same on every machine.

        Raises DataError where a file is missing.
        """
        digest = hashlib.sha256()
        for name, size in zip(self.images.tolist(), self.file_stats[:, 0].tolist(), strict=True):
            digest.update(f"{name}\0{size}\n".encode())
        for array in (self.pids, self.cams, self.starts):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return digest.hexdigest()

    @cached_property
    def name_digest(self) -> str:
        """The sha256 (hex) of the sorted base names, one per line, by which published lists are recognised."""
        names = sorted(PurePosixPath(name).name for name in self.images.tolist())
        return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()
