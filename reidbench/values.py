"""The frozen values that flow through the house, from the request to the record of a run.

Words: a *unit* is one or more images that share one embedding; *junk* (pid -1) leaves the ranking; a *distractor*
(pid 0) stays and is always wrong. Nothing here imports torch, so that listing and planning stay fast.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from reidbench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
StringArray = NDArray[np.str_]

JUNK = -1
DISTRACTOR = 0


@dataclass(frozen=True, eq=False)
class Samples:
    """Units of images: unit i owns ``images[starts[i]:starts[i + 1]]``.

    ``root`` is the folder that the images' names are relative to; ``images`` [m] are POSIX paths; ``pids`` and ``cams``
    [n] are int64 per unit; ``starts`` [n + 1] is int64, begins with 0, rises and ends with m.
    Raises DataError where the arrays do not fit together or a name leaves the root.
    """

    root: Path
    images: StringArray
    pids: IntArray
    cams: IntArray
    starts: IntArray

    def __post_init__(self) -> None:
        units = len(self.pids)
        if len(self.cams) != units or len(self.starts) != units + 1:
            raise DataError(
                f"{self.root}: {units} pids need {units} cams and {units + 1} starts, "
                f"got {len(self.cams)} cams and {len(self.starts)} starts"
            )
        if self.starts[0] != 0 or self.starts[-1] != len(self.images) or (np.diff(self.starts) < 1).any():
            raise DataError(f"{self.root}: starts must rise from 0 to the number of images ({len(self.images)})")
        for name in self.images.tolist():
            # The plain text first: a path object for each of 10^6 names would take seconds.
            if name.startswith("/") or (".." in name and ".." in PurePosixPath(name).parts):
                raise DataError(f"{self.root}: the image path {name!r} leaves its root; name files below the root")

    @classmethod
    def of_images(cls, root: Path, images: Iterable[str], pids: Iterable[int], cams: Iterable[int]) -> Samples:
        """Return samples in which every unit is one image; ``images``, ``pids`` and ``cams`` have one length."""
        names = list(images)
        return cls(
            root=root,
            images=np.array(names, dtype=np.str_),
            pids=np.fromiter(pids, dtype=np.int64),
            cams=np.fromiter(cams, dtype=np.int64),
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
        """Return the places in ``images`` [m'] of the given units' images, unit by unit, and their starts [n' + 1]."""
        lengths = np.diff(self.starts)[units]
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
        images = np.repeat(self.starts[:-1][units] - starts[:-1], lengths) + np.arange(starts[-1])
        return images, starts

    def path(self, image: int) -> Path:
        """Return the file of one image."""
        return self.root / str(self.images[image])

    @cached_property
    def digest(self) -> str:
        """The sha256 (hex) of the content: names, byte sizes, pids, cams and starts; the same on every machine.

        Raises DataError where a file is missing.
        """
        digest = hashlib.sha256()
        for name in self.images.tolist():
            try:
                size = os.stat(f"{self.root}/{name}").st_size  # noqa: PTH116, pathlib would double the time of 10^6 files
            except OSError as error:
                raise DataError(f"{self.root}/{name}: cannot be read: {error.strerror}") from None
            digest.update(f"{name}\0{size}\n".encode())
        for array in (self.pids, self.cams, self.starts):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return digest.hexdigest()

    @cached_property
    def name_digest(self) -> str:
        """The sha256 (hex) of the sorted base names, one a line, which is how published lists are recognised."""
        names = sorted(PurePosixPath(name).name for name in self.images.tolist())
        return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Split:
    """A data set: what is trained on, what is asked, and what is searched.

    ``fit`` are the units that a learned metric is fitted on, where they are others than the units of ``train`` (left
    away, or None): the same people in units that are pooled as those of the test are. Who replaces one replaces both.
    Only ``gallery`` may hold junk and distractors. ``expected`` are the counts that the data set should have, by the
    names of ``counts``, or empty. ``ignored`` counts, by a name for people, the files that were passed over;
    ``further`` are counts of the data set's own (tracklets, folders) by name, beside those of images.
    """

    train: Samples
    query: Samples
    gallery: Samples
    expected: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)
    further: Mapping[str, int] = field(default_factory=dict)
    fit: Samples = field(default=cast("Samples", None), kw_only=True)

    def __post_init__(self) -> None:
        if cast("Samples | None", self.fit) is None:
            object.__setattr__(self, "fit", self.train)
        for name, samples in (("train", self.train), ("fit", self.fit), ("query", self.query)):
            if (samples.pids <= DISTRACTOR).any():
                raise DataError(f"{samples.root}: {name} holds junk or distractors (pids below 1); only a gallery may")

    @cached_property
    def digest(self) -> str:
        """The sha256 (hex) of all parts."""
        return hashlib.sha256(" ".join(part.digest for part in self.parts).encode()).hexdigest()

    @property
    def parts(self) -> tuple[Samples, ...]:
        """What is trained on, asked, searched and, where it is something else, fitted on."""
        return (self.train, self.query, self.gallery, *([] if self.fit is self.train else [self.fit]))

    @cached_property
    def counts(self) -> dict[str, int]:
        """Images and identities of each part, the gallery's junk and distractors (units), and what is ``further``."""
        gallery = self.gallery.pids
        return {
            "train": len(self.train.images),
            "train_identities": len(np.unique(self.train.pids)),
            "query": len(self.query.images),
            "query_identities": len(np.unique(self.query.pids)),
            "gallery": len(self.gallery.images),
            "junk": int((gallery == JUNK).sum()),
            "distractors": int((gallery == DISTRACTOR).sum()),
            "cameras": len(np.unique(np.concatenate([self.train.cams, self.query.cams, self.gallery.cams]))),
            **self.further,
        }

    @cached_property
    def wrong_counts(self) -> list[str]:
        """What differs from the counts that the data set should have, each as one clause."""
        return [
            f"{name.replace('_', ' ')}: {expected:,} expected, {self.counts[name]:,} found"
            for name, expected in self.expected.items()
            if self.counts[name] != expected
        ]


@dataclass(frozen=True)
class Preprocess:
    """What a network's weights expect of an image: pixels / 255, then (x - mean) / std per channel in RGB order.

    ``height`` and ``width`` are the network's input in pixels; ``mean`` and ``std`` are on the 0..1 scale.
    """

    height: int
    width: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    interpolation: Literal["bilinear"] = "bilinear"


@dataclass(frozen=True)
class BackboneInfo:
    """What a recipe may know of a network; ``batch`` is (P, K), the identities and the images of each in a batch.

    ``faithful_to`` names the paper whose network this is, with all that the paper says of it.
    """

    embedding_dim: int
    preprocess: Preprocess
    pretrained: bool
    parameters: int
    batch: tuple[int, int] = (18, 4)
    faithful_to: str = ""


@dataclass(frozen=True)
class TrainInfo:
    """What a loss may know before training: the embedding's size and the number of training identities."""

    embedding_dim: int
    num_pids: int


@dataclass(frozen=True)
class Protocol:
    """The data and everything after the checkpoint; declarative.

    ``dataset`` is a spec; ``views`` names the test-time views; ``pool`` is "auto" (the loss's own), "mean" or "max";
    ``exclude`` names what leaves a query's ranking: "junk" (pid -1) and "same_camera" (the query's identity in the
    query's camera). ``primary`` is the score that ranks. ``version`` moves whenever a number can change. ``recipe`` is
    the default recipe. ``defaults`` are defaults for options of other items, by name. ``names`` holds the sha256 of
    the published sorted name lists ("train", "query", "gallery", joined by "+" where only two together are published):
    any other tree is a stand-in. ``faithful_to`` names the paper that draws its training images, looks at test images
    (views) and pools them so, with the recipe's options ``faithful_options`` where they are not the recipe's defaults.
    """

    dataset: str
    version: int
    recipe: str
    views: str
    pool: Literal["auto", "mean", "max"] = "auto"
    exclude: tuple[str, ...] = ("junk", "same_camera")
    primary: str = "map_market"
    ranks: tuple[int, ...] = (1, 5, 10, 20)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    faithful_to: str = ""
    faithful_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LossValue:
    """What a loss says of one batch.

    ``total`` is a 0-d tensor, the number that is minimised; ``per_item`` maps a name to the terms that it is the mean
    of, each 1-d; ``scalars`` are further 0-d tensors to log.
    """

    total: Tensor
    per_item: Mapping[str, Tensor] = field(default_factory=dict)
    scalars: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainView:
    """What a loss sees of the training set when it draws its batches.

    ``labels`` [n] are 0..num_pids-1 and ``cams`` [n] the cameras, per unit; ``p`` and ``k`` are the recipe's;
    ``generator`` belongs to (seed, round) alone; ``step`` is the number of steps done; ``embed(units)`` returns the
    present network's embeddings [len(units), D] float32 on its device without gradient, each the mean over the unit's
    images, of which the network, in evaluation mode, sees the centre.
    """

    labels: IntArray
    cams: IntArray
    p: int
    k: int
    generator: np.random.Generator
    step: int
    embed: Callable[[IntArray], Tensor]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where every positive of every query stands, from which all scores follow.

    Query i's positives are ``units[starts[i]:starts[i + 1]]`` (int64, units of the gallery), with ``ranks`` (int64,
    0-based: how many items that are not excluded stand before it) and ``distances`` (float64), in rank order. The same
    for its same-camera positives, which are excluded, with the rank that each would have among the rest: they serve
    the official per-camera matrix. ``ranked`` [n] is how many gallery items were ranked for each query; ``top`` [n, k]
    and ``top_distances`` [n, k] are the k closest that are not excluded, -1 and inf where there are fewer.
    """

    starts: IntArray
    units: IntArray
    ranks: IntArray
    distances: FloatArray
    same_camera_starts: IntArray
    same_camera_units: IntArray
    same_camera_ranks: IntArray
    same_camera_distances: FloatArray
    ranked: IntArray
    top: IntArray
    top_distances: FloatArray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def joined(cls, parts: Sequence[Ranking]) -> Ranking:
        """Return the queries of all parts, which were ranked against one gallery, in their order."""
        arrays = {name: [getattr(part, name) for part in parts] for name in vars(parts[0])}
        whole = {name: np.concatenate(each) for name, each in arrays.items() if "starts" not in name}
        for name in ("starts", "same_camera_starts"):
            lengths = np.concatenate([np.diff(each) for each in arrays[name]])
            whole[name] = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
        return cls(**whole)


@dataclass(frozen=True)
class Job:
    """One request: every item as the text the user gave (or a default), and the seed. Picklable."""

    protocol: str
    loss: str
    backbone: str
    recipe: str
    metric: str
    rerank: str
    seed: int


@dataclass(frozen=True)
class Part:
    """One part of a report: a title, tables, figures and notes; the core renders it for terminal, page and files.

    A figure's label says what it shows: it stands above the drawing and is its accessible name.
    """

    title: str
    tables: list[pd.DataFrame] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
