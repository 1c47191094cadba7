"""A stand-in for MARS: drawn people in the official tree, with lists and tables, for who does not have the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reidbench import IntArray, OptionError, hookimpl
from reidbench_datasets.mars import (
    INFO_SPELLINGS,
    QUERIES,
    TEST,
    TEST_LIST,
    TEST_TRACKS,
    TRAIN,
    TRAIN_LIST,
    TRAIN_TRACKS,
)
from reidbench_datasets.standin_tree import CAMERAS, claimed, mat_file, present, shared_out, write, write_images
from reidbench_datasets.synthetic.draws import Draws
from reidbench_datasets.synthetic.plan import DRAWING_VERSION, Shot

# Moves whenever a name, or who a name shows, can change.
PLAN_VERSION = 1

FEWEST_IDENTITIES, ALL_IDENTITIES = 4, 1259
FEWEST_FRAMES, MOST_FRAMES = 2, 100

# The real numbers of tracklets of 1,259 identities.
TRAIN_TRACKLETS, GOOD, JUNK, DISTRACTORS = 8298, 8062, 870, 3248


# Who a tracklet shows: pid, camera, and the kind and number by which the person or stranger is drawn.
Seen = tuple[int, int, str, int]


@dataclass(frozen=True)
class StandIn:
    """The options of a stand-in; everything about it follows from them."""

    identities: int
    frames: int
    seed: int

    def of(self, full: int) -> int:
        """Return the share of a real count that falls to these identities."""
        return round(full * self.identities / ALL_IDENTITIES)


@dataclass(frozen=True)
class Picture:
    """One frame: what it shows, and the rest of its official name, tracklet and frame counted from 1."""

    shot: Shot
    tracklet: int
    frame: int

    @property
    def name(self) -> str:
        """The base name, e.g. 0001C1T0001F001.jpg."""
        return f"{_label(self.shot.pid)}C{self.shot.camera}T{self.tracklet:04d}F{self.frame:03d}.jpg"


@dataclass(frozen=True)
class Track:
    """One tracklet: who it shows (``number`` picks the person or stranger), its number for its pid, its frames.

    ``first`` is how many images of the same person in the same camera come before it.
    """

    pid: int
    camera: int
    kind: str
    number: int
    tracklet: int
    first: int
    frames: int


@dataclass(frozen=True)
class Plan:
    """The tracklets of both parts in the order of their tables, and the queries, places among ``test``."""

    train: list[Track]
    test: list[Track]
    asked: list[int]

    def pictures(self) -> list[Picture]:
        """Return every image, the test's first."""
        return [
            Picture(
                Shot(f"{folder}/{_label(t.pid)}", t.pid, t.camera, t.kind, t.number, t.first + frame),
                t.tracklet,
                1 + frame,
            )
            for folder, tracks in ((TEST, self.test), (TRAIN, self.train))
            for t in tracks
            for frame in range(t.frames)
        ]

    def counts(self) -> dict[str, int]:
        """Return what the data set mars should find, by the names of ``Split.counts``."""
        query = [self.test[place] for place in self.asked]
        return {
            "train": sum(t.frames for t in self.train),
            "train_identities": len({t.pid for t in self.train}),
            "query": sum(t.frames for t in query),
            "query_identities": len({t.pid for t in query}),
            "gallery": sum(t.frames for t in self.test),
            "junk": sum(t.pid == -1 for t in self.test),
            "distractors": sum(t.pid == 0 for t in self.test),
            "cameras": len({t.camera for t in (*self.train, *self.test)}),
        }


def _label(pid: int) -> str:
    return "00-1" if pid == -1 else f"{pid:04d}"


