"""MARS, tracklet to tracklet, from its official folders and track tables, with its three protocols."""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from reidbench import DataError, File, IntArray, LaterOption, OptionError, Samples, Split, hold_out, hookimpl, read_text
from reidbench_datasets.dataset_trees import expected_counts, find_tree, lacking, says_standin
from reidbench_datasets.key_frames import base_names, even_frames, listed_frames
from reidbench_datasets.mars_protocols import (
    Frames,
    mars_protocol,
    mars_torchreid_gallery_protocol,
    mars_val_protocol,
)

TRAIN, TEST = "bbox_train", "bbox_test"
TRAIN_LIST, TEST_LIST = "train_name.txt", "test_name.txt"
TRAIN_TRACKS, TEST_TRACKS, QUERIES = "tracks_train_info.mat", "tracks_test_info.mat", "query_IDX.mat"
INFO = (TRAIN_LIST, TEST_LIST, TRAIN_TRACKS, TEST_TRACKS, QUERIES)

# Where the tree may be below the data root, and where its lists and tables may be: they come with the evaluation code.
SPELLINGS = (".", "mars", "MARS", "Mars", "MARS-v160809", "mars/MARS-v160809")
INFO_SPELLINGS = ("info", "MARS-evaluation/info", "MARS-evaluation-master/info", "../MARS-evaluation/info")

# pid, camera, tracklet, frame. Tracklets are numbered for each pid, with gaps; 00-1 is junk, 0000 a distractor.
NAME = re.compile(r"(?:00-1|[0-9]{4})C[1-6]T[0-9]{4}F[0-9]{3}\.jpg")
PID_CAMERA, TRACKLET = 6, 11  # length of a name's prefix with pid and camera, and of that with the tracklet too

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


@dataclass(frozen=True, eq=False)
class Tracklets(Samples):
    """Samples identified by the identity and camera of each image, or of the ``whole`` tracklets of key frames.

    The published tables do not have the tracklets' numbers, so they do not determine whole names.
    """

    whole: Tracklets | None = None

    def __post_init__(self) -> None:
        # Skips the checks of Samples: names and rows were checked where they were read, and checking a million paths
        # again for every part would take longer than everything else.
        pass

    @cached_property
    def name_digest(self) -> str:
        """The sha256 (hex) of the images' identities and cameras as names write them (0001C1), sorted, one a line."""
        if self.whole is not None:
            return self.whole.name_digest
        base_names = (name.rpartition("/")[2] for name in self.images.tolist())
        prefixes, counts = np.unique([name[:PID_CAMERA] for name in base_names], return_counts=True)
        digest = hashlib.sha256()
        for prefix, count in zip(prefixes.tolist(), counts.tolist(), strict=True):
            digest.update(f"{prefix}\n".encode() * count)
        return digest.hexdigest()

    def __add__(self, other: Samples) -> Tracklets:
        return _as_tracklets(super().__add__(other))

    def take(self, units: IntArray) -> Tracklets:
        return _as_tracklets(super().take(units))


def _as_tracklets(samples: Samples) -> Tracklets:
    return Tracklets(samples.root, samples.images, samples.pids, samples.cams, samples.starts)


