"""A stand-in for MARS: rendered people in the official folders, with lists and tables, for users without the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
    label,
)
from reidbench_datasets.standin_tree import CAMERAS, card, halves, mat_file, shares, write_standin
from reidbench_datasets.synthetic.plan import Shot
from reidbench_datasets.synthetic.random_numbers import RandomNumbers
from reidbench_datasets.synthetic.writer import Entry

# Raised whenever a name, or what a name shows, changes.
PLAN_VERSION = 1

FEWEST_IDENTITIES, ALL_IDENTITIES = 4, 1259
FEWEST_FRAMES, MOST_FRAMES = 2, 100

# The real numbers of tracklets of 1,259 identities.
TRAIN_TRACKLETS, GOOD, JUNK, DISTRACTORS = 8298, 8062, 870, 3248

# What a tracklet shows: pid, camera, and kind and number of the rendered person.
Seen = tuple[int, int, str, int]


@dataclass(frozen=True)
class StandIn:
    """The options of a stand-in, which determine it completely."""

    identities: int
    frames: int
    seed: int

    def share(self, full: int) -> int:
        """Return the share of a real count for this number of identities."""
        return round(full * self.identities / ALL_IDENTITIES)


@dataclass(frozen=True)
class Track:
    """One tracklet.

    ``pid``, ``camera``, ``kind``, ``number``: what it shows; ``kind`` and ``number`` choose the rendered person.
    ``tracklet``: its number among those of its pid, from 1.
    ``first``: number of images of the same person in the same camera before it.
    ``frames``: number of its images.
    """

    pid: int
    camera: int
    kind: str
    number: int
    tracklet: int
    first: int
    frames: int

    def images(self, folder: str) -> Iterator[tuple[str, Shot]]:
        """Yield the path and the content of each image, e.g. bbox_test/0001/0001C1T0001F001.jpg."""
        folder = f"{folder}/{label(self.pid)}"
        prefix = f"{label(self.pid)}C{self.camera}T{self.tracklet:04d}"
        for frame in range(self.frames):
            shot = Shot(folder, self.pid, self.camera, self.kind, self.number, self.first + frame)
            yield f"{folder}/{prefix}F{1 + frame:03d}.jpg", shot


@dataclass(frozen=True)
class Plan:
    """A stand-in's tracklets.

    ``train``, ``test``: those of each part, in the order of its table.
    ``queries``: rows of ``test``.
    """

    train: list[Track]
    test: list[Track]
    queries: list[int]

    def images(self) -> list[tuple[str, Shot]]:
        """Return path and content of every image, the test's first."""
        parts = ((TEST, self.test), (TRAIN, self.train))
        return [image for folder, tracks in parts for track in tracks for image in track.images(folder)]

    def counts(self) -> dict[str, int]:
        """Return the counts that the dataset mars should find, by the names of ``Split.counts``."""
        query = [self.test[row] for row in self.queries]
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


