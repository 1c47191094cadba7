"""Retrieval datasets whose classes are split in halves: CUB-200-2011, Cars-196, Stanford Online Products, In-shop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reidbench import DataError, Protocol, Split, hookimpl
from reidbench_datasets.class_sets import SELF, class_parts, class_protocol, class_split, listed
from reidbench_datasets.dataset_trees import Views, find_tree, lacking

InshopImages = Literal["img", "img_highres"]

# Where a tree may be below the data root.
CUB_SPELLINGS = (".", "CUB_200_2011", "cub200", "cub200/CUB_200_2011", "CUB_200_2011/CUB_200_2011")
CARS_SPELLINGS = (".", "cars196", "CARS196", "Cars196", "cars", "stanford_cars")
SOP_SPELLINGS = (".", "Stanford_Online_Products", "sop", "SOP", "sop/Stanford_Online_Products")
INSHOP_SPELLINGS = (".", "inshop", "In-shop", "In-shop Clothes Retrieval Benchmark", "in_shop", "Inshop_Clothes")

CUB_LISTS = CUB_IMAGES, CUB_LABELS = "images.txt", "image_class_labels.txt"
CARS_TABLE, CARS_IMAGES = "cars_annos.mat", "car_ims"
CARS_PARTS = CARS_TRAIN, CARS_TEST = "cars_train", "cars_test"
CARS_TRAIN_TABLE, CARS_TEST_TABLE = "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"
SOP_LISTS = SOP_TRAIN, SOP_TEST = "Ebay_train.txt", "Ebay_test.txt"
INSHOP_LIST = "list_eval_partition.txt"

PUBLISHED = {
    "cub200": {"train": 5864, "train_identities": 100, "query": 5924, "query_identities": 100, "gallery": 5924},
    "cars196": {"train": 8054, "train_identities": 98, "query": 8131, "query_identities": 98, "gallery": 8131},
    "sop": {"train": 59551, "train_identities": 11318, "query": 60502, "query_identities": 11316, "gallery": 60502},
    "inshop": {"train": 25882, "train_identities": 3997, "query": 14218, "query_identities": 3985, "gallery": 12612},
}
RANKS = {"cub200": (1, 2, 4, 8), "cars196": (1, 2, 4, 8), "sop": (1, 10, 100, 1000), "inshop": (1, 10, 20, 30)}


def cub200(root: Path, *, holdout: float = 0.0, holdout_seed: int = 0) -> Split:
    """CUB-200-2011 (Wah et al. 2011): 11,788 photographs of 200 species of birds, the last 100 for the test.

    Options:
        holdout: fraction of the training classes held out as query and gallery, instead of the test classes.
        holdout_seed: seed of the choice of held-out classes.

    Owner: https://www.vision.caltech.edu/datasets/cub_200_2011/
    Terms: see the owner's page

    The official split by image is not used. Raises DataError where the tree is missing, or a list is malformed or
    contradicts the folders; OptionError for a fraction outside 0 to 1.
    """
    tree = find_tree("cub200", root, CUB_SPELLINGS, (*CUB_LISTS, "images"))
    labels = dict(listed(tree / CUB_LABELS, r"([0-9]+) +([0-9]+)"))
    images = []
    for number, path, label in listed(tree / CUB_IMAGES, r"([0-9]+) +(([0-9]{3})\.\S+)"):
        if int(labels.get(number, -1)) != int(label):
            raise DataError(
                f"{tree / CUB_LABELS}: image {number} has the class {labels.get(number, 'none')}, but {path} in "
                f"{CUB_IMAGES}; unpack the archive again"
            )
        images.append((f"images/{path}", int(label)))
    return _halves("cub200", tree, images, holdout, holdout_seed)


def cars196(root: Path, *, holdout: float = 0.0, holdout_seed: int = 0) -> Split:
    """Cars-196 (Krause et al. 2013): 16,185 photographs of 196 models of cars, the last 98 for the test.

    Options:
        holdout: fraction of the training classes held out as query and gallery, instead of the test classes.
        holdout_seed: seed of the choice of held-out classes.

    Reads car_ims with cars_annos.mat, or cars_train, cars_test and devkit with the labels of the test images. The
    official split by image is not used. Raises DataError where the tree or those labels are missing, or a table is
    malformed; OptionError for a fraction outside 0 to 1.
    """
    whole = [folder for name in CARS_SPELLINGS if not lacking(folder := root / name, (CARS_TABLE, CARS_IMAGES))]
    if whole:
        tree, images = whole[0], _annotations(whole[0] / CARS_TABLE, "relative_im_path", "")
    else:
        note = f"nor one with {CARS_TABLE} and {CARS_IMAGES}; a folder for each class is not read"
        tree = find_tree("cars196", root, CARS_SPELLINGS, (*CARS_PARTS, CARS_TRAIN_TABLE), note)
        places = [tree / CARS_TEST_TABLE, tree / "devkit" / CARS_TEST_TABLE]
        tables = [place for place in places if place.is_file()]
        if not tables:
            raise DataError(
                f"cars196: {tree} lacks the classes of its test images, a file of its own that many copies leave out, "
                f"and half of all classes cannot be told without it; looked for {' and '.join(map(str, places))}"
            )
        images = _annotations(tree / CARS_TRAIN_TABLE, "fname", f"{CARS_TRAIN}/")
        images += _annotations(tables[0], "fname", f"{CARS_TEST}/")
    return _halves("cars196", tree, images, holdout, holdout_seed)


def _annotations(file: Path, name: str, prefix: str) -> list[tuple[str, int]]:
    """Return path and class of each row of a table of annotations; ``name`` is the column with the path."""
    from scipy.io import loadmat  # noqa: PLC0415, slow to import

    try:
        rows = np.atleast_1d(loadmat(file, squeeze_me=True)["annotations"])
        return [(f"{prefix}{path}", int(label)) for path, label in zip(rows[name], rows["class"], strict=True)]
    except Exception as error:  # scipy raises errors of any type for damaged files
        raise DataError(f"{file}: cannot read {name} and class of its table annotations: {error!r}") from None


def sop(root: Path, *, holdout: float = 0.0, holdout_seed: int = 0) -> Split:
    """Stanford Online Products (Song et al. 2016): 120,053 photographs of 22,634 products, half of them for the test.

    Options:
        holdout: fraction of the training classes held out as query and gallery, instead of the test classes.
        holdout_seed: seed of the choice of held-out classes.

    Owner: https://cvgl.stanford.edu/projects/lifted_struct/
    Terms: see the owner's page

    The official lists decide. Raises DataError where the tree is missing or a list is malformed; OptionError for a
    fraction outside 0 to 1.
    """
    tree = find_tree("sop", root, SOP_SPELLINGS, SOP_LISTS)
    rows = [listed(tree / name, r"[0-9]+ +([0-9]+) +[0-9]+ +(\S+)", skip=1) for name in SOP_LISTS]
    train, test = class_parts(tree, *([(path, int(label)) for label, path in part] for part in rows))
    return class_split("sop", (train, test, test), PUBLISHED["sop"], holdout, holdout_seed)


def inshop(root: Path, *, images: InshopImages = "img", holdout: float = 0.0, holdout_seed: int = 0) -> Split:
    """In-shop Clothes Retrieval (Liu et al. 2016): 52,712 photographs of 7,982 pieces of clothing.

    Options:
        images: folder of the images: img, of at most 256 pixels, or img_highres.
        holdout: fraction of the training classes held out as query and gallery, instead of the test classes.
        holdout_seed: seed of the choice of held-out classes.

    Owner: https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html
    Terms: on request, which gives the password of its archives; unpack them by hand

    The official list gives training images, queries and gallery. Raises DataError where the tree is missing or the list
    is malformed; OptionError for a fraction outside 0 to 1.
    """
    tree = find_tree("inshop", root, INSHOP_SPELLINGS, (f"Img/{images}",))
    places = [tree / "Eval" / INSHOP_LIST, tree / INSHOP_LIST]
    lists = [place for place in places if place.is_file()]
    if not lists:
        raise DataError(f"inshop: found no list of its parts; looked for {' and '.join(map(str, places))}")
    parts: dict[str, list[tuple[str, int]]] = {"train": [], "query": [], "gallery": []}
    for path, label, part in listed(lists[0], r"img/(\S+) +id_([0-9]+) +(train|query|gallery)", skip=2):
        parts[part].append((f"Img/{images}/{path}", int(label)))
    train, query, gallery = class_parts(tree, *parts.values())
    return class_split("inshop", (train, query, gallery), PUBLISHED["inshop"], holdout, holdout_seed)


def _halves(dataset: str, tree: Path, images: Sequence[tuple[str, int]], holdout: float, holdout_seed: int) -> Split:
    """Return the split of images, given as path and class, whose first classes are for training."""
    last = PUBLISHED[dataset]["train_identities"]
    halves = [[each for each in images if (each[1] <= last) == trains] for trains in (True, False)]
    train, test = class_parts(tree, *halves)
    return class_split(dataset, (train, test, test), PUBLISHED[dataset], holdout, holdout_seed)


def cub200_protocol(*, views: Views = "center") -> Protocol:
    """CUB-200-2011's last 100 classes, each image a query in a gallery of all others, ranked by Recall@1.

    Options:
        views: test-time views that are averaged.
    """
    return _protocol("cub200", views)


def cub200_val_protocol(*, views: Views = "center", holdout: float = 0.2, holdout_seed: int = 0) -> Protocol:
    """CUB-200-2011's training classes with a part of them held out, for tuning without the test classes.

    Options:
        views: test-time views that are averaged.
        holdout: fraction of the training classes that is held out.
        holdout_seed: seed of their choice.
    """
    return _protocol("cub200", views, holdout=holdout, holdout_seed=holdout_seed)


def cars196_protocol(*, views: Views = "center") -> Protocol:
    """Cars-196's last 98 classes, each image a query in a gallery of all others, ranked by Recall@1.

    Options:
        views: test-time views that are averaged.
    """
    return _protocol("cars196", views)


def cars196_val_protocol(*, views: Views = "center", holdout: float = 0.2, holdout_seed: int = 0) -> Protocol:
    """Cars-196's training classes with a part of them held out, for tuning without the test classes.

    Options:
        views: test-time views that are averaged.
        holdout: fraction of the training classes that is held out.
        holdout_seed: seed of their choice.
    """
    return _protocol("cars196", views, holdout=holdout, holdout_seed=holdout_seed)


def sop_protocol(*, views: Views = "center") -> Protocol:
    """Stanford Online Products' test classes, each image a query in a gallery of all others, ranked by Recall@1.

    Options:
        views: test-time views that are averaged.
    """
    return _protocol("sop", views)


def sop_val_protocol(*, views: Views = "center", holdout: float = 0.2, holdout_seed: int = 0) -> Protocol:
    """Stanford Online Products' training classes with a part of them held out, for tuning without the test classes.

    Options:
        views: test-time views that are averaged.
        holdout: fraction of the training classes that is held out.
        holdout_seed: seed of their choice.
    """
    return _protocol("sop", views, holdout=holdout, holdout_seed=holdout_seed)


def inshop_protocol(*, views: Views = "center", images: InshopImages = "img") -> Protocol:
    """In-shop Clothes Retrieval: 14,218 queries in a gallery of 12,612 other images, ranked by Recall@1.

    Options:
        views: test-time views that are averaged.
        images: folder of the images, img or img_highres; never compare the two.
    """
    return _protocol("inshop", views, exclude=(), images=images)


def inshop_val_protocol(
    *, views: Views = "center", images: InshopImages = "img", holdout: float = 0.2, holdout_seed: int = 0
) -> Protocol:
    """In-shop's training classes with a part of them held out, each of their images a query in a gallery of the others.

    Options:
        views: test-time views that are averaged.
        images: folder of the images, img or img_highres.
        holdout: fraction of the training classes that is held out.
        holdout_seed: seed of their choice.
    """
    return _protocol("inshop", views, images=images, holdout=holdout, holdout_seed=holdout_seed)


def _protocol(dataset: str, views: Views, exclude: tuple[str, ...] = SELF, **options: Any) -> Protocol:
    return class_protocol(dataset, views, options, RANKS[dataset], exclude=exclude)


@hookimpl
def register_datasets() -> Mapping[str, Callable[..., Split]]:
    return {"cub200": cub200, "cars196": cars196, "sop": sop, "inshop": inshop}


@hookimpl
def register_protocols() -> Mapping[str, Callable[..., Protocol]]:
    return {
        "cub200": cub200_protocol,
        "cub200_val": cub200_val_protocol,
        "cars196": cars196_protocol,
        "cars196_val": cars196_val_protocol,
        "sop": sop_protocol,
        "sop_val": sop_val_protocol,
        "inshop": inshop_protocol,
        "inshop_val": inshop_val_protocol,
    }
