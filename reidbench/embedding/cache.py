"""The embeddings of single images of one training, cached in files: each image is embedded once per view."""

from __future__ import annotations

import hashlib
import time
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
from reidbench.images.contents import image_digests
from reidbench.images.decode import decoder_digest
from reidbench.plugins.interfaces import Backbone
from reidbench.utils.arrays import IntArray, PixelArray, read_arrays, save_arrays
from reidbench.utils.atomic import sweep
from reidbench.utils.machine import Machine

FILE_IMAGES = 4_096
FILE_SECONDS = 60.0


class EmbeddingCache:
    """The embeddings of single images under one network and one test-time view, in files below ``folder``.

    The key of an image is a digest of its content and of the weights, decoder, torch version and kind of device, not
    of its path or the part that holds it: an image that is both query and gallery, and the first N distractors of a
    longer list, are embedded once. A file is written after every 4,096 images or 60 seconds, so that a killed process
    loses no more. The images of a damaged file are embedded again, which is logged. The caller holds the lock of
    ``folder``, unless ``write`` is false: then missing embeddings stay in memory.
    """

    def __init__(self, folder: Path, backbone: Backbone, views: str, machine: Machine, *, write: bool = True) -> None:
        self.folder = folder / f"embeddings-{views}"
        self.backbone, self.views, self.machine, self.write = backbone, views, machine, write
        self._network_digest = _network_digest(backbone, machine.device)
        self._keys = np.zeros(0, dtype="S32")  # of row r of all files together
        # File f, which took so many seconds, holds the rows from starts[f] up to starts[f + 1].
        self._files: dict[Path, float] = {}
        self._starts = np.zeros(1, dtype=np.int64)
        self._used: set[Path] = set()
        self._unwritten: dict[Path, NDArray[np.float32]] = {}
        if write:
            sweep(self.folder)
        for file in sorted(self.folder.glob("*.npz")):
            try:
                arrays = read_arrays(file, ("keys", "seconds"))
                self._add_file(file, arrays["keys"], float(arrays["seconds"]))
            except DataError:
                self._drop(file)

    @property
    def seconds(self) -> float:
        """The seconds it took to compute the files of all requested embeddings, now or earlier."""
        return sum(self._files[file] for file in self._used)

    def embeddings(self, samples: Samples, part: str) -> Tensor:
        """Return the embedding of every image [m, D] float32 on the CPU; missing ones are computed.

        ``part`` names the samples in the progress line. Raises DataError for an image that cannot be used, and
        TrainingError where an embedding is not finite.
        """
        digests = image_digests(samples, self.machine)
        keys = self._keys_of(digests)
        unique, first = np.unique(keys, return_index=True)
        self._compute(samples, digests, keys, np.sort(first[~np.isin(unique, self._keys)]), part)
        order = np.argsort(self._keys)
        rows = order[np.searchsorted(self._keys, keys, sorter=order)]
        embeddings = torch.empty(len(keys), self.backbone.embedding_dim)
        for file, start, stop in zip(self._files, self._starts[:-1], self._starts[1:], strict=True):
            images = np.flatnonzero((rows >= start) & (rows < stop))
            if len(images):
                stored = self._unwritten.get(file)
                if stored is None:
                    try:
                        stored = read_arrays(file, ("embeddings",))["embeddings"]
                    except DataError:
                        self._drop(file)
                        self._keys[start:stop] = b""
                        return self.embeddings(samples, part)
                embeddings[torch.from_numpy(images)] = torch.from_numpy(stored[rows[images] - start])
                self._used.add(file)
        return embeddings

    def _drop(self, file: Path) -> None:
        self.machine.log(f"{file}: is damaged: its images are embedded again")
        if self.write:
            file.unlink(missing_ok=True)

    def _compute(self, samples: Samples, digests: PixelArray, keys: NDArray[Any], missing: IntArray, part: str) -> None:
        """Embed the images with the indices ``missing``, file by file."""
        if not len(missing):
            return
        unlabelled = np.zeros(len(missing), dtype=np.int64)
        images = Samples(samples.root, samples.images[missing], unlabelled, unlabelled, np.arange(len(missing) + 1))
        description = f"embedding the {part} images"
        batches = embed_batches(self.backbone, images, self.views, self.machine, description, digests[missing])
        pending: list[Tensor] = []
        stored, computed, began = 0, 0, time.monotonic()
        with closing(batches):
            for batch in batches:
                self._check_finite(batch, images, computed)
                pending.append(batch)
                computed += len(batch)
                seconds = time.monotonic() - began
                if computed - stored >= FILE_IMAGES or seconds >= FILE_SECONDS or computed == len(missing):
                    self._store(keys[missing[stored:computed]], torch.cat(pending).numpy(), seconds)
                    pending, stored, began = [], computed, time.monotonic()

    def _check_finite(self, embeddings: Tensor, images: Samples, first: int) -> None:
        finite = torch.isfinite(embeddings).all(dim=1)
        if not finite.all():
            name = images.images[first + int((~finite).nonzero()[0, 0])]
            weights = all(bool(torch.isfinite(parameter).all()) for parameter in self.backbone.parameters())
            statistics = "its weights are finite: check its forward and its batch norms' running_mean and running_var"
            cause = statistics if weights else "its weights are neither: it has diverged; try a lower learning_rate"
            raise TrainingError(f"the network's embedding of {name} is not finite in evaluation mode; {cause}")

    def _store(self, keys: NDArray[Any], embeddings: NDArray[np.float32], seconds: float) -> None:
        number = 1 + max((int(file.stem) for file in self._files), default=-1)
        file = self.folder / f"{number:06d}.npz"
        if self.write:
            save_arrays(file, {"keys": keys, "embeddings": embeddings, "seconds": np.array(seconds)})
        else:
            self._unwritten[file] = embeddings
        self._add_file(file, keys, seconds)

    def _add_file(self, file: Path, keys: NDArray[Any], seconds: float) -> None:
        self._files[file] = seconds
        self._starts = np.append(self._starts, self._starts[-1] + len(keys))
        self._keys = np.concatenate([self._keys, keys])

    def _keys_of(self, digests: PixelArray) -> NDArray[Any]:
        """Return the key [m] of each image, 32 hex digits, from its content's digest [m, 32]."""
        prefix = self._network_digest.encode()
        contents = (prefix + digest.tobytes() for digest in digests)
        return np.array([hashlib.blake2b(content, digest_size=16).hexdigest() for content in contents], dtype="S32")


def _network_digest(backbone: Backbone, device: torch.device) -> str:
    """Return a digest of everything but the image that an embedding depends on."""
    digest = hashlib.sha256(f"{decoder_digest()} {torch.__version__} {device.type}".encode())
    for name, tensor in backbone.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
