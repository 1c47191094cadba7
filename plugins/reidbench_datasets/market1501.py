"""Market-1501 from its official tree: single and multi-query, with and without the 500,000 distractors."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reidbench import DataError, OptionError, Samples, Split, hold_out, hookimpl, stream
from reidbench_datasets.market1501_protocols import (
    market1501_500k_protocol,
    market1501_multiquery_protocol,
    market1501_protocol,
    market1501_val_protocol,
)
from reidbench_datasets.standin_tree import CARD

TRAIN, QUERY, GALLERY = FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
HAND_DRAWN, EXTRA = "gt_bbox", "images"

# Where people keep the tree below their data root: as unpacked, and as the loaders in use ask for it.
SPELLINGS = (
    ".",
    "Market-1501-v15.09.15",
    "market1501",
    "market1501/Market-1501-v15.09.15",
    "Market-1501",
    "Market",
)

# pid, camera, sequence, frame, box. 24 files of the official tree do end in .jpg.jpg.
NAME = re.compile(r"(-1|[0-9]{4})_c([1-6])s[0-9]+_[0-9]{6}_[0-9]{2}\.jpg(?:\.jpg)?")

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

# How many images the folders hold of which only a part is drawn or pooled.
PUBLISHED_FOLDERS = {HAND_DRAWN: 25259, EXTRA: 500_000}

NO_CAMERA = 0

Queries = Literal["single", "multi"]


class WithDistractors(Samples):
    """A gallery that distractors have joined: it is recognised by its own names, since theirs are published nowhere."""

    @cached_property
    def name_digest(self) -> str:
        """The sha256 (hex) of the sorted base names of the gallery's own images, one a line."""
        joined = np.char.startswith(self.images, f"{EXTRA}/")
        return Samples.take(self, np.flatnonzero(~joined)).name_digest


def market1501(
    root: Path,
    *,
    holdout: float = 0.0,
    holdout_seed: int = 0,
    queries: Queries = "single",
    distractors: int = 0,
    distractors_seed: int = 0,
) -> Split:
    """Market-1501 (Zheng et al. 2015): 1,501 people seen by six cameras, from its official folders.

    Options:
        holdout: the fraction of the training identities that is asked and searched instead of the test identities.
        holdout_seed: the seed that draws these identities.
        queries: single, or multi: each query is all images of gt_bbox that show its identity in its camera.
        distractors: how many of the 500,000 further images in the folder images join the gallery.
        distractors_seed: the seed of the order in which they join; fewer are always the first of more.

    The tree (bounding_box_train, query, bounding_box_test) is the root itself or lies below it as one of SPELLINGS; the
    first that is there counts. Pid and camera are read from a file's base name alone; junk (-1) and distractors (0000)
    stay in the gallery; images are in the order of their names. ``expected`` are the published counts, or those of the
    tree's own STANDIN.json where it was drawn; a held-out part has none. Whatever is not named like an image of
    Market-1501 is passed over and counted in ``ignored``.
    Multi-query has as many queries, in the same order, as single query; a unit does not hold the query's own file but
    the images of gt_bbox alone. Distractors stand behind the gallery; their pid is 0 and their camera 0 whatever their
    names say, since nothing depends on the camera of an image that is nobody's match.
    Raises DataError where there is no tree, a folder of it cannot be used, a query has no image in gt_bbox, or there
    are fewer distractors; OptionError for values out of range or that do not go together.
    """
    _check(holdout, queries, distractors)
    tree = _find(root)
    ignored: Counter[str] = Counter()
    train = _samples(tree, TRAIN, ignored)
    if holdout:
        return replace(hold_out(train, holdout, holdout_seed), ignored=dict(ignored))
    query, gallery = (_samples(tree, folder, ignored) for folder in (QUERY, GALLERY))
    expected, folders = _expected(tree)
    further = {}
    if queries == "multi":
        boxes = _samples(tree, HAND_DRAWN, ignored)
        # How many images are pooled is published nowhere: that both folders are whole is what can be checked.
        expected |= {"queries": expected.pop("query"), HAND_DRAWN: folders[HAND_DRAWN]}
        further |= {"queries": len(query), HAND_DRAWN: len(boxes)}
        query = multi_query(query, boxes)
    if distractors:
        names = _distractor_names(tree, ignored)
        expected |= {name: expected[name] + distractors for name in ("gallery", "distractors")}
        expected |= {"cameras": expected["cameras"] + 1, EXTRA: folders[EXTRA]}
        further[EXTRA] = len(names)
        gallery = _with_distractors(gallery, names, distractors, distractors_seed)
    return Split(train, query, gallery, expected, dict(ignored), further)


def _check(holdout: float, queries: Queries, distractors: int) -> None:
    if not 0 <= holdout < 1:
        raise OptionError(f"market1501: option holdout: expected a fraction from 0 to below 1, got {holdout:g}")
    if distractors < 0:
        raise OptionError(f"market1501: option distractors: expected 0 or more, got {distractors}")
    if holdout and (queries != "single" or distractors):
        raise OptionError(
            f"market1501: a held-out part of the training identities has single queries and no distractors, got "
            f"holdout={holdout:g}, queries={queries}, distractors={distractors}; leave the last two away, or holdout"
        )


def _find(root: Path) -> Path:
    """Return the folder that holds the tree; raises DataError with every place that was looked at."""
    tried = []
    for spelling in SPELLINGS:
        tree = root / spelling
        missing = [folder for folder in FOLDERS if not (tree / folder).is_dir()]
        if not missing:
            return tree
        tried.append(f"{tree}: " + (f"lacks {', '.join(missing)}" if tree.is_dir() else "is no folder"))
    raise DataError(
        f"market1501: no tree with the folders {', '.join(FOLDERS)} was found; tried\n  "
        + "\n  ".join(tried)
        + "\nName the folder that the archive was unpacked into as the data root (--data-root, REIDBENCH_DATA), or "
        "draw a stand-in: reidbench data synthesize market1501 DIR"
    )