def plan(standin: StandIn) -> Plan:
    """Return every tracklet of a stand-in; about half of the identities are for testing, as in the real data.

    Every identity is seen by 2 to 4 cameras, so that every query has a positive; for each test identity and camera one
    tracklet is a query.
    """
    rng = RandomNumbers(standin.seed, "mars", "plan")
    testing, training = halves(rng, standin.identities, standin.identities // 2)
    train = _people(rng, training, standin.share(TRAIN_TRACKLETS))
    negatives = [
        (pid, 1 + rng.integer(CAMERAS), kind, number)
        for pid, kind, count in ((-1, "junk", JUNK), (0, "distractor", DISTRACTORS))
        for number in range(standin.share(count))
    ]
    test = sorted(negatives + _people(rng, testing, standin.share(GOOD)))
    visits: dict[tuple[int, int], list[int]] = {}
    for row, (pid, camera, *_) in enumerate(test):
        if pid > 0:
            visits.setdefault((pid, camera), []).append(row)
    queries = sorted(rng.choice(rows) for rows in visits.values())
    return Plan(_tracks(rng, train, standin.frames), _tracks(rng, test, standin.frames), queries)


def _people(rng: RandomNumbers, pids: Sequence[int], tracklets: int) -> list[Seen]:
    """Return what each tracklet shows, at least one in each of an identity's cameras, by pid and camera."""
    visits = [
        (pid, camera) for pid in pids for camera in sorted(rng.shuffled(range(1, CAMERAS + 1))[: 2 + rng.integer(3)])
    ]
    further = shares(max(0, tracklets - len(visits)), [20 + rng.integer(100) for _ in visits])
    return [
        (pid, camera, "person", pid)
        for (pid, camera), share in zip(visits, further, strict=True)
        for _ in range(1 + share)
    ]


def _tracks(rng: RandomNumbers, seen: Sequence[Seen], frames: int) -> list[Track]:
    """Return the tracklets, numbered for each pid from 1, with ``frames`` images on average and at least two each."""
    further = shares((frames - FEWEST_FRAMES) * len(seen), [10 + rng.integer(100) for _ in seen])
    numbers: dict[int, int] = {}
    before: dict[Seen, int] = {}
    tracks = []
    for person, share in zip(seen, further, strict=True):
        pid, camera, kind, number = person
        numbers[pid] = numbers.get(pid, 0) + 1
        first = before.get(person, 0)
        before[person] = first + FEWEST_FRAMES + share
        tracks.append(Track(pid, camera, kind, number, numbers[pid], first, FEWEST_FRAMES + share))
    return tracks


def synthesize(directory: Path, *, identities: int = 40, frames: int = 8, seed: int = 0) -> Iterator[tuple[int, int]]:
    """Rendered people in MARS's own folders, with names, name lists and track tables like the official ones.

    Options:
        identities: number of identities, 4 to 1259 (as in MARS); half are for testing, and the tracklets scale with it.
        frames: mean number of images of a tracklet, 2 to 100 (58 in MARS, which makes 1.19 million images).
        seed: seed of people, names and images.

    Yields (images done, images in all). An interrupted call is resumed by another one with the same options; ``info``
    is written last, and without it the dataset is not found. ``STANDIN.json`` in the folder describes it and has its
    counts. Every file is written whole or not at all.
    Raises OptionError for values out of range; DataError where the folder has other content or a stand-in with other
    options, is being written to, or cannot be written.
    """
    if not FEWEST_IDENTITIES <= identities <= ALL_IDENTITIES or not FEWEST_FRAMES <= frames <= MOST_FRAMES:
        raise OptionError(
            f"mars: expected {FEWEST_IDENTITIES} to {ALL_IDENTITIES} identities and {FEWEST_FRAMES} to {MOST_FRAMES} "
            f"frames, got identities={identities}, frames={frames}"
        )
    planned = plan(StandIn(identities, frames, seed))
    options = {"identities": identities, "frames": frames, "seed": seed}
    content = card("MARS", options, PLAN_VERSION, planned.counts())
    content["tracklets"] = {
        "train": len(planned.train),
        "query": len(planned.queries),
        "gallery": len(planned.test),
    }
    return write_standin(directory, content, planned.images(), _info(planned))


def _info(planned: Plan) -> list[Entry]:
    """Return the name lists, the track tables and the queries."""

    def names(folder: str, tracks: Sequence[Track]) -> bytes:
        paths = [path for track in tracks for path, _ in track.images(folder)]
        return "".join(f"{path.rpartition('/')[2]}\n" for path in paths).encode()

    def table(key: str, tracks: Sequence[Track]) -> bytes:
        return mat_file(key, _table(tracks), "MARS")

    queries = np.array([planned.queries], dtype=np.uint16) + 1
    info = INFO_SPELLINGS[0]
    return [
        (f"{info}/{TRAIN_LIST}", partial(names, TRAIN, planned.train)),
        (f"{info}/{TEST_LIST}", partial(names, TEST, planned.test)),
        (f"{info}/{TRAIN_TRACKS}", partial(table, "track_train_info", planned.train)),
        (f"{info}/{TEST_TRACKS}", partial(table, "track_test_info", planned.test)),
        (f"{info}/{QUERIES}", partial(mat_file, "query_IDX", queries, "MARS")),
    ]


def _table(tracks: Sequence[Track]) -> IntArray:
    """Return [n, 4]: first and last line of each tracklet in the list, from 1, pid and camera."""
    last = np.cumsum([track.frames for track in tracks])
    first = np.concatenate([[1], 1 + last[:-1]])
    ids = np.array([(track.pid, track.camera) for track in tracks])
    return np.column_stack([first, last, ids]).astype(np.int32)


@hookimpl
def register_synthesizers() -> Mapping[str, Callable[..., Any]]:
    return {"mars": synthesize}
