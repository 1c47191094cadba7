"""The embedded data set: people drawn on first use, so that nothing is downloaded, and its two protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from reidbench import OptionError, Protocol, Samples, Split, hold_out, hookimpl
from reidbench_datasets.synthetic.plan import GALLERY, QUERY, TRAIN, Shot, Tree, plan
from reidbench_datasets.synthetic.tree import ensure_drawn

FEWEST_IDENTITIES = 10
FEWEST_CAMERAS, MOST_CAMERAS = 2, 9

Level = Literal["easy", "normal", "hard"]
Views = Literal["original", "center", "center_flip", "five_crops", "five_crops_flip"]


def _tree(identities: int, cameras: int, difficulty: str, seed: int) -> Tree:
    """Return the checked options; raises OptionError."""
    if identities < FEWEST_IDENTITIES:
        raise OptionError(
            f"synthetic: option identities: expected {FEWEST_IDENTITIES} or more (seven in ten are trained on, the "
            f"others tested), got {identities}"
        )
    if not FEWEST_CAMERAS <= cameras <= MOST_CAMERAS:
        raise OptionError(
            f"synthetic: option cameras: expected {FEWEST_CAMERAS} to {MOST_CAMERAS} (a match needs a second camera; "
            f"file names have one digit for it), got {cameras}"
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
) -> Split:
    """People who walk past cameras, drawn as JPEG files of 128x64 below the data root when first asked for.

    Options:
        identities: how many people; seven in ten are trained on, the others are asked and searched.
        cameras: how many cameras, each with its own view, light, colours, tone, blur and street.
        difficulty: easy, normal or hard: fewer colours, more look-alikes, more occlusion, cameras farther apart.
        seed: what everything is drawn from; the same seed gives the same pixels on every machine.
        holdout: the fraction of the training identities that is asked and searched instead of the test identities.

    Returns a Split in the manner of Market-1501: one query for each (test identity, camera), which is not in the
    gallery; junk (pid -1: bad boxes) and distractors (pid 0: other people) in the gallery; cameras from 1. Files lie in
    ``root/synthetic/<options and drawing version>``; a second call only lists them.
    Raises OptionError for a value out of range, DataError where the folder cannot be written to or lacks an image.
    """
    tree = _tree(identities, cameras, difficulty, seed)
    if not 0.0 <= holdout < 1.0:
        raise OptionError(f"synthetic: option holdout: expected a fraction from 0 to below 1, got {holdout:g}")
    folder = ensure_drawn(tree, root / "synthetic")
    train, query, gallery = (_samples(folder, part, plan(tree)) for part in (TRAIN, QUERY, GALLERY))
    if holdout:
        return hold_out(train, holdout, seed)
    return Split(train, query, gallery)


def _samples(folder: Path, part: str, shots: list[Shot]) -> Samples:
    mine = [shot for shot in shots if shot.folder == part]
    return Samples.of_images(
        folder, (shot.name for shot in mine), (shot.pid for shot in mine), (shot.camera for shot in mine)
    )


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
) -> Protocol:
    """The embedded data set, scored as Market-1501 is: junk and the query's own camera leave the ranking.

    Options:
        identities: how many people, as for the data set synthetic.
        cameras: how many cameras, as for the data set synthetic.
        difficulty: easy, normal or hard, as for the data set synthetic.
        seed: what the people and their images are drawn from; not the seed of the training.
        views: the test-time views that are averaged.

    Networks start from no weights and see 64x32 pixels, so that nothing is downloaded and a CPU copes.
    """
    spec = f"synthetic(identities={identities}, cameras={cameras}, difficulty={difficulty}, seed={seed})"
    return _protocol(spec, views)


def synthetic_val_protocol(
    *,
    identities: int = 500,
    cameras: int = 6,
    difficulty: Level = "normal",
    seed: int = 0,
    holdout: float = 0.2,
    views: Views = "center_flip",
) -> Protocol:
    """The embedded data set's training images alone, a part of their identities held out, for tuning.

    Options:
        identities: how many people, as for the data set synthetic.
        cameras: how many cameras, as for the data set synthetic.
        difficulty: easy, normal or hard, as for the data set synthetic.
        seed: what the people, their images and the held-out identities are drawn from.
        holdout: the fraction of the training identities that is asked and searched.
        views: the test-time views that are averaged.
    """
    spec = (
        f"synthetic(identities={identities}, cameras={cameras}, difficulty={difficulty}, seed={seed}, "
        f"holdout={holdout})"
    )
    return _protocol(spec, views)


@hookimpl
def register_datasets() -> Mapping[str, Callable[..., Any]]:
    return {"synthetic": synthetic}


@hookimpl
def register_protocols() -> Mapping[str, Callable[..., Any]]:
    return {"synthetic": synthetic_protocol, "synthetic_val": synthetic_val_protocol}