def _samples(tree: Path, folder: str, ignored: Counter[str]) -> Samples:
    samples, strays = named(tree, folder, _entries(tree, folder))
    ignored.update(_kind(folder, name) for name in strays)
    return samples


def _entries(tree: Path, folder: str) -> list[str]:
    try:
        return os.listdir(tree / folder)  # noqa: PTH208, a Path for each of 20,000 names would double the time
    except OSError as error:
        advice = {
            HAND_DRAWN: "multi-query needs this folder of the archive; unpack it again, or ask single queries",
            EXTRA: "distractors need this folder, which distractors_500k.zip unpacks into; put it there",
        }
        hint = f"; {advice[folder]}" if folder in advice else ""
        raise DataError(f"{tree / folder}: cannot be read: {error.strerror}{hint}") from None


def named(tree: Path, folder: str, entries: Iterable[str]) -> tuple[Samples, list[str]]:
    """Return the images among the entries of one folder, and the names of the other entries, both by name.

    Raises DataError where there is no image, or where junk or distractors stand among the training images or queries.
    """
    images, strays = [], []
    for name in sorted(entries):
        if match := NAME.fullmatch(name):
            images.append((name, int(match[1]), int(match[2])))
        else:
            strays.append(name)
    if not images:
        raise DataError(
            f"{tree / folder}: holds no image that is named like those of Market-1501 (0002_c1s1_000451_03.jpg), among "
            f"{len(strays)} entries{f', the first is {strays[0]}' if strays else ''}; unpack the archive again"
        )
    strangers = [name for name, pid, _ in images if pid < 1]
    if folder in (TRAIN, QUERY) and strangers:
        raise DataError(
            f"{tree / folder}: holds {len(strangers)} junk or distractor images (pid -1 or 0000), the first is "
            f"{strangers[0]}; they belong into {GALLERY}"
        )
    names, pids, cams = zip(*images, strict=True)
    return Samples.of_images(tree, (f"{folder}/{name}" for name in names), pids, cams), strays


def multi_query(query: Samples, boxes: Samples) -> Samples:
    """Return for each query, in the same order, one unit of all boxes of its identity in its camera.

    Raises DataError where a query has no such box.
    """
    places = defaultdict(list)
    for place, visit in enumerate(zip(boxes.pids.tolist(), boxes.cams.tolist(), strict=True)):
        places[visit].append(place)
    owned = [places[visit] for visit in zip(query.pids.tolist(), query.cams.tolist(), strict=True)]
    bare = [number for number, found in enumerate(owned) if not found]
    if bare:
        raise DataError(
            f"{query.root / HAND_DRAWN}: {len(bare)} of {len(query)} queries have no image there, the first is "
            f"{query.images[bare[0]]} (identity {query.pids[bare[0]]}, camera {query.cams[bare[0]]}); unpack the "
            "archive again, or ask single queries"
        )
    starts = np.cumsum([0, *map(len, owned)], dtype=np.int64)
    return Samples(query.root, boxes.images[np.concatenate(owned)], query.pids, query.cams, starts)


def _distractor_names(tree: Path, ignored: Counter[str]) -> list[str]:
    """Return the base names of all JPEG files in the folder of further distractors, by name."""
    images = []
    for name in sorted(_entries(tree, EXTRA)):
        if name.endswith(".jpg") and not name.startswith("."):
            images.append(name)
        else:
            ignored[_kind(EXTRA, name)] += 1
    return images


def _with_distractors(gallery: Samples, names: list[str], count: int, seed: int) -> Samples:
    """Return the gallery and behind it the first ``count`` of the named distractors, in the order of ``seed``.

    Raises DataError where there are fewer.
    """
    if len(names) < count:
        raise DataError(
            f"{gallery.root / EXTRA}: {count:,} distractors are asked for, {len(names):,} images are there; unpack "
            f"distractors_500k.zip again, or ask for at most {len(names):,}"
        )
    # numpy promises that the raw numbers stay the same for ever, of its own shuffling it does not.
    drawn = stream(seed, "market1501", "distractors").bit_generator.random_raw(len(names))
    order = np.argsort(drawn, kind="stable")[:count].tolist()
    # Made at once, since every image's name is checked whenever samples are made.
    return WithDistractors.of_images(
        gallery.root,
        [*gallery.images.tolist(), *(f"{EXTRA}/{names[place]}" for place in order)],
        [*gallery.pids.tolist(), *[0] * count],
        [*gallery.cams.tolist(), *[NO_CAMERA] * count],
    )


def _kind(folder: str, name: str) -> str:
    """Return the name under which a stray is counted: hidden files and others of one suffix stand together."""
    if name.startswith("."):
        return f"{folder}/.*"
    suffix = Path(name).suffix
    return f"{folder}/*{suffix}" if suffix else f"{folder}/{name}"


def _expected(tree: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Return the counts that the tree should have, and how many images the folders of PUBLISHED_FOLDERS should hold."""
    card = tree / CARD
    if not card.exists():
        return dict(PUBLISHED), dict(PUBLISHED_FOLDERS)
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
        counts, images = content["counts"], content.get("images", {})
        folders = {folder: images.get(folder, 0) for folder in PUBLISHED_FOLDERS}
        if set(counts) == set(PUBLISHED) and all(type(count) is int for count in (counts | folders).values()):
            return dict(counts), folders
        reason = f"its counts are not whole numbers for {', '.join(PUBLISHED)}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error)
    raise DataError(f"{card}: does not say what the stand-in should hold: {reason}; draw it again into another folder")


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
