"""The protocols of MSMT17, CUHK03-NP, VeRi-776 and of any tree in the layout of Market-1501, and their variants."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from reidbench import LabelOption, Protocol
from reidbench_datasets.dataset_trees import Views

TrainLists = Literal["train", "train_val"]
Boxes = Literal["detected", "labelled"]
Zero = Literal["distractor", "person"]
Folder = Annotated[str, LabelOption]


def _protocol(dataset: str, views: str, **options: str | float) -> Protocol:
    """Return a protocol scored as Market-1501, with the recipe and views of Hermans et al. 2017 as defaults."""
    return Protocol(
        dataset=f"{dataset}({', '.join(f'{name}={json.dumps(value)}' for name, value in options.items())})",
        version=1,
        recipe="hermans2017",
        views=views,
        exclude=("junk", "same_camera"),
    )


def msmt17_protocol(*, views: Views = "five_crops_flip", train: TrainLists = "train") -> Protocol:
    """MSMT17 (V1): 11,659 queries against 82,161 images; the query's own camera is excluded.

    Options:
        views: test-time views that are averaged.
        train: lists of training images: train (30,248) or train_val (32,621); never compare the two.
    """
    return _protocol("msmt17", views, train=train)


def msmt17_val_protocol(
    *, views: Views = "five_crops_flip", train: TrainLists = "train", holdout: float = 0.2, holdout_seed: int = 0
) -> Protocol:
    """MSMT17's training images (V1) with a part of their identities held out, for tuning without the test data.

    Options:
        views: test-time views that are averaged.
        train: lists of training images, as for the protocol msmt17.
        holdout: fraction of the training identities that is held out.
        holdout_seed: seed of their choice.
    """
    return _protocol("msmt17", views, train=train, holdout=holdout, holdout_seed=holdout_seed)


def msmt17_v2_protocol(*, views: Views = "five_crops_flip", train: TrainLists = "train") -> Protocol:
    """MSMT17 V2, with blurred faces: 11,659 queries against 82,161 images; the query's own camera is excluded.

    Options:
        views: test-time views that are averaged.
        train: lists of training images: train (30,248) or train_val (32,621); never compare the two.
    """
    return _protocol("msmt17_v2", views, train=train)


def msmt17_v2_val_protocol(
    *, views: Views = "five_crops_flip", train: TrainLists = "train", holdout: float = 0.2, holdout_seed: int = 0
) -> Protocol:
    """MSMT17's training images (V2) with a part of their identities held out, for tuning without the test data.

    Options:
        views: test-time views that are averaged.
        train: lists of training images, as for the protocol msmt17_v2.
        holdout: fraction of the training identities that is held out.
        holdout_seed: seed of their choice.
    """
    return _protocol("msmt17_v2", views, train=train, holdout=holdout, holdout_seed=holdout_seed)


def cuhk03_np_protocol(*, views: Views = "five_crops_flip", boxes: Boxes = "detected") -> Protocol:
    """CUHK03 by its new protocol: 1,400 queries of 700 identities; the query's own camera is excluded.

    Options:
        views: test-time views that are averaged.
        boxes: detected or labelled (drawn by hand); never compare the two.
    """
    return _protocol("cuhk03_np", views, boxes=boxes)


def cuhk03_np_val_protocol(
    *, views: Views = "five_crops_flip", boxes: Boxes = "detected", holdout: float = 0.2, holdout_seed: int = 0
) -> Protocol:
    """CUHK03-NP's training images with a part of their identities held out, for tuning without the test data.

    Options:
        views: test-time views that are averaged.
        boxes: detected or labelled, as for the protocol cuhk03_np.
        holdout: fraction of the training identities that is held out.
        holdout_seed: seed of their choice.
    """
    return _protocol("cuhk03_np", views, boxes=boxes, holdout=holdout, holdout_seed=holdout_seed)


def veri776_protocol(*, views: Views = "five_crops_flip") -> Protocol:
    """VeRi-776, image to image: 1,678 queries against 11,579 images; the query's own camera is excluded.

    Options:
        views: test-time views that are averaged.
    """
    return _protocol("veri776", views)


def veri776_val_protocol(*, views: Views = "five_crops_flip", holdout: float = 0.2, holdout_seed: int = 0) -> Protocol:
    """VeRi-776's training images with a part of their vehicles held out, for tuning without the test data.

    Options:
        views: test-time views that are averaged.
        holdout: fraction of the training vehicles that is held out.
        holdout_seed: seed of their choice.
    """
    return _protocol("veri776", views, holdout=holdout, holdout_seed=holdout_seed)


def market_layout_protocol(
    *, views: Views = "five_crops_flip", folder: Folder = "", zero: Zero = "distractor"
) -> Protocol:
    """Any tree with the folders and names of Market-1501, scored like it: junk and the query's camera are excluded.

    Options:
        views: test-time views that are averaged.
        folder: folder of the tree below the data root, which is also its name in tables; by default the root itself.
        zero: what the pid 0 is: distractor or person.
    """
    return _protocol("market_layout", views, folder=folder, zero=zero)


def market_layout_val_protocol(
    *,
    views: Views = "five_crops_flip",
    folder: Folder = "",
    zero: Zero = "distractor",
    holdout: float = 0.2,
    holdout_seed: int = 0,
) -> Protocol:
    """The training images of such a tree with a part of their identities held out, for tuning without the test data.

    Options:
        views: test-time views that are averaged.
        folder: folder of the tree, as for the protocol market_layout.
        zero: what the pid 0 is, as for the protocol market_layout.
        holdout: fraction of the training identities that is held out.
        holdout_seed: seed of their choice.
    """
    return _protocol("market_layout", views, folder=folder, zero=zero, holdout=holdout, holdout_seed=holdout_seed)
