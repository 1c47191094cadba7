"""A stand-in for Market-1501: rendered people in the official folders, for users without the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reidbench import IntArray, OptionError, hookimpl
from reidbench_datasets.standin_people import FRAMES, Image, Population, counts, sample_people
from reidbench_datasets.standin_tree import CAMERAS, card, mat_file, write_standin
from reidbench_datasets.synthetic.plan import GALLERY, QUERY, TRAIN, Shot
from reidbench_datasets.synthetic.random_numbers import RandomNumbers
from reidbench_datasets.synthetic.writer import Entry

# Raised whenever a name, or what a name shows, changes.
PLAN_VERSION = 1

HAND_DRAWN, GROUND_TRUTH, EXTRA = "gt_bbox", "gt_query", "images"

# The order in which folders are written: the training images come last, so that they show that the tree is complete.
FOLDERS = (EXTRA, HAND_DRAWN, GALLERY, QUERY, TRAIN)

FEWEST_IDENTITIES, MOST_IDENTITIES = 4, 9999
MOST_DISTRACTORS = 500_000

REAL = Population(1501, None, CAMERAS, train=12936, train_visits=3262, queries=3368, gallery=13115)
JUNK, DISTRACTORS, HAND_DRAWN_BOXES = 3819, 2798, 25259  # of the real dataset
SIGHTINGS = 4  # images of one distractor


def name_of(image: Image) -> str:
    """Return a base name, e.g. 0002_c1s1_000451_03.jpg; the 500,000 distractors have seven digits for the frame."""
    pid = image.shot.pid
    digits = 7 if image.shot.folder == EXTRA else 6
    label = f"{pid:04d}" if pid >= 0 else str(pid)
    return f"{label}_c{image.shot.camera}s{image.sequence}_{image.frame:0{digits}d}_{image.box:02d}.jpg"


@dataclass(frozen=True)
class StandIn:
    """The options of a stand-in, which determine it completely."""

    identities: int
    distractors: int
    seed: int

    def share(self, full: int) -> int:
        """Return the share of a real count for this number of identities."""
        return REAL.share(full, self.identities)


def plan(standin: StandIn) -> list[Image]:
    """Return every image of a stand-in, by folder in the order of ``FOLDERS`` and then by name.

    With 1,501 identities each folder has exactly as many images as the real one. Every identity is seen by 2 to 6
    cameras; a test identity has one query and at least one gallery image in each, so that every query has a positive.
    """
    rng = RandomNumbers(standin.seed, "market1501", "plan")
    train, test = sample_people(rng, REAL, standin.identities)
    # The first image of a test visit is its query, with a hand-drawn box; the others are the gallery's.
    queries = [_copy(image, QUERY, 0) for visit in test for image in visit[:1]]
    good = [_copy(image, GALLERY, image.box) for visit in test for image in visit[1:]]
    trained = [image for visit in train for image in visit]
    others = rng.shuffled(trained + good)[: standin.share(HAND_DRAWN_BOXES) - len(queries)]
    images = [
        *trained,
        *queries,
        *good,
        *(_copy(image, HAND_DRAWN, 0) for image in [*queries, *others]),
        *_negatives(rng, GALLERY, "junk", -1, standin.share(JUNK)),
        *_negatives(rng, GALLERY, "distractor", 0, standin.share(DISTRACTORS)),
        *_negatives(rng, EXTRA, "extra", 0, standin.distractors),
    ]
    return sorted(images, key=lambda image: (FOLDERS.index(image.shot.folder), name_of(image)))


def _negatives(rng: RandomNumbers, folder: str, kind: str, pid: int, count: int) -> list[Image]:
    """Return junk or distractors; no two share a frame."""
    return [
        Image(
            Shot(folder, pid, 1 + rng.integer(CAMERAS), kind, number // SIGHTINGS, number % SIGHTINGS),
            sequence=1 + rng.integer(3),
            frame=1 + (number if folder == EXTRA else FRAMES * number),
            box=1 + rng.integer(4),
        )
        for number in range(count)
    ]


def _copy(image: Image, folder: str, box: int) -> Image:
    return replace(image, shot=replace(image.shot, folder=folder), box=box)


def synthesize(
    directory: Path, *, identities: int = REAL.identities, distractors: int = 0, seed: int = 0
) -> Iterator[tuple[int, int]]:
    """Rendered people in Market-1501's own folders, with its file names and, by default, exactly its counts.

    Options:
        identities: number of identities, 4 to 9999; half are for testing, and all counts scale with it.
        distractors: number of the 500,000 further distractors to render into the folder images.
        seed: seed of people, names and images.

    Yields (images done, images in all). An interrupted call is resumed by another one with the same options.
    ``STANDIN.json`` in the folder describes it and has its counts. Every file is written whole or not at all.
    Raises OptionError for values out of range; DataError where the folder has other content or a stand-in with other
    options, is being written to, or cannot be written.
    """
    if not FEWEST_IDENTITIES <= identities <= MOST_IDENTITIES or not 0 <= distractors <= MOST_DISTRACTORS:
        raise OptionError(
            f"market1501: expected {FEWEST_IDENTITIES} to {MOST_IDENTITIES} identities and 0 to {MOST_DISTRACTORS} "
            f"distractors, got identities={identities}, distractors={distractors}"
        )
    images = plan(StandIn(identities, distractors, seed))
    folders = [image.shot.folder for image in images]
    options = {"identities": identities, "distractors": distractors, "seed": seed}
    content = card("Market-1501", options, PLAN_VERSION, counts(images))
    content["images"] = {folder: folders.count(folder) for folder in FOLDERS if folder in folders}
    rendered = [(f"{image.shot.folder}/{name_of(image)}", image.shot) for image in images]
    return write_standin(directory, content, _ground_truth(images), rendered)


def _ground_truth(images: Sequence[Image]) -> list[Entry]:
    """Return for each query the files that number its good and its junk images of bounding_box_test, from 1, by name.

    Good is the query's identity in another camera; junk is every junk image and the identity in the query's camera.
    """
    gallery = [image.shot for image in images if image.shot.folder == GALLERY]
    pids = np.array([shot.pid for shot in gallery])
    cameras = np.array([shot.camera for shot in gallery])

    def table(query: Shot, kind: str) -> bytes:
        own, same_camera = pids == query.pid, cameras == query.camera
        rows: IntArray
        if kind == "good":
            rows = np.flatnonzero(own & ~same_camera)
        else:
            rows = np.concatenate([np.flatnonzero(pids == -1), np.flatnonzero(own & same_camera)])
        return mat_file(f"{kind}_index", (rows + 1)[None].astype(np.int32), "Market-1501")

    return [
        (f"{GROUND_TRUTH}/{name_of(image).removesuffix('.jpg')}_{kind}.mat", partial(table, image.shot, kind))
        for image in images
        if image.shot.folder == QUERY
        for kind in ("good", "junk")
    ]


@hookimpl
def register_synthesizers() -> Mapping[str, Callable[..., Any]]:
    return {"market1501": synthesize}
