"""The built-in dataset: people rendered on first use, so that nothing is downloaded, and its two protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from reidbench import LaterOption, OptionError, Protocol, Samples, Split, hold_out, hookimpl
from reidbench_datasets.dataset_trees import (
    Unlabelled,
    UnlabelledImages,
    Views,
    check_holdout,
    dataset_spec,
    with_unlabelled,
)
from reidbench_datasets.synthetic.plan import GALLERY, QUERY, TRAIN, Shot, Tree, plan
from reidbench_datasets.synthetic.tree import ensure_rendered

FEWEST_IDENTITIES = 10
FEWEST_CAMERAS, MOST_CAMERAS = 2, 9

Level = Literal["easy", "normal", "hard"]
HoldoutSeed = Annotated[int | None, LaterOption]


def _tree(identities: int, cameras: int, difficulty: str, seed: int) -> Tree:
    """Return the checked options; raises OptionError."""
    if identities < FEWEST_IDENTITIES:
        raise OptionError(
            f"synthetic: option identities: expected {FEWEST_IDENTITIES} or more (seven in ten are for training, the "
            f"others for testing), got {identities}"
        )
    if not FEWEST_CAMERAS <= cameras <= MOST_CAMERAS:
        raise OptionError(
            f"synthetic: option cameras: expected {FEWEST_CAMERAS} to {MOST_CAMERAS} (a positive needs a second "
            f"camera; file names have one digit for it), got {cameras}"
        )
    return Tree(identities, cameras, difficulty, seed)


def synthetic(
    root: Path,
    *,
    identities: int = 500,
    cameras: int = 6,
    difficulty: Level = "normal",
    seed: int = 0,
    holdout: float = 0.0,
    holdout_seed: HoldoutSeed = None,
    unlabelled: Unlabelled = None,
    unlabelled_images: UnlabelledImages = None,
) -> Split:
    """Pedestrians seen by cameras, rendered as JPEG files of 128x64 below the data root on first use.

    Options:
        identities: number of identities; seven in ten are for training, the others are query and gallery.
        cameras: number of cameras, each with its own view, light, colours, tone, blur and street.
        difficulty: easy, normal or hard: fewer colours, more look-alikes, more occlusion, larger camera differences.
        seed: seed of people and images; the same seed gives the same pixels on every machine.
        holdout: fraction of the training identities held out as query and gallery, instead of the test identities.
        holdout_seed: seed of their choice; none for that of the people.
        unlabelled: folder below the data root whose images join the training set without identity.
        unlabelled_images: number of them, the first by name; none for all.

    Returns a Split like Market-1501's: one query for each (test identity, camera), which is not in the gallery; junk
    (pid -1: bad boxes) and distractors (pid 0: other people) in the gallery; cameras from 1. Files are in
    ``root/synthetic/<options and renderer version>``; a second call only lists them.
    Raises OptionError for a value out of range, DataError where the folder cannot be written to or lacks an image.
    """
    tree = _tree(identities, cameras, difficulty, seed)
    check_holdout("synthetic", holdout)
    folder = ensure_rendered(tree, root / "synthetic")
    train, query, gallery = (_samples(folder, part, plan(tree)) for part in (TRAIN, QUERY, GALLERY))
    split = Split(train, query, gallery)
    if holdout:
        split = hold_out(train, holdout, seed if holdout_seed is None else holdout_seed)
    return with_unlabelled(split, root, unlabelled, unlabelled_images, "synthetic")


def _samples(folder: Path, part: str, shots: list[Shot]) -> Samples:
    names, pids, cams = zip(*((shot.name, shot.pid, shot.camera) for shot in shots if shot.folder == part), strict=True)
    return Samples.of_images(folder, names, pids, cams)


def _protocol(dataset: str, views: str) -> Protocol:
    return Protocol(
        dataset=dataset,
        version=1,
        recipe="quick",
        views=views,
        exclude=("junk", "same_camera"),
        defaults={"weights": None, "height": 64, "width": 32},
    )


def synthetic_protocol(
    *,
    identities: int = 500,
    cameras: int = 6,
    difficulty: Level = "normal",
    seed: int = 0,
    views: Views = "center_flip",
    unlabelled: Unlabelled = None,
    unlabelled_images: UnlabelledImages = None,
) -> Protocol:
    """The built-in dataset, scored as Market-1501: junk and the query's own camera are excluded.

    Options:
        identities: number of identities, as for the dataset synthetic.
        cameras: number of cameras, as for the dataset synthetic.
        difficulty: easy, normal or hard, as for the dataset synthetic.
        seed: seed of people and images; not the seed of the training.
        views: test-time views that are averaged.
        unlabelled: folder below the data root whose images join the training set without identity.
        unlabelled_images: number of them, the first by name; none for all.

    Networks start from random weights and take 64x32 pixels, so that nothing is downloaded and a CPU is enough.
    """
    options = f"identities={identities}, cameras={cameras}, difficulty={difficulty}, seed={seed}"
    return _protocol(dataset_spec("synthetic", options, unlabelled, unlabelled_images), views)


def synthetic_val_protocol(
    *,
    identities: int = 500,
    cameras: int = 6,
    difficulty: Level = "normal",
    seed: int = 0,
    holdout: float = 0.2,
    holdout_seed: HoldoutSeed = None,
    views: Views = "center_flip",
    unlabelled: Unlabelled = None,
    unlabelled_images: UnlabelledImages = None,
) -> Protocol:
    """The built-in dataset's training images with a part of their identities held out, for tuning.

    Options:
        identities: number of identities, as for the dataset synthetic.
        cameras: number of cameras, as for the dataset synthetic.
        difficulty: easy, normal or hard, as for the dataset synthetic.
        seed: seed of people and images; not the seed of the training.
        holdout: fraction of the training identities held out as query and gallery.
        holdout_seed: seed of their choice; none for that of the people.
        views: test-time views that are averaged.
        unlabelled: folder below the data root whose images join the training set without identity.
        unlabelled_images: number of them, the first by name; none for all.
    """
    options = (
        f"identities={identities}, cameras={cameras}, difficulty={difficulty}, seed={seed}, "
        f"holdout={holdout}{'' if holdout_seed is None else f', holdout_seed={holdout_seed}'}"
    )
    return _protocol(dataset_spec("synthetic", options, unlabelled, unlabelled_images), views)


@hookimpl
def register_datasets() -> Mapping[str, Callable[..., Any]]:
    return {"synthetic": synthetic}


@hookimpl
def register_protocols() -> Mapping[str, Callable[..., Any]]:
    return {"synthetic": synthetic_protocol, "synthetic_val": synthetic_val_protocol}
