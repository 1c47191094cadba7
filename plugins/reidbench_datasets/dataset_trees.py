"""Shared by the dataset readers: official folders below the data root, their counts, and images without identity."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np

from reidbench import DataError, IntArray, LaterOption, OptionError, Samples, Split, hold_out, parse_json, read_text

# The file in which a rendered stand-in gives its counts.
CARD = "STANDIN.json"

ALL_TRAIN = "train_before_holdout"  # count of the training images of a dataset of which a part is held out
SHOWN = 6  # names of what a folder holds

# The options by which images without identity join a training set.
Unlabelled = Annotated[str | None, LaterOption]
UnlabelledImages = Annotated[int | None, LaterOption]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

Views = Literal["original", "center", "center_flip", "five_crops", "five_crops_flip"]


def check_holdout(dataset: str, holdout: float) -> None:
    """Raise OptionError where the fraction of held-out identities is not from 0 to below 1."""
    if not 0 <= holdout < 1:
        raise OptionError(f"{dataset}: option holdout: expected a fraction from 0 to below 1, got {holdout:g}")


def lacking(folder: Path, names: Iterable[str]) -> str:
    """Return which of these files or folders a folder lacks, and what it has, as one line that begins with its path.

    The line is "" where it lacks none.
    """
    if not (missing := [name for name in names if not (folder / name).exists()]):
        return ""
    if not folder.is_dir():
        return f"{folder}: no such folder"
    entries = os.listdir(folder) if os.access(folder, os.R_OK) else []  # noqa: PTH208, only names are needed
    present = sorted(name for name in entries if not name.startswith("."))
    shown = ", ".join(present[:SHOWN]) + ", …" * (len(present) > SHOWN)
    return f"{folder}: lacks {', '.join(missing)}; has {shown or 'nothing'}"


def find_tree(
    dataset: str, root: Path, spellings: Iterable[str], names: Sequence[str], note: str = "", advice: str = ""
) -> Path:
    """Return the first of the spellings below ``root``, or below its folder ``dataset``, that has all that is named.

    Raises DataError with all that were tried, with ``note``, a line on layouts that are not read, and with ``advice``:
    by default to render a stand-in by the synthesizer with the name of the dataset.
    """
    tried = []
    added = [root / dataset] if (root / dataset).is_dir() else []  # as `reidbench data add` names it
    for place in dict.fromkeys(above / spelling for above in (root, *added) for spelling in spellings):
        if not (line := lacking(place, names)):
            return place
        tried.append(line)
    raise DataError(
        f"{dataset}: found no folder with {', '.join(names)}; tried\n  "
        + "\n  ".join([*tried, *filter(None, [note])])
        + "\nName the folder with the unpacked archives as the data root (--data-root, REIDBENCH_DATA), or "
        + (advice or f"render a stand-in: reidbench data synthesize {dataset} DIR")
    )


def expected_counts(
    tree: Path, published: Mapping[str, int], counts_of: Callable[[Any], dict[str, int]]
) -> dict[str, int]:
    """Return the published counts, or for a stand-in those that ``counts_of`` reads from its STANDIN.json.

    Raises DataError where that file cannot be read or does not give the same counts.
    """
    file = tree / CARD
    if not file.exists():
        return dict(published)
    try:
        counts = counts_of(parse_json(read_text(file), str(file)))
        if counts.keys() == published.keys() and all(type(count) is int for count in counts.values()):
            return counts
        reason = f"expected whole numbers for {', '.join(published)}"
    except (DataError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error)
    raise DataError(f"{file}: cannot read the stand-in's counts: {reason}; render it again into another folder")


def says_standin(tree: Path) -> bool:
    """Return whether a tree says that it is a stand-in."""
    return (tree / CARD).exists()


def checked_split(
    parts: tuple[Samples, Samples, Samples],
    published: Mapping[str, int],
    counts_of: Callable[[Any], dict[str, int]] = lambda card: dict(card["counts"]),
    holdout: float = 0,
    holdout_seed: int = 0,
    ignored: Mapping[str, int] | None = None,
) -> Split:
    """Return the split of training images, queries and gallery, or of held-out training identities.

    It expects the published counts, or those that ``counts_of`` reads from the STANDIN.json of a stand-in, which it is
    then marked as; a held-out part expects their number of training images. Raises as ``expected_counts``.
    """
    train, query, gallery = parts
    expected = expected_counts(train.root, published, counts_of)
    split = Split(train, query, gallery, expected)
    if holdout:
        split = hold_out(train, holdout, holdout_seed)
        split = replace(split, expected={ALL_TRAIN: expected["train"]}, further={ALL_TRAIN: len(train)})
    return replace(split, ignored=dict(ignored or {}), standin=says_standin(train.root))


class WithUnlabelled(Samples):
    """Training units, then units without identity; folders do not enter the digest, since names of trees differ."""

    def __add__(self, other: Samples) -> Samples:
        return super().__add__(_below(self.root, other))

    def take(self, units: IntArray) -> WithUnlabelled:
        return _as_unlabelled(super().take(units))

    @cached_property
    def digest(self) -> str:
        """The sha256 (hex) of base names, byte sizes, pids, cams and starts; raises DataError for a missing file."""
        digest = hashlib.sha256()
        for name, size in zip(self.images.tolist(), self.file_stats[:, 0].tolist(), strict=True):
            digest.update(f"{name.rpartition('/')[2]}\0{size}\n".encode())
        for array in (self.pids, self.cams, self.starts):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return digest.hexdigest()


def with_unlabelled(split: Split, root: Path, folder: str | None, count: int | None, owner: str) -> Split:
    """Return a split whose training set has the first ``count`` images by name, or all, of a folder below ``root``.

    They have pid and camera 0 and follow the training units; a learned metric is fitted without them. Raises
    OptionError, naming ``owner``, for a folder that is not below the root and a count out of range, DataError where
    the folder is missing or has fewer images.
    """
    if folder is None and count is None:
        return split
    path = PurePosixPath(folder or "")
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise OptionError(f"{owner}: option unlabelled: expected a folder below the data root, got {folder or 'none'}")
    if count is not None and count < 1:
        raise OptionError(f"{owner}: option unlabelled_images: expected 1 or more, or none for all, got {count}")
    if not (root / path).is_dir():
        raise DataError(
            f"{owner}: option unlabelled: no such folder {root / path}; generate its images with: "
            f"reidbench data synthesize dcgan {root / path}"
        )
    files = sorted(file.relative_to(root).as_posix() for file in (root / path).rglob("*") if _is_image(file))
    if len(files) < (count or 1):
        raise DataError(f"{root / path}: expected {count or 1:,} images or more, found {len(files):,}")
    files = files[:count]
    others = Samples.of_images(root, files, [0] * len(files), [0] * len(files))
    return replace(split, train=_as_unlabelled(_below(root, split.train) + others))


def dataset_spec(name: str, options: str, folder: str | None, count: int | None) -> str:
    """Return the spec of a dataset with ``options`` and those of ``with_unlabelled`` that are given."""
    given = {"unlabelled": folder, "unlabelled_images": count}
    texts = [f"{option}={json.dumps(value)}" for option, value in given.items() if value is not None]
    joined = ", ".join(filter(None, [options, *texts]))
    return f"{name}({joined})" if joined else name


def _as_unlabelled(samples: Samples) -> WithUnlabelled:
    return WithUnlabelled(samples.root, samples.images, samples.pids, samples.cams, samples.starts)


def _below(root: Path, samples: Samples) -> Samples:
    """Return units with paths relative to ``root``, their own root or a folder above it."""
    if samples.root == root:
        return samples
    images = np.char.add(f"{samples.root.relative_to(root).as_posix()}/", samples.images)
    return Samples(root, images, samples.pids, samples.cams, samples.starts)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
