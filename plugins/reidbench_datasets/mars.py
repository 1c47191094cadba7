"""MARS, tracklet to tracklet, from its official tree and track tables, with its three protocols."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reidbench import DataError, IntArray, OptionError, Samples, Split, hold_out, hookimpl
from reidbench_datasets.mars_protocols import (
    Frames,
    mars_protocol,
    mars_torchreid_gallery_protocol,
    mars_val_protocol,
)
from reidbench_datasets.standin_tree import CARD

TRAIN, TEST = "bbox_train", "bbox_test"
TRAIN_LIST, TEST_LIST = "train_name.txt", "test_name.txt"
TRAIN_TRACKS, TEST_TRACKS, QUERIES = "tracks_train_info.mat", "tracks_test_info.mat", "query_IDX.mat"
INFO = (TRAIN_LIST, TEST_LIST, TRAIN_TRACKS, TEST_TRACKS, QUERIES)

# Where people keep the tree below their data root. The lists and tables come with the evaluation code, not with the
# images, so they are looked for in both places.
SPELLINGS = (".", "mars", "MARS", "Mars", "MARS-v160809", "mars/MARS-v160809")
INFO_SPELLINGS = ("info", "MARS-evaluation/info", "MARS-evaluation-master/info", "../MARS-evaluation/info")

# pid, camera, tracklet, frame. Tracklets are numbered for each pid, with gaps; 00-1 is junk, 0000 a distractor.
NAME = re.compile(r"(?:00-1|[0-9]{4})C[1-6]T[0-9]{4}F[0-9]{3}\.jpg")
WHO, TRACKLET = 6, 11  # characters of a name that say pid and camera, and these and the tracklet

PUBLISHED = {
    "train": 509914,
    "train_identities": 625,
    "query": 114493,
    "query_identities": 626,
    "gallery": 681089,
    "junk": 870,
    "distractors": 3248,
    "cameras": 6,
}

PUBLISHED_TRACKLETS = {"train_tracklets": 8298, "query_tracklets": 1980, "gallery_tracklets": 12180}

Gallery = Literal["all", "torchreid"]


class Tracklets(Samples):
    """Samples that are recognised by what the published tables say of the images: each one's identity and camera.

    The tables say neither the tracklets' numbers nor, therefore, whole names.
    """

    def __post_init__(self) -> None:
        # Names, places and rows were checked against each other where they were read; a look at each of a million
        # paths, for every part again, would take longer than all the rest.
        pass

    @cached_property
    def name_digest(self) -> str:
        """The sha256 (hex) of the images' identities and cameras as names write them (0001C1), sorted, one a line."""
        who, counts = np.unique([name.rpartition("/")[2][:WHO] for name in self.images.tolist()], return_counts=True)
        digest = hashlib.sha256()
        for text, count in zip(who.tolist(), counts.tolist(), strict=True):
            digest.update(f"{text}\n".encode() * count)
        return digest.hexdigest()

    def __add__(self, other: Samples) -> Tracklets:
        return _marked(super().__add__(other))

    def take(self, units: IntArray) -> Tracklets:
        return _marked(super().take(units))


def _marked(samples: Samples) -> Tracklets:
    return Tracklets(samples.root, samples.images, samples.pids, samples.cams, samples.starts)


def mars(
    root: Path,
    *,
    frames: Frames = "per_identity",
    gallery: Gallery = "all",
    holdout: int = 0,
    holdout_seed: int = 0,
) -> Split:
    """MARS (Zheng et al. 2016): tracklets of 1,261 people seen by six cameras, 1,191,003 images in all.

    Options:
        frames: what a training unit is: per_identity one frame, per_tracklet one tracklet.
        gallery: all test tracklets, or those that torchreid searches: without the queries and without junk.
        holdout: how many of the training identities are asked and searched instead of the test identities.
        holdout_seed: the seed that draws these identities.

    A unit that is asked or searched is a whole tracklet. The images' names are read from the lists of ``info`` and no
    folder is listed; units and queries are those of the official tables, in their order. A recipe's K units of a person
    are K of the person's frames, whatever the tracklet, or one frame of each of K tracklets. ``expected`` are the
    published counts, or those of the tree's own STANDIN.json where it was drawn; a held-out part has none.
    A learned metric is fitted on the training tracklets, each pooled as those of the test are.
    Raises DataError where there is no tree, where lists and tables are missing or contradict each other, or where
    nothing is left to train on; OptionError for a negative holdout.
    Source: the MARS-evaluation code (test_mars.m) of its authors; Hermans et al. 2017, section 3.5, for training.
    """
    if holdout < 0:
        raise OptionError(f"mars: option holdout: expected a number of identities, got {holdout}")
    tree, info = _find(root)
    train = _part(tree, TRAIN, info, TRAIN_LIST, TRAIN_TRACKS, "track_train_info")
    if holdout:
        return _held_out(train, holdout, holdout_seed, frames)
    test = _part(tree, TEST, info, TEST_LIST, TEST_TRACKS, "track_test_info")
    asked = _queries(info / QUERIES, test)
    expected = _expected(tree)
    query, searched = test.take(asked), test
    if gallery == "torchreid":
        searched = test.take(np.setdiff1d(np.flatnonzero(test.pids >= 0), asked))
        del expected["gallery"], expected["gallery_tracklets"]
        expected["junk"] = 0
    further = _tracklets(train, query, searched)
    return Split(_units(train, frames), query, searched, expected=expected, further=further, fit=train)


