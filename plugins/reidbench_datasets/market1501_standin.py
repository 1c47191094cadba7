"""A stand-in for Market-1501: drawn people in the official tree, for who does not have the images."""

from __future__ import annotations

import fcntl
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidbench import DataError, OptionError, hookimpl
from reidbench_datasets.market1501 import CARD
from reidbench_datasets.synthetic.draws import Draws
from reidbench_datasets.synthetic.plan import DRAWING_VERSION, GALLERY, QUERY, TRAIN, Shot, Tree

# Moves whenever a name, or who a name shows, can change.
PLAN_VERSION = 1

LOCK = ".STANDIN.lock"
HAND_DRAWN, GROUND_TRUTH, EXTRA = "gt_bbox", "gt_query", "images"

# What a folder holds is drawn in this order: when the training images are there, so is everything else.
DRAWN = (EXTRA, HAND_DRAWN, GALLERY, QUERY, TRAIN)

FEWEST_IDENTITIES, ALL_IDENTITIES, MOST_IDENTITIES = 4, 1501, 9999
MOST_DISTRACTORS = 500_000
CAMERAS = 6

# The real counts of 1,501 identities; a visit is an identity in a camera, and each test visit gives one query.
TRAIN_IMAGES, TRAIN_VISITS = 12936, 3262
QUERIES, GOOD, JUNK, DISTRACTORS = 3368, 13115, 3819, 2798
HAND_DRAWN_BOXES = 25259

FRAMES = 25  # between two images of a visit
SIGHTINGS = 4  # images of one distractor
CHUNK = 1024  # images between two words about the progress


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
    counts = [fewest + share for share in _shared_out(images - fewest * visits, weights)]
    return [_visit(draws, pid, camera, count) for (pid, camera), count in zip(seen, counts, strict=True)]


def _shared_out(total: int, weights: Iterable[int]) -> list[int]:
    """Return whole shares that add up to ``total``, in proportion to the weights."""
    below = np.concatenate([[0], np.cumsum(np.fromiter(weights, dtype=np.int64))])
    return np.diff(total * below // below[-1]).tolist()


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
    try:
        with _claimed(directory, card):
            present = {folder: _present(directory / folder) for folder in (*DRAWN, GROUND_TRUTH)}
            missing = [picture for picture in pictures if picture.name not in present[picture.shot.folder]]
            done = len(pictures) - len(missing)
            yield done, len(pictures)
            _write_ground_truth(directory / GROUND_TRUTH, pictures, present[GROUND_TRUTH])
            for drawn in _write_images(directory, standin, missing):
                yield done + drawn, len(pictures)
    except OSError as error:
        raise DataError(
            f"{directory}: the stand-in's {len(pictures)} images (about {len(pictures) * 4 // 1000 + 1} MB) could not "
            f"be drawn there: {error.strerror or error}; make room or make the folder writable and call again with the "
            "same options, it goes on where it stopped; or name another folder"
        ) from None


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


@contextmanager
def _claimed(directory: Path, card: dict[str, Any]) -> Iterator[None]:
    """Hold the folder for this process while the block runs; it is new, empty, or was begun with the same card."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / CARD
    held = sorted({path.name for path in directory.iterdir()} - {LOCK, f".{CARD}.tmp"})
    if held and CARD not in held:
        raise DataError(
            f"{directory}: holds something else already ({', '.join(held[:3])}{', …' if len(held) > 3 else ''}); "
            "name a folder that is new or empty"
        )
    with (directory / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{directory}: another process is drawing into it; wait until it is done") from None
        if not file.exists():
            _write(file, (json.dumps(card, indent=2) + "\n").encode())
        _check(file, card)
        yield


def _check(file: Path, card: dict[str, Any]) -> None:
    """Raise DataError where a folder's card is not that of the stand-in which is asked for."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file}: cannot be read ({error}); delete the folder, or name another one") from None
    if found == card:
        return
    options = found.get("options") if isinstance(found, dict) else None
    if isinstance(options, dict) and options != card["options"]:
        there, asked = (", ".join(f"{k}={v}" for k, v in said.items()) for said in (options, card["options"]))
        reason = f"was begun with other options ({there}), now asked for ({asked}); give the same ones"
    else:
        reason = "was begun by another version of reidbench; delete the folder"
    raise DataError(f"{file.parent}: {reason}, or name another folder")


def _present(folder: Path) -> set[str]:
    """Return the names of the files that are there; an empty one, as a loss of power leaves it, counts as missing."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.stat().st_size}


def _write(path: Path, data: bytes) -> None:
    """Write a file that is whole or not there; one process holds the folder, so the temporary name is its own."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _write_images(directory: Path, standin: StandIn, pictures: Sequence[Picture]) -> Iterator[int]:
    """Draw images on all processors and yield how many are done."""
    if not pictures:
        return
    # The renderer brings a compiler: it is imported only where there is something to draw.
    from reidbench_datasets.synthetic.artist import Artist  # noqa: PLC0415

    artist = Artist(Tree(standin.identities, CAMERAS, "normal", standin.seed))
    artist.jpeg(pictures[0].shot)  # compiles the kernels, so that the time left is that of drawing

    def write(picture: Picture) -> None:
        _write(directory / picture.shot.folder / picture.name, artist.jpeg(picture.shot))

    for folder in {picture.shot.folder for picture in pictures}:
        (directory / folder).mkdir(exist_ok=True)
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        done, rest = 0, iter(pictures)
        while chunk := list(islice(rest, CHUNK)):
            for _ in pool.map(write, chunk):
                done += 1
                yield done
    finally:
        pool.shutdown(cancel_futures=True)


def _write_ground_truth(folder: Path, pictures: Sequence[Picture], present: set[str]) -> None:
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
            if name not in present:
                _write(folder / name, _mat(f"{kind}_index", found + 1))


def _mat(name: str, indices: NDArray[np.int64]) -> bytes:
    """Return a MATLAB 5 file with one row of whole numbers, the same whenever it is made."""
    from scipy.io import savemat  # noqa: PLC0415, it would be loaded with every listing of plugins

    content = io.BytesIO()
    savemat(content, {name: indices[None].astype(np.int32)}, do_compression=True)
    # The first 116 bytes are text for people, in which scipy puts the time.
    return b"MATLAB 5.0 MAT-file, of a stand-in for Market-1501".ljust(116) + content.getvalue()[116:]


@hookimpl
def register_synthesizers() -> Mapping[str, Callable[..., Any]]:
    return {"market1501": synthesize}