def mars(
    root: Path,
    *,
    frames: Frames = "per_identity",
    gallery: Gallery = "all",
    holdout: int = 0,
    holdout_seed: int = 0,
    key_frames: Annotated[int, LaterOption] = 0,
    cycles: Annotated[File | None, LaterOption] = None,
) -> Split:
    """MARS (Zheng et al. 2016): tracklets of 1,261 identities seen by six cameras, 1,191,003 images in all.

    Options:
        frames: training unit: per_identity one frame, per_tracklet one tracklet.
        gallery: all test tracklets, or torchreid's gallery: without the queries and without junk.
        holdout: number of training identities held out as query and gallery, instead of the test identities.
        holdout_seed: seed of the choice of held-out identities.
        key_frames: number of evenly spaced frames that a tracklet is reduced to in every part; 0 for all its frames.
        cycles: list of key frames of a walking cycle, which replace them; see the synthesizer mars_cycles.

    Owner: https://zheng-lab.cecs.anu.edu.au/Project/project_mars.html
    Terms: research only

    A query or gallery unit is a whole tracklet. Image names are read from the lists in ``info``; no folder is listed.
    Units and queries are those of the official tables, in their order. A recipe's K units of an identity are K of its
    frames, of any tracklets, or one frame of each of K tracklets. ``expected`` are the published counts, or those in
    the STANDIN.json of a stand-in; a held-out part has none. A learned metric is fitted on the training tracklets,
    pooled as at test time.
    Raises DataError where folders, lists or tables are missing or contradict each other, or where no identity is left
    to train on; OptionError for a negative holdout.
    Source: the MARS-evaluation code (test_mars.m) of its authors; Hermans et al. 2017, section 3.5, for training.
    """
    for name, value in {"holdout": holdout, "key_frames": key_frames}.items():
        if value < 0:
            raise OptionError(f"mars: option {name}: expected 0 or more, got {value}")
    if cycles and not key_frames:
        raise OptionError("mars: option cycles: needs key_frames, for tracklets without a cycle; e.g. key_frames=4")
    listed = _read_names(cycles) if cycles else []
    tree, info = _find(root)
    train = _part(tree, TRAIN, info, TRAIN_LIST, TRAIN_TRACKS, "track_train_info")
    if cycles and not np.isin(base_names(train), listed).any():
        raise DataError(
            f"{cycles}: names no image of {train.root}; write it anew: reidbench data synthesize mars_cycles"
        )
    if holdout:
        train = _reduced(train, key_frames, listed)
        return replace(_held_out(train, holdout, holdout_seed, frames), standin=says_standin(tree))
    test = _part(tree, TEST, info, TEST_LIST, TEST_TRACKS, "track_test_info")
    query_rows = _query_rows(info / QUERIES, test)
    expected = expected_counts(tree, PUBLISHED | PUBLISHED_TRACKLETS, _counts_of)
    if key_frames:  # which are not counted
        expected = {name: count for name, count in expected.items() if name not in ("train", "query", "gallery")}
    query, gallery_tracklets = test.take(query_rows), test
    if gallery == "torchreid":
        gallery_tracklets = test.take(np.setdiff1d(np.flatnonzero(test.pids >= 0), query_rows))
        del expected["gallery"], expected["gallery_tracklets"]
        expected["junk"] = 0
    parts = [_reduced(part, key_frames, listed) for part in (train, query, gallery_tracklets)]
    further = _tracklet_counts(*parts)
    split = Split(_units(parts[0], frames), *parts[1:], expected=expected, further=further, fit=parts[0])
    return replace(split, standin=says_standin(tree))


def _held_out(train: Tracklets, holdout: int, seed: int, frames: Frames) -> Split:
    identities = len(np.unique(train.pids))
    if holdout >= identities:
        raise DataError(
            f"{train.root}: holding out {holdout} of {identities} training identities leaves none to train on; hold "
            f'out fewer, e.g. "mars_val(holdout={max(1, identities * 150 // 625)})"'
        )
    split = hold_out(train, holdout / identities, seed)
    remaining = _as_tracklets(split.train)
    further = _tracklet_counts(remaining, split.query, split.gallery)
    return replace(split, train=_units(remaining, frames), fit=remaining, further=further)


def _tracklet_counts(train: Samples, query: Samples, gallery: Samples) -> dict[str, int]:
    return dict(zip(PUBLISHED_TRACKLETS, map(len, (train, query, gallery)), strict=True))


def _reduced(tracklets: Tracklets, key_frames: int, listed: Sequence[str]) -> Tracklets:
    """Return the tracklets with their key frames alone."""
    if not key_frames:
        return tracklets
    even = even_frames(np.diff(tracklets.starts), key_frames)
    chosen = listed_frames(listed, tracklets, even) if listed else even
    images = np.concatenate(list(map(operator.add, tracklets.starts[:-1], chosen)))
    starts = np.cumsum([0, *map(len, chosen)], dtype=np.int64)
    return replace(tracklets, images=tracklets.images[images], starts=starts, whole=tracklets)


def _units(tracklets: Tracklets, frames: Frames) -> Tracklets:
    """Return the training units: the tracklets, or each of their frames."""
    if frames == "per_tracklet":
        return tracklets
    lengths = np.diff(tracklets.starts)
    return Tracklets(
        root=tracklets.root,
        images=tracklets.images,
        pids=np.repeat(tracklets.pids, lengths),
        cams=np.repeat(tracklets.cams, lengths),
        starts=np.arange(len(tracklets.images) + 1, dtype=np.int64),
        whole=tracklets.whole,
    )


def _find(root: Path) -> tuple[Path, Path]:
    """Return the folder of the images and that of lists and tables; raises DataError with all that were tried."""
    tree = find_tree("mars", root, SPELLINGS, (TRAIN, TEST))
    tried = []
    for place in INFO_SPELLINGS:
        if not (line := lacking(tree / place, INFO)):
            return tree, tree / place
        tried.append(line)
    raise DataError(
        f"mars: the images are in {tree}, but their name lists and track tables are not; tried\n  "
        + "\n  ".join(tried)
        + f"\nPut the folder info of the authors' MARS-evaluation beside {TRAIN}; complete an unfinished stand-in "
        f"with: reidbench data synthesize mars {tree}"
    )