def _held_out(train: Tracklets, holdout: int, seed: int, frames: Frames) -> Split:
    identities = len(np.unique(train.pids))
    if holdout >= identities:
        raise DataError(
            f"{train.root}: holding out {holdout} of {identities} training identities leaves none to train on; "
            f'hold out fewer, e.g. "mars_val(holdout={max(1, identities * 150 // 625)})"'
        )
    split = hold_out(train, holdout / identities, seed)
    known = _marked(split.train)
    return replace(split, train=_units(known, frames), fit=known, further=_tracklets(known, split.query, split.gallery))


def _tracklets(train: Samples, query: Samples, gallery: Samples) -> dict[str, int]:
    return dict(zip(PUBLISHED_TRACKLETS, map(len, (train, query, gallery)), strict=True))


def _units(tracklets: Tracklets, frames: Frames) -> Tracklets:
    """Return the units to train on: the tracklets, or each of their frames alone."""
    if frames == "per_tracklet":
        return tracklets
    lengths = np.diff(tracklets.starts)
    return Tracklets(
        root=tracklets.root,
        images=tracklets.images,
        pids=np.repeat(tracklets.pids, lengths),
        cams=np.repeat(tracklets.cams, lengths),
        starts=np.arange(len(tracklets.images) + 1, dtype=np.int64),
    )


def _find(root: Path) -> tuple[Path, Path]:
    """Return the folder that holds the tree and that of its lists and tables; raises DataError with all places."""
    tried = []
    for spelling in SPELLINGS:
        tree = root / spelling
        if missing := [folder for folder in (TRAIN, TEST) if not (tree / folder).is_dir()]:
            tried.append(f"{tree}: " + (f"lacks {', '.join(missing)}" if tree.is_dir() else "is no folder"))
            continue
        for place in INFO_SPELLINGS:
            info = tree / place
            missing = [name for name in INFO if not (info / name).is_file()]
            if not missing:
                return tree, info
            tried.append(f"{info}: " + (f"lacks {', '.join(missing)}" if info.is_dir() else "is no folder"))
        raise DataError(
            f"mars: the images are in {tree}, but their name lists and track tables are not; tried\n  "
            + "\n  ".join(tried[-len(INFO_SPELLINGS) :])
            + f"\nPut the folder info of the authors' MARS-evaluation beside {TRAIN}; a stand-in that was broken off "
            f"is finished by: reidbench data synthesize mars {tree}"
        )
    raise DataError(
        f"mars: no tree with the folders {TRAIN}, {TEST} was found; tried\n  "
        + "\n  ".join(tried)
        + "\nName the folder that the archives were unpacked into as the data root (--data-root, REIDBENCH_DATA), or "
        "draw a stand-in: reidbench data synthesize mars DIR"
    )


def _part(tree: Path, folder: str, info: Path, names: str, tracks: str, key: str) -> Tracklets:
    """Return the tracklets of one part, in the order of its table."""
    nested = tree / folder / folder
    return tracklets(
        nested if nested.is_dir() else tree / folder, info / names, info / tracks, read_mat(info / tracks, key)
    )


