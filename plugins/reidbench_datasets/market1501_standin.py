"""A stand-in for Market-1501: drawn people in the official tree, for who does not have the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reidbench import OptionError, hookimpl
from reidbench_datasets.standin_tree import CAMERAS, claimed, mat_file, present, shared_out, write, write_images
from reidbench_datasets.synthetic.draws import Draws
from reidbench_datasets.synthetic.plan import DRAWING_VERSION, GALLERY, QUERY, TRAIN, Shot

# Moves whenever a name, or who a name shows, can change.
PLAN_VERSION = 1

HAND_DRAWN, GROUND_TRUTH, EXTRA = "gt_bbox", "gt_query", "images"

# What a folder holds is drawn in this order: when the training images are there, so is everything else.
DRAWN = (EXTRA, HAND_DRAWN, GALLERY, QUERY, TRAIN)

FEWEST_IDENTITIES, ALL_IDENTITIES, MOST_IDENTITIES = 4, 1501, 9999
MOST_DISTRACTORS = 500_000

# The real counts of 1,501 identities; a visit is an identity in a camera, and each test visit gives one query.
TRAIN_IMAGES, TRAIN_VISITS = 12936, 3262
QUERIES, GOOD, JUNK, DISTRACTORS = 3368, 13115, 3819, 2798
HAND_DRAWN_BOXES = 25259

FRAMES = 25  # between two images of a visit
SIGHTINGS = 4  # images of one distractor


@dataclass(frozen=True)
class Picture:
    """One image: what it shows, and the rest of its official name (box 0 is drawn by hand)."""

    shot: Shot
    sequence: int
    frame: int
    box: int

    @property
    def name(self) -> str:
        """The base name, e.g. 0002_c1s1_000451_03.jpg; the 500,000 distractors have looser ones."""
        pid = self.shot.pid
        digits = 7 if self.shot.folder == EXTRA else 6
        label = f"{pid:04d}" if pid >= 0 else str(pid)
        return f"{label}_c{self.shot.camera}s{self.sequence}_{self.frame:0{digits}d}_{self.box:02d}.jpg"


@dataclass(frozen=True)
class StandIn:
    """The options of a stand-in; everything about it follows from them."""

    identities: int
    distractors: int
    seed: int

    def of(self, full: int) -> int:
        """Return the share of a real count that falls to these identities."""
        return round(full * self.identities / ALL_IDENTITIES)


def plan(standin: StandIn) -> list[Picture]:
    """Return every image of a stand-in, by folder as drawn and then by name.

    With 1,501 identities each folder holds exactly as many images as the real one. Every identity is seen by 2 to 6
    cameras; a test identity has one query and one gallery image or more in each, so that no query is without a match.
    """
    draws = Draws(standin.seed, "market1501", "plan")
    pids = draws.shuffled(range(1, standin.identities + 1))
    testing, training = sorted(pids[: len(pids) // 2]), sorted(pids[len(pids) // 2 :])
    train = _people(draws, training, standin.of(TRAIN_VISITS), standin.of(TRAIN_IMAGES), fewest=1)
    # The first image of a test visit is its query, drawn by hand; the others are the gallery's.
    asked = standin.of(QUERIES)
    test = _people(draws, testing, asked, asked + standin.of(GOOD), fewest=2)
    queries = [_moved(picture, QUERY, 0) for visit in test for picture in visit[:1]]
    good = [_moved(picture, GALLERY, picture.box) for visit in test for picture in visit[1:]]
    trained = [picture for visit in train for picture in visit]
    others = draws.shuffled(trained + good)[: standin.of(HAND_DRAWN_BOXES) - asked]
    pictures = [
        *trained,
        *queries,
        *good,
        *(_moved(picture, HAND_DRAWN, 0) for picture in [*queries, *others]),
        *_strangers(draws, GALLERY, "junk", -1, standin.of(JUNK)),
        *_strangers(draws, GALLERY, "distractor", 0, standin.of(DISTRACTORS)),
        *_strangers(draws, EXTRA, "extra", 0, standin.distractors),
    ]
    return sorted(pictures, key=lambda picture: (DRAWN.index(picture.shot.folder), picture.name))


def _people(draws: Draws, pids: Sequence[int], visits: int, images: int, fewest: int) -> list[list[Picture]]:
    """Return the images of each visit of these identities: 2 to 6 cameras each, ``fewest`` images or more in each."""
    cameras = [2] * len(pids)
    left = visits - sum(cameras)
    while left:
        lucky = draws.integer(len(pids))
        if cameras[lucky] < CAMERAS:
            cameras[lucky] += 1
            left -= 1
    seen = [
        (pid, camera)
        for pid, count in zip(pids, cameras, strict=True)
        for camera in sorted(draws.shuffled(range(1, CAMERAS + 1))[:count])
    ]
    patience = {pid: 500 + draws.integer(100) * draws.integer(100) for pid in pids}  # some walk by, some stay
    weights = [patience[pid] * (20 + draws.integer(100)) for pid, _ in seen]
    counts = [fewest + share for share in shared_out(images - fewest * visits, weights)]
    return [_visit(draws, pid, camera, count) for (pid, camera), count in zip(seen, counts, strict=True)]


def _visit(draws: Draws, pid: int, camera: int, count: int) -> list[Picture]:
    sequence, start = 1 + draws.integer(3), 1 + FRAMES * draws.integer(3000)
    return [
        Picture(Shot(TRAIN, pid, camera, "person", pid, image), sequence, start + FRAMES * image, 1 + draws.integer(4))
        for image in range(count)
    ]


def _strangers(draws: Draws, folder: str, kind: str, pid: int, count: int) -> list[Picture]:
    """Return bad boxes and people who are nobody's match; none shares a frame with another."""
    return [
        Picture(
            Shot(folder, pid, 1 + draws.integer(CAMERAS), kind, number // SIGHTINGS, number % SIGHTINGS),
            sequence=1 + draws.integer(3),
            frame=1 + (number if folder == EXTRA else FRAMES * number),
            box=1 + draws.integer(4),
        )
        for number in range(count)
    ]


def _moved(picture: Picture, folder: str, box: int) -> Picture:
    return replace(picture, shot=replace(picture.shot, folder=folder), box=box)


def counts(pictures: Sequence[Picture]) -> dict[str, int]:
    """Return what the data set market1501 should find, by the names of ``Split.counts``."""
    train, query, gallery = ([p.shot for p in pictures if p.shot.folder == part] for part in (TRAIN, QUERY, GALLERY))
    return {
        "train": len(train),
        "train_identities": len({shot.pid for shot in train}),
        "query": len(query),
        "query_identities": len({shot.pid for shot in query}),
        "gallery": len(gallery),
        "junk": sum(shot.kind == "junk" for shot in gallery),
        "distractors": sum(shot.kind == "distractor" for shot in gallery),
        "cameras": len({shot.camera for shot in (*train, *query, *gallery)}),
    }


def synthesize(
    directory: Path, *, identities: int = ALL_IDENTITIES, distractors: int = 0, seed: int = 0
) -> Iterator[tuple[int, int]]:
    """Drawn people in Market-1501's own tree, with its file names and, by default, exactly its counts.

    Options:
        identities: how many people, 4 to 9999; half are for testing, and all counts shrink or grow with them.
        distractors: how many of the 500,000 further distractors to draw into the folder images.
        seed: what everything is drawn from.

    Yields (images done, images in all). What was broken off goes on where it stopped, with the same options.
    ``STANDIN.json`` at the root says what it is and what it should hold. Every file appears when it is whole.
    Raises OptionError for other numbers; DataError where the folder holds something else or a stand-in with other
    options, is being drawn into, or cannot be written.
    """
    if not FEWEST_IDENTITIES <= identities <= MOST_IDENTITIES or not 0 <= distractors <= MOST_DISTRACTORS:
        raise OptionError(
            f"market1501: expected {FEWEST_IDENTITIES} to {MOST_IDENTITIES} identities and 0 to {MOST_DISTRACTORS} "
            f"distractors, got identities={identities}, distractors={distractors}"
        )
    return _draw(directory, StandIn(identities, distractors, seed))


def _draw(directory: Path, standin: StandIn) -> Iterator[tuple[int, int]]:
    pictures = plan(standin)
    card = _card(standin, pictures)
    with claimed(directory, card, len(pictures)):
        there = {folder: present(directory / folder) for folder in (*DRAWN, GROUND_TRUTH)}
        missing = [picture for picture in pictures if picture.name not in there[picture.shot.folder]]
        done = len(pictures) - len(missing)
        yield done, len(pictures)
        _write_ground_truth(directory / GROUND_TRUTH, pictures, there[GROUND_TRUTH])
        for drawn in write_images(directory, standin.identities, standin.seed, missing):
            yield done + drawn, len(pictures)


def _card(standin: StandIn, pictures: Sequence[Picture]) -> dict[str, Any]:
    folders = [picture.shot.folder for picture in pictures]
    return {
        "what": "a stand-in for Market-1501: drawn people, no photographs; made by reidbench data synthesize",
        "options": {"identities": standin.identities, "distractors": standin.distractors, "seed": standin.seed},
        "drawing_version": DRAWING_VERSION,
        "plan_version": PLAN_VERSION,
        "counts": counts(pictures),
        "images": {folder: folders.count(folder) for folder in DRAWN if folder in folders},
    }


def _write_ground_truth(folder: Path, pictures: Sequence[Picture], there: set[str]) -> None:
    """Write for each query which images of bounding_box_test are good and which are junk, counted from 1 by name.

    Good is the query's identity in another camera; junk is every junk image and the identity in the query's camera.
    """
    gallery = [picture.shot for picture in pictures if picture.shot.folder == GALLERY]
    pids = np.array([shot.pid for shot in gallery])
    cameras = np.array([shot.camera for shot in gallery])
    junk = np.flatnonzero(pids == -1)
    folder.mkdir(exist_ok=True)
    for picture in pictures:
        if picture.shot.folder != QUERY:
            continue
        mine = np.flatnonzero(pids == picture.shot.pid)
        same_camera = cameras[mine] == picture.shot.camera
        indices = {"good": mine[~same_camera], "junk": np.concatenate([junk, mine[same_camera]])}
        for kind, found in indices.items():
            name = f"{picture.name.removesuffix('.jpg')}_{kind}.mat"
            if name not in there:
                table = (found + 1)[None].astype(np.int32)
                write(folder / name, mat_file(f"{kind}_index", table, "Market-1501"))


@hookimpl
def register_synthesizers() -> Mapping[str, Callable[..., Any]]:
    return {"market1501": synthesize}