def _part(tree: Path, folder: str, info: Path, names: str, tracks: str, key: str) -> Tracklets:
    """Return the tracklets of one part, in the order of its table."""
    nested = tree / folder / folder
    root = nested if nested.is_dir() else tree / folder
    return parse_tracklets(root, info / names, info / tracks, read_mat(info / tracks, key))


def parse_tracklets(root: Path, names_file: Path, tracks_file: Path, table: IntArray) -> Tracklets:
    """Return the tracklets [n] of a track table [n, 4]: first and last line in the list, from 1, pid, camera.

    Raises DataError where names or rows are malformed, or the two files contradict each other.
    """
    names = _read_names(names_file)
    if table.ndim != 2 or table.shape[1:] != (4,) or not len(table):
        raise DataError(f"{tracks_file}: expected a table of 4 columns (first, last, pid, camera), got {table.shape}")
    first, last, pids, cams = table.T.astype(np.int64)
    ends = np.concatenate([[0], last])
    if wrong := np.flatnonzero((first != ends[:-1] + 1) | (last < first)).tolist():
        raise DataError(
            f"{tracks_file}: row {wrong[0] + 1} has the images {first[wrong[0]]} to {last[wrong[0]]}, expected at "
            f"least one, from {ends[wrong[0]] + 1} on, where the previous row ends; download the official table again"
        )
    if ends[-1] != len(names):
        raise DataError(
            f"{tracks_file}: covers {ends[-1]:,} images, but {names_file} lists {len(names):,}; download both again"
        )
    listed = np.array(names, dtype=np.str_)
    prefixes = [f"{label(pid)}C{cam}" for pid, cam in zip(pids.tolist(), cams.tolist(), strict=True)]
    # Each name must begin with its row's pid and camera, and with the tracklet of its row's first name.
    first_names = listed[first - 1].astype(f"<U{TRACKLET}")
    starts = np.where(first_names.astype(f"<U{PID_CAMERA}") == np.array(prefixes), first_names, "")
    if wrong := np.flatnonzero(listed.astype(f"<U{TRACKLET}") != np.repeat(starts, last - first + 1)).tolist():
        row = int(np.searchsorted(last, wrong[0] + 1))
        raise DataError(
            f"{names_file}: line {wrong[0] + 1}: expected an image of one tracklet {prefixes[row]}T… by row {row + 1} "
            f"of {tracks_file}, found {names[wrong[0]]}; download both again, or restore the list's order"
        )
    images = np.array([f"{name[:4]}/{name}" for name in names], dtype=np.str_)
    return Tracklets(root, images, pids, cams, ends)


def label(pid: int) -> str:
    """Return a pid as image names write it."""
    return "00-1" if pid == -1 else f"{pid:04d}"


def _read_names(file: Path) -> list[str]:
    names = read_text(file).split()
    for line, name in enumerate(names, start=1):
        if not NAME.fullmatch(name):
            raise DataError(
                f"{file}: line {line}: {name[:80]!r} is not named like an image of MARS (0001C1T0001F001.jpg)"
            )
    return names


def read_mat(file: Path, key: str) -> IntArray:
    """Return one table of whole numbers from a MATLAB file; raises DataError where it has no such table."""
    from scipy.io import loadmat  # noqa: PLC0415, slow to import

    try:
        table = loadmat(file)[key]
    except Exception as error:  # scipy raises errors of any type for damaged files
        raise DataError(f"{file}: cannot read the table {key}: {error!r}") from None
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "iuf" or (table % 1 != 0).any():
        raise DataError(f"{file}: {key} must be whole numbers; download the official table again")
    return table.astype(np.int64)


def _query_rows(file: Path, test: Tracklets) -> IntArray:
    """Return the queries' rows among the test tracklets, in the file's order."""
    rows = read_mat(file, "query_IDX").ravel() - 1
    inside = (rows >= 0) & (rows < len(test))
    if not len(rows) or not inside.all() or len(np.unique(rows)) != len(rows) or (test.pids[rows] < 1).any():
        raise DataError(
            f"{file}: expected different numbers from 1 to {len(test)}, each of a tracklet that is neither junk nor a "
            f"distractor in {TEST_TRACKS}; download the official files again"
        )
    return rows


def _counts_of(card: Any) -> dict[str, int]:
    return card["counts"] | {f"{part}_tracklets": count for part, count in card["tracklets"].items()}


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