def tracklets(root: Path, names_file: Path, tracks_file: Path, table: IntArray) -> Tracklets:
    """Return the tracklets [n] of a track table [n, 4]: first and last place in the list, from 1, pid, camera.

    Raises DataError where names or rows are malformed, or where the two files contradict each other.
    """
    names = _read_names(names_file)
    if table.ndim != 2 or table.shape[1:] != (4,) or not len(table):
        raise DataError(f"{tracks_file}: expected a table of 4 columns (first, last, pid, camera), got {table.shape}")
    first, last, pids, cams = table.T.astype(np.int64)
    ends = np.concatenate([[0], last])
    if wrong := np.flatnonzero((first != ends[:-1] + 1) | (last < first)).tolist():
        raise DataError(
            f"{tracks_file}: row {wrong[0] + 1} is the images {first[wrong[0]]} to {last[wrong[0]]}, expected an image "
            f"or more from {ends[wrong[0]] + 1} on, where the row before ends; fetch the official table again"
        )
    if ends[-1] != len(names):
        raise DataError(
            f"{tracks_file}: covers {ends[-1]:,} images, but {names_file} lists {len(names):,}; fetch both again"
        )
    listed = np.array(names, dtype=np.str_)
    said = [f"{'00-1' if pid == -1 else f'{pid:04d}'}C{cam}" for pid, cam in zip(pids, cams, strict=True)]
    # Each name must begin as its row says, and as its tracklet's first name does.
    begun = listed[first - 1].astype(f"<U{TRACKLET}")
    starts = np.where(begun.astype(f"<U{WHO}") == np.array(said), begun, "")
    if wrong := np.flatnonzero(listed.astype(f"<U{TRACKLET}") != np.repeat(starts, last - first + 1)).tolist():
        row = int(np.searchsorted(last, wrong[0] + 1))
        raise DataError(
            f"{names_file}: line {wrong[0] + 1}: {names[wrong[0]]} is no image of one tracklet {said[row]}T…, which "
            f"row {row + 1} of {tracks_file} makes it; fetch both again, or restore the list's order"
        )
    images = np.array([f"{name[:4]}/{name}" for name in names], dtype=np.str_)
    return Tracklets(root, images, pids, cams, ends)


def _read_names(file: Path) -> list[str]:
    try:
        names = file.read_text(encoding="ascii").split()
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    for line, name in enumerate(names, start=1):
        if not NAME.fullmatch(name):
            raise DataError(
                f"{file}: line {line}: {name[:80]!r} is not named like an image of MARS (0001C1T0001F001.jpg)"
            )
    return names


def read_mat(file: Path, key: str) -> IntArray:
    """Return one table of whole numbers from a MATLAB file; raises DataError where there is no such table."""
    from scipy.io import loadmat  # noqa: PLC0415, it would be loaded with every listing of plugins

    try:
        table = loadmat(file)[key]
    except Exception as error:  # damaged bytes make the reader raise anything
        raise DataError(f"{file}: has no table {key} that can be read: {error!r}") from None
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "iuf" or (table % 1 != 0).any():
        raise DataError(f"{file}: {key} must be whole numbers; fetch the official table again")
    return table.astype(np.int64)


def _queries(file: Path, test: Tracklets) -> IntArray:
    """Return the queries, as places among the test tracklets, in the file's order."""
    asked = read_mat(file, "query_IDX").ravel() - 1
    inside = (asked >= 0) & (asked < len(test))
    if not len(asked) or not inside.all() or len(np.unique(asked)) != len(asked) or (test.pids[asked] < 1).any():
        raise DataError(
            f"{file}: expected different numbers from 1 to {len(test)}, each of a tracklet that is neither junk nor a "
            f"distractor in {TEST_TRACKS}; fetch the official files again"
        )
    return asked


def _expected(tree: Path) -> dict[str, int]:
    card = tree / CARD
    if not card.exists():
        return PUBLISHED | PUBLISHED_TRACKLETS
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
        counts = content["counts"] | {f"{part}_tracklets": count for part, count in content["tracklets"].items()}
        if set(counts) == {*PUBLISHED, *PUBLISHED_TRACKLETS} and all(type(count) is int for count in counts.values()):
            return dict(counts)
        reason = f"its counts are not whole numbers for {', '.join([*PUBLISHED, *PUBLISHED_TRACKLETS])}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error)
    raise DataError(f"{card}: does not say what the stand-in should hold: {reason}; draw it again into another folder")


@hookimpl
def register_datasets() -> Mapping[str, Callable[..., Any]]:
    return {"mars": mars}


@hookimpl
def register_protocols() -> Mapping[str, Callable[..., Any]]:
    return {
        "mars": mars_protocol,
        "mars_torchreid_gallery": mars_torchreid_gallery_protocol,
        "mars_val": mars_val_protocol,
    }
