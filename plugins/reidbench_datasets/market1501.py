"""Market-1501 from its official folders: single query and multi-query, with or without the 500,000 distractors."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reidbench import DataError, OptionError, Samples, Split, hold_out, hookimpl, stream
from reidbench_datasets.dataset_trees import (
    Unlabelled,
    UnlabelledImages,
    check_holdout,
    expected_counts,
    find_tree,
    says_standin,
    with_unlabelled,
)
from reidbench_datasets.market1501_protocols import (
    market1501_500k_protocol,
    market1501_multiquery_protocol,
    market1501_protocol,
    market1501_val_protocol,
)
from reidbench_datasets.named_images import Naming, folder_entries, image_folder, kind_of_skipped

TRAIN, QUERY, GALLERY = FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
HAND_DRAWN, EXTRA = "gt_bbox", "images"

# Where the tree may be below the data root: as unpacked, and as other loaders expect it.
SPELLINGS = (
    ".",
    "Market-1501-v15.09.15",
    "market1501",
    "market1501/Market-1501-v15.09.15",
    "Market-1501",
    "Market",
)

# pid, camera, sequence, frame, box. 24 official files end in .jpg.jpg.
NAME = re.compile(r"(-1|[0-9]{4})_c([1-6])s[0-9]+_[0-9]{6}_[0-9]{2}\.jpg(?:\.jpg)?")
NAMING = Naming("Market-1501", "0002_c1s1_000451_03.jpg", NAME)

PUBLISHED = {
    "train": 12936,
    "train_identities": 751,
    "query": 3368,
    "query_identities": 750,
    "gallery": 19732,
    "junk": 3819,
    "distractors": 2798,
    "cameras": 6,
}

# Numbers of images of the folders of which only a part is sampled or pooled.
PUBLISHED_FOLDERS = {HAND_DRAWN: 25259, EXTRA: 500_000}

ADVICE = {
    HAND_DRAWN: "multi-query needs this folder of the archive; unpack it again, or use queries=single",
    EXTRA: "distractors need this folder; unpack distractors_500k.zip there",
}

NO_CAMERA = 0

Queries = Literal["single", "multi"]


class WithDistractors(Samples):
    """A gallery with distractors; its own names identify it, since the distractors' names are not published."""

    @cached_property
    def name_digest(self) -> str:
        """The sha256 (hex) of the sorted base names of the gallery's own images, one a line."""
        added = np.char.startswith(self.images, f"{EXTRA}/")
        return Samples.take(self, np.flatnonzero(~added)).name_digest


def market1501(
    root: Path,
    *,
    holdout: float = 0.0,
    holdout_seed: int = 0,
    queries: Queries = "single",
    distractors: int = 0,
    distractors_seed: int = 0,
    unlabelled: Unlabelled = None,
    unlabelled_images: UnlabelledImages = None,
) -> Split:
    """Market-1501 (Zheng et al. 2015): 1,501 identities seen by six cameras, from its official folders.

    Options:
        holdout: fraction of the training identities held out as query and gallery, instead of the test identities.
        holdout_seed: seed of the choice of held-out identities.
        queries: single, or multi: each query is all images of its identity and camera in gt_bbox.
        distractors: number of the 500,000 further images, in the folder images, that are added to the gallery.
        distractors_seed: seed of their order; a smaller number takes the first ones of a larger.
        unlabelled: folder below the data root whose images join the training set without identity.
        unlabelled_images: number of them, the first by name; none for all.

    Owner: https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html
    Terms: research only

    The folders (bounding_box_train, query, bounding_box_test) are in the root or below it in the first of SPELLINGS
    that has them. Pid and camera are read from base names; junk (-1) and distractors (0000) stay in the gallery; images
    are sorted by name. ``expected`` are the published counts, or those in the STANDIN.json of a stand-in; a held-out
    part has none. Files that are not named like an image of Market-1501 are skipped and counted in ``ignored``.
    Multi-query has the queries of single query in the same order; a unit has the images of gt_bbox only, not the
    query's own file. Added distractors follow the gallery; their pid and camera are 0, whatever their names say, since
    the camera of a distractor has no effect.
    Raises DataError where folders are missing or cannot be used, a query has no image in gt_bbox, or there are too few
    distractors; OptionError for values that are out of range or contradict each other.
    """
    _check(holdout, queries, distractors)
    tree = find_tree("market1501", root, SPELLINGS, FOLDERS)
    ignored: Counter[str] = Counter()
    train = _samples(tree, TRAIN, ignored)
    if holdout:
        held_out = hold_out(train, holdout, holdout_seed)
        held_out = replace(held_out, ignored=dict(ignored), standin=says_standin(tree))
        return with_unlabelled(held_out, root, unlabelled, unlabelled_images, "market1501")
    query, gallery = (_samples(tree, folder, ignored) for folder in (QUERY, GALLERY))
    published = expected_counts(tree, PUBLISHED | PUBLISHED_FOLDERS, _counts_of)
    expected = {name: published[name] for name in PUBLISHED}
    further = {}
    if queries == "multi":
        boxes = _samples(tree, HAND_DRAWN, ignored)
        # The number of pooled images is not published; what can be checked is that both folders are complete.
        expected |= {"queries": expected.pop("query"), HAND_DRAWN: published[HAND_DRAWN]}
        further |= {"queries": len(query), HAND_DRAWN: len(boxes)}
        query = multi_query(query, boxes)
    if distractors:
        names = _distractor_names(tree, ignored)
        expected |= {name: expected[name] + distractors for name in ("gallery", "distractors")}
        expected |= {"cameras": expected["cameras"] + 1, EXTRA: published[EXTRA]}
        further[EXTRA] = len(names)
        gallery = add_distractors(gallery, names, distractors, distractors_seed)
    split = Split(train, query, gallery, expected, dict(ignored), further, standin=says_standin(tree))
    return with_unlabelled(split, root, unlabelled, unlabelled_images, "market1501")