def plan(standin: StandIn) -> Plan:
    """Return every tracklet of a stand-in; about half of the identities are for testing, as in the real data.

    Every identity is seen by 2 to 4 cameras, so that no query is without a match; for each test identity and camera
    one tracklet is a query.
    """
    draws = Draws(standin.seed, "mars", "plan")
    pids = draws.shuffled(range(1, standin.identities + 1))
    testing, training = sorted(pids[: len(pids) // 2]), sorted(pids[len(pids) // 2 :])
    train = _people(draws, training, standin.of(TRAIN_TRACKLETS))
    strangers = [
        (pid, 1 + draws.integer(CAMERAS), kind, number)
        for pid, kind, count in ((-1, "junk", JUNK), (0, "distractor", DISTRACTORS))
        for number in range(standin.of(count))
    ]
    test = sorted(strangers + _people(draws, testing, standin.of(GOOD)))
    visits: dict[tuple[int, int], list[int]] = {}
    for place, (pid, camera, *_) in enumerate(test):
        if pid > 0:
            visits.setdefault((pid, camera), []).append(place)
    asked = sorted(draws.choice(places) for places in visits.values())
    return Plan(_tracks(draws, train, standin.frames), _tracks(draws, test, standin.frames), asked)


def _people(draws: Draws, pids: Sequence[int], tracklets: int) -> list[Seen]:
    """Return who each tracklet shows, a tracklet or more in each of a person's cameras, by pid and camera."""
    visits = [
        (pid, camera)
        for pid in pids
        for camera in sorted(draws.shuffled(range(1, CAMERAS + 1))[: 2 + draws.integer(3)])
    ]
    shares = shared_out(max(0, tracklets - len(visits)), [20 + draws.integer(100) for _ in visits])
    return [
        (pid, camera, "person", pid)
        for (pid, camera), share in zip(visits, shares, strict=True)
        for _ in range(1 + share)
    ]


def _tracks(draws: Draws, seen: Sequence[Seen], frames: int) -> list[Track]:
    """Return the tracklets with ``frames`` images in the mean and two or more each, numbered for each pid from 1."""
    shares = shared_out((frames - FEWEST_FRAMES) * len(seen), [10 + draws.integer(100) for _ in seen])
    numbers: dict[int, int] = {}
    before: dict[Seen, int] = {}
    tracks = []
    for who, share in zip(seen, shares, strict=True):
        pid, camera, kind, number = who
        numbers[pid] = numbers.get(pid, 0) + 1
        first = before.get(who, 0)
        before[who] = first + FEWEST_FRAMES + share
        tracks.append(Track(pid, camera, kind, number, numbers[pid], first, FEWEST_FRAMES + share))
    return tracks


def synthesize(directory: Path, *, identities: int = 40, frames: int = 8, seed: int = 0) -> Iterator[tuple[int, int]]:
    """Drawn people in MARS's own tree, with names, name lists and track tables like the official ones.

    Options:
        identities: how many people, 4 to 1259 (as in MARS); half are for testing, and the tracklets shrink with them.
        frames: the mean number of images of a tracklet, 2 to 100 (58 in MARS, which makes 1.19 million of them).
        seed: what everything is drawn from.

    Yields (images done, images in all). What was broken off goes on where it stopped, with the same options; ``info``
    is written last, and without it the data set finds no tree. ``STANDIN.json`` at the root says what it is and what it
    should hold. Every file appears when it is whole.
    Raises OptionError for other numbers; DataError where the folder holds something else or a stand-in with other
    options, is being drawn into, or cannot be written.
    """
    if not FEWEST_IDENTITIES <= identities <= ALL_IDENTITIES or not FEWEST_FRAMES <= frames <= MOST_FRAMES:
        raise OptionError(
            f"mars: expected {FEWEST_IDENTITIES} to {ALL_IDENTITIES} identities and {FEWEST_FRAMES} to {MOST_FRAMES} "
            f"frames, got identities={identities}, frames={frames}"
        )
    return _draw(directory, StandIn(identities, frames, seed))


def _draw(directory: Path, standin: StandIn) -> Iterator[tuple[int, int]]:
    planned = plan(standin)
    pictures = planned.pictures()
    with claimed(directory, _card(standin, planned), len(pictures)):
        folders = dict.fromkeys(picture.shot.folder for picture in pictures)
        there = {folder: present(directory / folder) for folder in folders}
        missing = [picture for picture in pictures if picture.name not in there[picture.shot.folder]]
        done = len(pictures) - len(missing)
        yield done, len(pictures)
        for part in (TEST, TRAIN):
            (directory / part).mkdir(exist_ok=True)
        for drawn in write_images(directory, standin.identities, standin.seed, missing):
            yield done + drawn, len(pictures)
        _write_info(directory / INFO_SPELLINGS[0], planned, pictures)


def _card(standin: StandIn, planned: Plan) -> dict[str, Any]:
    return {
        "what": "a stand-in for MARS: drawn people, no photographs; made by reidbench data synthesize",
        "options": {"identities": standin.identities, "frames": standin.frames, "seed": standin.seed},
        "drawing_version": DRAWING_VERSION,
        "plan_version": PLAN_VERSION,
        "counts": planned.counts(),
        "tracklets": {"train": len(planned.train), "query": len(planned.asked), "gallery": len(planned.test)},
    }


def _write_info(folder: Path, planned: Plan, pictures: Sequence[Picture]) -> None:
    """Write the lists, the tables and the queries, where they are not there already."""
    there = present(folder)
    folder.mkdir(exist_ok=True)
    for part, names in ((TRAIN, TRAIN_LIST), (TEST, TEST_LIST)):
        if names not in there:
            listed = [picture.name for picture in pictures if picture.shot.folder.startswith(f"{part}/")]
            write(folder / names, "".join(f"{name}\n" for name in listed).encode())
    for file, key, table in (
        (TRAIN_TRACKS, "track_train_info", _table(planned.train)),
        (TEST_TRACKS, "track_test_info", _table(planned.test)),
        (QUERIES, "query_IDX", np.array([planned.asked], dtype=np.uint16) + 1),
    ):
        if file not in there:
            write(folder / file, mat_file(key, table, "MARS"))


def _table(tracks: Sequence[Track]) -> IntArray:
    """Return [n, 4]: a tracklet's first and last place in the list, from 1, its pid and camera."""
    last = np.cumsum([track.frames for track in tracks])
    first = np.concatenate([[1], 1 + last[:-1]])
    ids = np.array([(track.pid, track.camera) for track in tracks])
    return np.column_stack([first, last, ids]).astype(np.int32)


@hookimpl
def register_synthesizers() -> Mapping[str, Callable[..., Any]]:
    return {"mars": synthesize}
