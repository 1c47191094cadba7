"""Stand-ins for the retrieval datasets: rendered people, one for each class, with the names and lists of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reidbench import OptionError, hookimpl
from reidbench_datasets.retrieval_sets import (
    CARS_TABLE,
    CUB_IMAGES,
    CUB_LABELS,
    INSHOP_LIST,
    PUBLISHED,
    SOP_TEST,
    SOP_TRAIN,
)
from reidbench_datasets.standin_tree import CAMERAS, card, mat_file, write_standin
from reidbench_datasets.synthetic.plan import Shot
from reidbench_datasets.synthetic.writer import Entry

# Raised whenever a name, or what a name shows, changes.
PLAN_VERSION = 1

FEWEST_CLASSES, FEWEST_IMAGES = 4, 2


@dataclass(frozen=True)
class Picture:
    """One image.

    ``path``: its path below the tree.
    ``label``: its class.
    ``part``: "train", "query" or "gallery"; a test image that is both is "query".
    ``shot``: what it shows.
    """

    path: str
    label: int
    part: str
    shot: Shot


def _cub_lists(pictures: Sequence[Picture]) -> dict[str, str]:
    numbered = list(enumerate(pictures, start=1))
    return {
        CUB_IMAGES: "".join(f"{number} {each.path.removeprefix('images/')}\n" for number, each in numbered),
        CUB_LABELS: "".join(f"{number} {each.label}\n" for number, each in numbered),
    }


def _cars_table(pictures: Sequence[Picture]) -> dict[str, bytes]:
    table = np.zeros((1, len(pictures)), dtype=[("relative_im_path", object), ("class", object)])
    for row, picture in zip(table[0], pictures, strict=True):
        row["relative_im_path"], row["class"] = picture.path, picture.label
    return {CARS_TABLE: mat_file("annotations", table, "Cars-196")}


def _sop_lists(pictures: Sequence[Picture]) -> dict[str, str]:
    lists = dict.fromkeys((SOP_TRAIN, SOP_TEST), "image_id class_id super_class_id path\n")
    for number, picture in enumerate(pictures, start=1):
        name = SOP_TRAIN if picture.part == "train" else SOP_TEST
        lists[name] += f"{number} {picture.label} 1 {picture.path}\n"
    return lists


def _inshop_list(pictures: Sequence[Picture]) -> dict[str, str]:
    rows = [f"{each.path.removeprefix('Img/'):70} id_{each.label:08d}     {each.part}\n" for each in pictures]
    return {f"Eval/{INSHOP_LIST}": "".join([f"{len(rows)}\n", "image_name item_id evaluation_status\n", *rows])}


@dataclass(frozen=True)
class Layout:
    """How a dataset names and lists its images.

    ``title``: the dataset.
    ``path``: pattern of a path, of the class, the image's number in it and its number in all, both from 1.
    ``lists``: returns the content of each list by its path.
    """

    title: str
    path: str
    lists: Callable[[Sequence[Picture]], Mapping[str, str | bytes]]


LAYOUTS = {
    "cub200": Layout(
        "CUB-200-2011", "images/{label:03d}.Class_{label}/Class_{label}_{image:04d}_{number}.jpg", _cub_lists
    ),
    "cars196": Layout("Cars-196", "car_ims/{number:06d}.jpg", _cars_table),
    "sop": Layout("Stanford Online Products", "chair_final/{label:012d}_{image}.JPG", _sop_lists),
    "inshop": Layout("In-shop", "Img/img/WOMEN/Dresses/id_{label:08d}/{image:02d}_1_front.jpg", _inshop_list),
}


def plan(dataset: str, identities: int, images: int) -> list[Picture]:
    """Return every image of a stand-in; the first half of the classes, rounded up, is for training."""
    training, last_train = identities - identities // 2, PUBLISHED[dataset]["train_identities"]
    pictures = []
    for place in range(identities):
        label = 1 + place if place < training else 1 + place - training + last_train
        for image in range(images):
            part = "train" if place < training else "gallery" if dataset == "inshop" and image % 2 else "query"
            names = {"label": label, "image": 1 + image, "number": 1 + len(pictures)}
            shot = Shot("", label, 1 + image % CAMERAS, "person", 1 + place, image // CAMERAS)
            pictures.append(Picture(LAYOUTS[dataset].path.format(**names), label, part, shot))
    return pictures


def _counts(pictures: Sequence[Picture]) -> dict[str, int]:
    """Return the published counts, by the names of ``Split.counts``."""
    train, query, gallery = ([each for each in pictures if each.part == part] for part in ("train", "query", "gallery"))
    return {
        "train": len(train),
        "train_identities": len({each.label for each in train}),
        "query": len(query),
        "query_identities": len({each.label for each in query}),
        "gallery": len(gallery or query),
    }


def synthesize(
    dataset: str, directory: Path, *, identities: int = 40, images: int = 12, seed: int = 0
) -> Iterator[tuple[int, int]]:
    """Rendered people in a retrieval dataset's own folders, one for each class, with names and lists like its own.

    Options:
        identities: number of classes, 4 to those of the dataset; half of them (rounded down) are for the test.
        images: number of images of each class, at least 2.
        seed: seed of people and images.

    Yields (images done, images in all). An interrupted call is resumed by another one with the same options.
    ``STANDIN.json`` in the folder describes it and has its counts. Every file is written whole or not at all.
    Raises OptionError for values out of range; DataError where the folder has other content or a stand-in with other
    options, is being written to, or cannot be written.
    """
    most = 2 * min(PUBLISHED[dataset][part] for part in ("train_identities", "query_identities"))
    if not FEWEST_CLASSES <= identities <= most or images < FEWEST_IMAGES:
        raise OptionError(
            f"{dataset}: expected {FEWEST_CLASSES} to {most} identities and at least {FEWEST_IMAGES} images of each, "
            f"got identities={identities}, images={images}"
        )
    layout, pictures = LAYOUTS[dataset], plan(dataset, identities, images)
    options = {"identities": identities, "images": images, "seed": seed}
    content = card(layout.title, options, PLAN_VERSION, _counts(pictures))
    rendered = [(picture.path, picture.shot) for picture in pictures]
    lists = layout.lists(pictures)
    texts = {path: text.encode() if isinstance(text, str) else text for path, text in lists.items()}
    tables: list[Entry] = [(path, partial(bytes, data)) for path, data in texts.items()]
    return write_standin(directory, content, rendered, tables)


@hookimpl
def register_synthesizers() -> Mapping[str, Callable[..., Any]]:
    return {dataset: partial(synthesize, dataset) for dataset in LAYOUTS}
