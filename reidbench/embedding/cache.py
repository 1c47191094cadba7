"""Embeddings of a training's images: kept as they are made, and found again by whatever part asks for them."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.embedding.extract import embed_batches
from reidbench.errors import DataError, TrainingError
from reidbench.images.decode import decoder_digest
from reidbench.plugins.interfaces import Backbone
from reidbench.utils.arrays import load_arrays, save_arrays
from reidbench.utils.atomic import sweep
from reidbench.utils.progress import progress

IMAGES_A_FILE = 4_096
SECONDS_A_FILE = 60.0


class KeptEmbeddings:
    """The embeddings of single images under one network and one of the test-time views, in files below ``folder``.

    An image is known by its place, its size and the time of its last change, not by the part that holds it: one that is
    query and gallery, and the first N distractors of a longer list, are embedded once. What was made with other
    weights, another decoder, torch or kind of device is made again. Files are written after every 4,096 images or 60
    seconds, so that a kill costs no more. Whoever makes one holds the lock of ``folder``, unless ``keep`` is false:
    then it only reads, and what is missing is made and not written.
    """

    def __init__(
        self, folder: Path, backbone: Backbone, views: str, device: torch.device, threads: int, *, keep: bool = True
    ) -> None:
        self.folder = self.folder_of(folder, views)
        self.backbone, self.views, self.device, self.threads = backbone, views, device, threads
        self.keep = keep
        self._made_with = _made_with(backbone, device)
        if keep:
            sweep(self.folder)
        self._made: dict[Path, Tensor] = {}
        self._files: list[Path] = []
        self._starts = np.zeros(1, dtype=np.int64)
        self._keys = np.zeros(0, dtype="S32")
        self._seconds = np.zeros(0)
        self._used = np.zeros(0, dtype=np.bool_)
        for file in sorted(self.folder.glob("*.npz")):
            kept = load_arrays(file, ("keys", "seconds"))
            self._list(file, kept["keys"], float(kept["seconds"]))

    @staticmethod
    def folder_of(folder: Path, views: str) -> Path:
        """Return where the embeddings of a view are kept below ``folder``."""
        return folder / f"embeddings-{views}"

    @property
    def seconds(self) -> float:
        """How long making all embeddings took that were asked for, now or earlier."""
        return float(self._seconds[self._used].sum())

    def of(self, samples: Samples, part: str) -> Tensor:
        """Return the embedding of every image [m, D] float32 on the CPU, making those that are not there.

        ``part`` names the samples for people. Raises DataError for an image that cannot be used or a damaged file, and
        TrainingError where an embedding is not finite.
        """
        keys = _keys(samples, self._made_with)
        unique, first = np.unique(keys, return_index=True)
        self._make(samples, keys, np.sort(first[~np.isin(unique, self._keys)]), part)
        order = np.argsort(self._keys)
        rows = order[np.searchsorted(self._keys, keys, sorter=order)]
        self._used[rows] = True
        found = torch.empty(len(keys), self.backbone.embedding_dim)
        for file, start, stop in zip(self._files, self._starts[:-1], self._starts[1:], strict=True):
            here = np.flatnonzero((rows >= start) & (rows < stop))
            if len(here):
                kept = (
                    self._made[file].numpy() if file in self._made else load_arrays(file, ("embeddings",))["embeddings"]
                )
                found[torch.from_numpy(here)] = torch.from_numpy(kept[rows[here] - start])
        return found

    def missing(self, parts: Iterable[Samples]) -> int:
        """Return how many images of all parts together have no embedding yet; raises DataError where one is gone."""
        keys = np.unique(np.concatenate([_keys(samples, self._made_with) for samples in parts]))
        return int((~np.isin(keys, self._keys)).sum())

    def _make(self, samples: Samples, keys: NDArray[Any], missing: NDArray[np.int64], part: str) -> None:
        """Embed the images at the places ``missing``, and keep them file by file."""
        if not len(missing):
            return
        nobody = np.zeros(len(missing), dtype=np.int64)
        images = Samples(samples.root, samples.images[missing], nobody, nobody, np.arange(len(missing) + 1))
        batches = embed_batches(self.backbone, images, self.views, self.device, self.threads)
        pending: list[Tensor] = []
        done, began = 0, time.monotonic()
        with closing(batches), progress(f"embedding the {part} images", len(missing)) as update:
            for batch in batches:
                _refuse_not_finite(batch, images, done + sum(map(len, pending)))
                pending.append(batch)
                ready = done + sum(map(len, pending))
                seconds = time.monotonic() - began
                if ready - done >= IMAGES_A_FILE or seconds >= SECONDS_A_FILE or ready == len(missing):
                    self._keep(keys[missing[done:ready]], torch.cat(pending), seconds)
                    pending, done, began = [], ready, time.monotonic()
                update(ready, "")

    def _keep(self, keys: NDArray[Any], embeddings: Tensor, seconds: float) -> None:
        number = 1 + max((int(file.stem) for file in self._files), default=-1)
        file = self.folder / f"{number:06d}.npz"
        if self.keep:
            save_arrays(file, {"keys": keys, "embeddings": embeddings.numpy(), "seconds": np.array(seconds)})
        else:
            self._made[file] = embeddings
        self._list(file, keys, seconds)

    def _list(self, file: Path, keys: NDArray[Any], seconds: float) -> None:
        self._files.append(file)
        self._starts = np.append(self._starts, self._starts[-1] + len(keys))
        self._keys = np.concatenate([self._keys, keys])
        self._seconds = np.concatenate([self._seconds, np.full(len(keys), seconds / max(len(keys), 1))])
        self._used = np.concatenate([self._used, np.zeros(len(keys), dtype=np.bool_)])


def _made_with(backbone: Backbone, device: torch.device) -> str:
    """Return one digest of all but the image that an embedding depends on."""
    digest = hashlib.sha256(f"{decoder_digest()} {torch.__version__} {device.type}".encode())
    for name, tensor in backbone.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _keys(samples: Samples, made_with: str) -> NDArray[Any]:
    """Return what each image is known by [m], 32 hex digits."""
    keys, root = [], Path(samples.root).resolve()
    for name in samples.images.tolist():
        try:
            found = os.stat(f"{samples.root}/{name}")  # noqa: PTH116, pathlib would double the time of 10^6 files
        except OSError as error:
            raise DataError(f"{samples.root}/{name}: cannot be read: {error.strerror}") from None
        text = f"{made_with}\0{root}\0{name}\0{found.st_size}\0{found.st_mtime_ns}"
        keys.append(hashlib.blake2b(text.encode(), digest_size=16).hexdigest())
    return np.array(keys, dtype="S32")


def _refuse_not_finite(embeddings: Tensor, images: Samples, first: int) -> None:
    finite = torch.isfinite(embeddings).all(dim=1)
    if not finite.all():
        name = images.images[first + int((~finite).nonzero()[0, 0])]
        raise TrainingError(
            f"the trained network gives an embedding that is not finite for {name}; "
            "its training has diverged: try a lower learning_rate"
        )
