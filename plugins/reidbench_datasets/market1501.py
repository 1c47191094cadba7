"""Market-1501 from its official tree, with its two protocols, and a drawn stand-in for who does not have it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from reidbench import DataError, OptionError, Protocol, Samples, Split, hold_out, hookimpl

TRAIN, QUERY, GALLERY = FOLDERS = ("bounding_box_train", "query", "bounding_box_test")

# Where people keep the tree below their data root: as unpacked, and as the loaders in use ask for it.
SPELLINGS = (
    ".",
    "Market-1501-v15.09.15",
    "market1501",
    "market1501/Market-1501-v15.09.15",
    "Market-1501",
    "Market",
)

# A drawn tree says in this file what it should hold.
CARD = "STANDIN.json"

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

# The sha256 of the sorted file names of the official tree, one a line.
TRAIN_NAMES = "98fca78ed7a1b36c34f3763b43b41bf8fd4124fe2c19b44ff48c8860e306a299"
QUERY_NAMES = "7d7433deabefac2a19b508089fc7893e76703fd3fb3395c2c2db3f3a2e8fc0ef"
GALLERY_NAMES = "6feef7b0b24679c2d9d111d76722def1b88a5742bc05db0cdfc7d1c2436c9cbd"

Views = Literal["original", "center", "center_flip", "five_crops", "five_crops_flip"]


def market1501(root: Path, *, holdout: float = 0.0, holdout_seed: int = 0) -> Split:
    """Market-1501 (Zheng et al. 2015): 1,501 people seen by six cameras, from its official folders.

    Options:
        holdout: the fraction of the training identities that is asked and searched instead of the test identities.
        holdout_seed: the seed that draws these identities.

    The tree (bounding_box_train, query, bounding_box_test) is the root itself or lies below it as one of SPELLINGS; the
    first that is there counts. Pid and camera are read from a file's base name alone; junk (-1) and distractors (0000)
    stay in the gallery; images are in the order of their names. ``expected`` are the published counts, or those of the
    tree's own STANDIN.json where it was drawn; a held-out part has none. Whatever is not named like an image of
    Market-1501 is passed over and counted in ``ignored``.
    Raises DataError where there is no tree or a folder of it cannot be used; OptionError for a fraction outside 0 to 1.
    """
    if not 0 <= holdout < 1:
        raise OptionError(f"market1501: option holdout: expected a fraction from 0 to below 1, got {holdout:g}")
    tree = _find(root)
    ignored: Counter[str] = Counter()
    train = _samples(tree, TRAIN, ignored)
    if holdout:
        return replace(hold_out(train, holdout, holdout_seed), ignored=dict(ignored))
    query, gallery = (_samples(tree, folder, ignored) for folder in (QUERY, GALLERY))
    return Split(train, query, gallery, expected=_expected(tree), ignored=dict(ignored))


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
    try:
        entries = os.listdir(tree / folder)  # noqa: PTH208, a Path for each of 20,000 names would double the time
    except OSError as error:
        raise DataError(f"{tree / folder}: cannot be read: {error.strerror}") from None
    samples, strays = named(tree, folder, entries)
    ignored.update(_kind(folder, name) for name in strays)
    return samples


def named(tree: Path, folder: str, entries: Iterable[str]) -> tuple[Samples, list[str]]:
    """Return the images among the entries of one folder, and the names of the other entries, both by name.

    Raises DataError where there is no image, or where junk or distractors stand outside the gallery.
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
    if folder != GALLERY and strangers:
        raise DataError(
            f"{tree / folder}: holds {len(strangers)} junk or distractor images (pid -1 or 0000), the first is "
            f"{strangers[0]}; they belong into {GALLERY}"
        )
    names, pids, cams = zip(*images, strict=True)
    return Samples.of_images(tree, (f"{folder}/{name}" for name in names), pids, cams), strays


def _kind(folder: str, name: str) -> str:
    """Return the name under which a stray is counted: hidden files and others of one suffix stand together."""
    if name.startswith("."):
        return f"{folder}/.*"
    suffix = Path(name).suffix
    return f"{folder}/*{suffix}" if suffix else f"{folder}/{name}"


def _expected(tree: Path) -> dict[str, int]:
    card = tree / CARD
    if not card.exists():
        return dict(PUBLISHED)
    try:
        counts = json.loads(card.read_text(encoding="utf-8"))["counts"]
        if set(counts) == set(PUBLISHED) and all(type(count) is int for count in counts.values()):
            return dict(counts)
        reason = f"its counts are not whole numbers for {', '.join(PUBLISHED)}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error)
    raise DataError(f"{card}: does not say what the stand-in should hold: {reason}; draw it again into another folder")


def market1501_protocol(*, views: Views = "five_crops_flip") -> Protocol:
    """Market-1501, single query, as its authors' script scores it: junk and the query's own camera leave the ranking.

    Options:
        views: the test-time views that are averaged.

    The default recipe and views are those of Hermans et al. 2017, sections 3.2 to 3.5 and table 4. A tree with other
    file names than the official ones is a stand-in.
    """
    return Protocol(
        dataset="market1501",
        version=1,
        recipe="hermans2017",
        views=views,
        exclude=("junk", "same_camera"),
        names={"train": TRAIN_NAMES, "query": QUERY_NAMES, "gallery": GALLERY_NAMES},
    )


def market1501_val_protocol(
    *, views: Views = "five_crops_flip", holdout: float = 0.2, holdout_seed: int = 0
) -> Protocol:
    """Market-1501's training images alone, a part of their identities held out, so that nobody tunes on the test.

    Options:
        views: the test-time views that are averaged.
        holdout: the fraction of the training identities that is held out.
        holdout_seed: the seed that draws them.

    What is trained on and what is searched are together the official training images, whoever is held out: by their
    names a stand-in is told from the real data.
    """
    return Protocol(
        dataset=f"market1501(holdout={holdout}, holdout_seed={holdout_seed})",
        version=1,
        recipe="hermans2017",
        views=views,
        exclude=("junk", "same_camera"),
        names={"train+gallery": TRAIN_NAMES},
    )


@hookimpl
def register_datasets() -> Mapping[str, Callable[..., Any]]:
    return {"market1501": market1501}


@hookimpl
def register_protocols() -> Mapping[str, Callable[..., Any]]:
    return {"market1501": market1501_protocol, "market1501_val": market1501_val_protocol}