def _check(holdout: float, queries: Queries, distractors: int) -> None:
    check_holdout("market1501", holdout)
    if distractors < 0:
        raise OptionError(f"market1501: option distractors: expected 0 or more, got {distractors}")
    if holdout and (queries != "single" or distractors):
        raise OptionError(
            f"market1501: held-out training identities have single queries and no distractors, got "
            f"holdout={holdout:g}, queries={queries}, distractors={distractors}; drop holdout or the other two"
        )


def _samples(tree: Path, folder: str, ignored: Counter[str]) -> Samples:
    gallery = GALLERY if folder in (TRAIN, QUERY) else ""
    return image_folder(tree, folder, NAMING, ignored, gallery, ADVICE.get(folder, ""))


def multi_query(query: Samples, boxes: Samples) -> Samples:
    """Return for each query, in the same order, one unit with all boxes of its identity and camera.

    Raises DataError where a query has no such box.
    """
    boxes_of = defaultdict(list)
    for box, pid_and_camera in enumerate(zip(boxes.pids.tolist(), boxes.cams.tolist(), strict=True)):
        boxes_of[pid_and_camera].append(box)
    units = [boxes_of[pid_and_camera] for pid_and_camera in zip(query.pids.tolist(), query.cams.tolist(), strict=True)]
    if empty := [number for number, unit in enumerate(units) if not unit]:
        raise DataError(
            f"{query.root / HAND_DRAWN}: {len(empty)} of {len(query)} queries have no image there, the first is "
            f"{query.images[empty[0]]} (identity {query.pids[empty[0]]}, camera {query.cams[empty[0]]}); unpack the "
            "archive again, or use queries=single"
        )
    starts = np.cumsum([0, *map(len, units)], dtype=np.int64)
    return Samples(query.root, boxes.images[np.concatenate(units)], query.pids, query.cams, starts)


def _distractor_names(tree: Path, ignored: Counter[str]) -> list[str]:
    """Return the base names of all JPEG files in the folder of further distractors, sorted."""
    images = []
    for name in sorted(folder_entries(tree / EXTRA, ADVICE[EXTRA])):
        if name.endswith(".jpg") and not name.startswith("."):
            images.append(name)
        else:
            ignored[kind_of_skipped(EXTRA, name)] += 1
    return images


def add_distractors(gallery: Samples, names: list[str], count: int, seed: int) -> Samples:
    """Return the gallery followed by the first ``count`` of the named distractors in the order of ``seed``.

    Raises DataError where there are fewer.
    """
    if len(names) < count:
        raise DataError(
            f"{gallery.root / EXTRA}: expected {count:,} distractors, found {len(names):,} images; unpack "
            f"distractors_500k.zip again, or use at most {len(names):,}"
        )
    # numpy guarantees a bit generator's raw numbers for all versions, but not its own shuffling.
    keys = stream(seed, "market1501", "distractors").bit_generator.random_raw(len(names))
    order = np.argsort(keys, kind="stable")[:count].tolist()
    # Built in one step, since Samples checks every name whenever it is built.
    return WithDistractors.of_images(
        gallery.root,
        [*gallery.images.tolist(), *(f"{EXTRA}/{names[index]}" for index in order)],
        [*gallery.pids.tolist(), *[0] * count],
        [*gallery.cams.tolist(), *[NO_CAMERA] * count],
    )


def _counts_of(card: Any) -> dict[str, int]:
    images = card.get("images", {})
    return card["counts"] | {folder: images.get(folder, 0) for folder in PUBLISHED_FOLDERS}


@hookimpl
def register_datasets() -> Mapping[str, Callable[..., Any]]:
    return {"market1501": market1501}


@hookimpl
def register_protocols() -> Mapping[str, Callable[..., Any]]:
    return {
        "market1501": market1501_protocol,
        "market1501_multiquery": market1501_multiquery_protocol,
        "market1501_500k": market1501_500k_protocol,
        "market1501_val": market1501_val_protocol,
    }
