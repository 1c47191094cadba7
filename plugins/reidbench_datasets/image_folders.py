"""Datasets of which each part is a folder or a list of named images: MSMT17, CUHK03-NP, VeRi-776, and any such tree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from reidbench import DataError, OptionError, Samples, Split, hookimpl, read_text
from reidbench_datasets.dataset_trees import check_holdout, checked_split, find_tree
from reidbench_datasets.image_folders_protocols import (
    Boxes,
    Folder,
    TrainLists,
    Zero,
    cuhk03_np_protocol,
    cuhk03_np_val_protocol,
    market_layout_protocol,
    market_layout_val_protocol,
    msmt17_protocol,
    msmt17_v2_protocol,
    msmt17_v2_val_protocol,
    msmt17_val_protocol,
    veri776_protocol,
    veri776_val_protocol,
)
from reidbench_datasets.named_images import Naming, image_folder

# Training images, queries and gallery: the folders of a tree like Market-1501's, and of VeRi-776.
FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
VERI_FOLDERS = ("image_train", "image_query", "image_test")

# Training and test images of both versions of MSMT17, and the lists beside them.
MSMT17_FOLDERS = {"msmt17": ("train", "test"), "msmt17_v2": ("mask_train_v2", "mask_test_v2")}
MSMT17_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")

# Where a tree may be below the data root: as unpacked, and as other loaders expect it.
SPELLINGS = {
    "msmt17": (".", "MSMT17_V1", "msmt17", "MSMT17"),
    "msmt17_v2": (".", "MSMT17_V2", "msmt17/MSMT17_V2", "MSMT17"),
    "cuhk03_np": (".", "cuhk03-np", "CUHK03-NP"),
    "veri776": (".", "VeRi", "veri", "VeRi-776"),
}
NOTES = {
    "msmt17": "A tree with bounding_box_train is read by the dataset market_layout, with zero=person",
    "msmt17_v2": "A tree with the folders train and test is that of the dataset msmt17: its faces are not blurred",
    "cuhk03_np": "The layout with cuhk-03.mat and cuhk03_new_protocol_config_*.mat is not read, only these folders",
}

CUHK03 = Naming("CUHK03-NP", "0012_c1_93.png", re.compile(r"([0-9]{4})_c([12])_[0-9]+\.(?:png|jpg)"))
VERI = Naming("VeRi-776", "0123_c007_00048215_0.jpg", re.compile(r"(-1|[0-9]{4})_c([0-9]{3})_[0-9]+_[0-9]+\.jpg"))
MARKET = re.compile(r"(-1|[0-9]{1,9})_c([0-9]{1,9})(?:[^0-9].*)?\.(?:jpg|jpeg|png|jpg\.jpg)", re.IGNORECASE)

# A line of a list of MSMT17: a path whose name has the camera as its third number, and the pid.
LINE = re.compile(r"((?:[0-9]+/)?[0-9]+_[0-9]+_([0-9]+)_[^/\s]+\.jpg)\s+([0-9]{1,9})")
LINE_EXAMPLE = "0007/0007_012_05_0302noon_0021_1.jpg 7"

PARTS = ("train", "train_identities", "query", "query_identities", "gallery", "junk", "distractors", "cameras")
PUBLISHED = {
    dataset: dict(zip(PARTS, counts, strict=True))
    for dataset, counts in {
        "train": (30248, 1041, 11659, 3060, 82161, 0, 0, 15),
        "train_val": (32621, 1041, 11659, 3060, 82161, 0, 0, 15),
        "detected": (7365, 767, 1400, 700, 5332, 0, 0, 2),
        "labelled": (7368, 767, 1400, 700, 5328, 0, 0, 2),
        "veri776": (37778, 576, 1678, 200, 11579, 0, 0, 20),
    }.items()
}


def msmt17(root: Path, *, train: TrainLists = "train", holdout: float = 0.0, holdout_seed: int = 0) -> Split:
    """MSMT17 V1 (Wei et al. 2018): 4,101 identities seen by fifteen cameras, from its official folders and lists.

    Options:
        train: lists of training images: train, or train_val for list_val.txt too.
        holdout: fraction of the training identities held out as query and gallery, instead of the test identities.
        holdout_seed: seed of the choice of held-out identities.

    Owner: http://www.pkuvmc.com/dataset.html
    Terms: research only, on request with a signed agreement

    The pid of an image is that of its list, plus 1, since 0 is a person; those of the test lists, which begin at 0
    again, follow the training pids. The camera is the third number of a base name. Units are in the lists' order.
    ``expected`` are the published counts, or those in the STANDIN.json of a stand-in.
    Raises DataError where folders or lists are missing or a line cannot be read; OptionError for values out of range.
    """
    return _msmt17("msmt17", root, train, holdout, holdout_seed)


def msmt17_v2(root: Path, *, train: TrainLists = "train", holdout: float = 0.0, holdout_seed: int = 0) -> Split:
    """MSMT17 V2: the lists of MSMT17 V1 with other pixels, since faces are blurred.

    Options:
        train: lists of training images: train, or train_val for list_val.txt too.
        holdout: fraction of the training identities held out as query and gallery, instead of the test identities.
        holdout_seed: seed of the choice of held-out identities.

    Owner: http://www.pkuvmc.com/dataset.html
    Terms: research only, on request with a signed agreement

    Read as msmt17, from the folders mask_train_v2 and mask_test_v2, which alone tell the two versions apart.
    """
    return _msmt17("msmt17_v2", root, train, holdout, holdout_seed)


def _msmt17(dataset: str, root: Path, train: TrainLists, holdout: float, holdout_seed: int) -> Split:
    check_holdout(dataset, holdout)
    names = (*MSMT17_FOLDERS[dataset], *MSMT17_LISTS)
    tree = find_tree(dataset, root, SPELLINGS[dataset], names, NOTES[dataset])
    train_folder, test_folder, *lists = names
    listed, val = (_listed(tree, train_folder, name, 1) for name in lists[:2])
    # Whichever lists are trained on, the test pids are the same.
    first_test = 1 + max(listed.pids.max(), val.pids.max())
    query, gallery = (_listed(tree, test_folder, name, first_test) for name in lists[2:])

    def counts_of(card: Any) -> dict[str, int]:
        return card["counts"] | {"train": card["counts"]["train"] + (card["val"] if train == "train_val" else 0)}

    parts = (listed + val if train == "train_val" else listed, query, gallery)
    return checked_split(parts, PUBLISHED[train], counts_of, holdout, holdout_seed)


def _listed(tree: Path, folder: str, name: str, shift: int) -> Samples:
    """Return the images of a list, in its order, with ``shift`` added to their pids."""
    rows = []
    for number, line in enumerate(read_text(tree / name).splitlines(), start=1):
        if not (match := LINE.fullmatch(line.strip())):
            raise DataError(f"{tree / name}: line {number}: expected a line like {LINE_EXAMPLE}, got {line[:80]!r}")
        rows.append((f"{folder}/{match[1]}", int(match[3]) + shift, int(match[2])))
    if not rows:
        raise DataError(f"{tree / name}: is empty; unpack the archive again")
    return Samples.of_images(tree, *zip(*rows, strict=True))


def cuhk03_np(root: Path, *, boxes: Boxes = "detected", holdout: float = 0.0, holdout_seed: int = 0) -> Split:
    """CUHK03 (Li et al. 2014) with the new split of Zhong et al. 2017: 1,467 identities, each seen by two cameras.

    Options:
        boxes: detected or labelled (drawn by hand): the folder detected or labeled.
        holdout: fraction of the training identities held out as query and gallery, instead of the test identities.
        holdout_seed: seed of the choice of held-out identities.

    Owner: https://github.com/zhunzhong07/person-re-ranking/tree/master/CUHK03-NP
    Terms: those of CUHK03, http://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html

    The camera is 1 or 2 within one of five pairs, and the pair is not in the names. Images are sorted by name.
    ``expected`` are the published counts, or those in the STANDIN.json of a stand-in.
    Raises DataError where folders are missing or cannot be used; OptionError for values out of range.
    """
    check_holdout("cuhk03_np", holdout)
    prefix = "labeled" if boxes == "labelled" else boxes
    folders = [f"{prefix}/{folder}" for folder in FOLDERS]
    tree = find_tree("cuhk03_np", root, SPELLINGS["cuhk03_np"], folders, NOTES["cuhk03_np"])
    parts, ignored = _parts(tree, folders, CUHK03)
    return checked_split(
        parts, PUBLISHED[boxes], lambda card: dict(card["counts"][prefix]), holdout, holdout_seed, ignored
    )


def veri776(root: Path, *, holdout: float = 0.0, holdout_seed: int = 0) -> Split:
    """VeRi-776 (Liu et al. 2016): 776 vehicles seen by twenty cameras, from its official folders.

    Options:
        holdout: fraction of the training vehicles held out as query and gallery, instead of the test vehicles.
        holdout_seed: seed of the choice of held-out vehicles.

    Owner: https://vehiclereid.github.io/VeRi/
    Terms: non-commercial, on request by mail

    Pid and camera are read from base names; images are sorted by name. The lists beside the folders are not read.
    ``expected`` are the published counts, or those in the STANDIN.json of a stand-in.
    Raises DataError where folders are missing or cannot be used; OptionError for values out of range.
    """
    check_holdout("veri776", holdout)
    tree = find_tree("veri776", root, SPELLINGS["veri776"], VERI_FOLDERS)
    parts, ignored = _parts(tree, VERI_FOLDERS, VERI)
    return checked_split(parts, PUBLISHED["veri776"], holdout=holdout, holdout_seed=holdout_seed, ignored=ignored)


def market_layout(
    root: Path, *, folder: Folder = "", zero: Zero = "distractor", holdout: float = 0.0, holdout_seed: int = 0
) -> Split:
    """Any dataset in the folders of Market-1501, with pid and camera in its names, such as 0033_c5_f0071204.jpg.

    Options:
        folder: folder of the tree below the data root, which is also its name in tables; by default the root itself.
        zero: what the pid 0 is: a distractor, or a person, and then all pids are read as one more.
        holdout: fraction of the training identities held out as query and gallery, instead of the test identities.
        holdout_seed: seed of the choice of held-out identities.

    Names begin with the pid, "_c" and the camera, which may be glued to further letters (c3s1), and end in jpg, jpeg,
    png or jpg.jpg. The pid -1 is junk. There are no published counts to compare with.
    Raises DataError where folders are missing or cannot be used; OptionError for values out of range.
    """
    check_holdout("market_layout", holdout)
    place = PurePosixPath(folder)
    if place.is_absolute() or ".." in place.parts:
        raise OptionError(f"market_layout: option folder: expected a folder below the data root, got {folder}")
    advice = "render a stand-in: reidbench data synthesize market1501 DIR"
    tree = find_tree("market_layout", root, [folder], FOLDERS, advice=advice)
    hint = "" if zero == "person" else "where 0 is a person, write zero=person"
    naming = Naming("Market-1501", "0033_c5_f0071204.jpg", MARKET, int(zero == "distractor"), hint)
    parts, ignored = _parts(tree, FOLDERS, naming)
    return checked_split(parts, {}, lambda card: {}, holdout, holdout_seed, ignored)


def _parts(
    tree: Path, folders: Sequence[str], naming: Naming
) -> tuple[tuple[Samples, Samples, Samples], Mapping[str, int]]:
    """Return training images, queries and gallery, each from its folder, and the number of skipped files by kind."""
    ignored: Counter[str] = Counter()
    train, query, gallery = folders
    outside = (image_folder(tree, folder, naming, ignored, gallery) for folder in (train, query))
    return (*outside, image_folder(tree, gallery, naming, ignored)), ignored


@hookimpl
def register_datasets() -> Mapping[str, Callable[..., Any]]:
    return {
        "msmt17": msmt17,
        "msmt17_v2": msmt17_v2,
        "cuhk03_np": cuhk03_np,
        "veri776": veri776,
        "market_layout": market_layout,
    }


@hookimpl
def register_protocols() -> Mapping[str, Callable[..., Any]]:
    return {
        "msmt17": msmt17_protocol,
        "msmt17_val": msmt17_val_protocol,
        "msmt17_v2": msmt17_v2_protocol,
        "msmt17_v2_val": msmt17_v2_val_protocol,
        "cuhk03_np": cuhk03_np_protocol,
        "cuhk03_np_val": cuhk03_np_val_protocol,
        "veri776": veri776_protocol,
        "veri776_val": veri776_val_protocol,
        "market_layout": market_layout_protocol,
        "market_layout_val": market_layout_val_protocol,
    }
