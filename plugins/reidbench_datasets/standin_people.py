"""The people of a stand-in: which cameras see an identity, and in how many images; in proportion to a real dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reidbench_datasets.standin_tree import halves, shares
from reidbench_datasets.synthetic.plan import GALLERY, QUERY, TRAIN, Shot
from reidbench_datasets.synthetic.random_numbers import RandomNumbers

FRAMES = 25  # between two images of a visit


@dataclass(frozen=True)
class Population:
    """The numbers of a real dataset; a visit is an identity in a camera, and each test visit gives one query.

    Fields:
        identities, testing: number of identities, and of those for testing; None for half of them, rounded down.
        cameras: number of cameras.
        train, train_visits: number of training images and of their visits.
        queries: number of queries.
        gallery: number of gallery images with an identity.
    """

    identities: int
    testing: int | None
    cameras: int
    train: int
    train_visits: int
    queries: int
    gallery: int

    def share(self, full: int, identities: int) -> int:
        """Return the share of a real count for this number of identities."""
        return round(full * identities / self.identities)


@dataclass(frozen=True)
class Image:
    """One image.

    ``shot``: what it shows; its folder is "bounding_box_train", "query" or "bounding_box_test" in every dataset.
    ``sequence``, ``frame``, ``box``: further parts of its name; box 0 is a hand-drawn box.
    """

    shot: Shot
    sequence: int
    frame: int
    box: int


def sample_people(rng: RandomNumbers, real: Population, identities: int) -> tuple[list[list[Image]], list[list[Image]]]:
    """Return the images of each visit for training, and of each for testing, all in the training folder.

    Every identity is seen by two or more cameras. A test visit has at least two images, the first for the query, so
    that every query has a positive.
    """
    count = identities // 2 if real.testing is None else real.share(real.testing, identities)
    testing, training = halves(rng, identities, count)
    train_visits, test_visits = (
        min(max(2 * len(pids), real.share(full, identities)), real.cameras * len(pids))
        for pids, full in ((training, real.train_visits), (testing, real.queries))
    )
    train = _visits(rng, real, training, train_visits, real.share(real.train, identities), fewest=1)
    test_images = test_visits + real.share(real.gallery, identities)
    return train, _visits(rng, real, testing, test_visits, test_images, fewest=2)


def _visits(
    rng: RandomNumbers, real: Population, pids: Sequence[int], visits: int, images: int, fewest: int
) -> list[list[Image]]:
    """Return the images of each visit of these identities: at least two cameras each, ``fewest`` images in each."""
    cameras = [2] * len(pids)
    left = visits - sum(cameras)
    while left:
        chosen = rng.integer(len(pids))
        if cameras[chosen] < real.cameras:
            cameras[chosen] += 1
            left -= 1
    seen = [
        (pid, camera)
        for pid, count in zip(pids, cameras, strict=True)
        for camera in sorted(rng.shuffled(range(1, real.cameras + 1))[:count])
    ]
    durations = {pid: 500 + rng.integer(100) * rng.integer(100) for pid in pids}  # some walk past, some stay
    weights = [durations[pid] * (20 + rng.integer(100)) for pid, _ in seen]
    counts = [fewest + share for share in shares(max(0, images - fewest * visits), weights)]
    return [_visit(rng, pid, camera, count) for (pid, camera), count in zip(seen, counts, strict=True)]


def _visit(rng: RandomNumbers, pid: int, camera: int, count: int) -> list[Image]:
    sequence, start = 1 + rng.integer(3), 1 + FRAMES * rng.integer(3000)
    return [
        Image(Shot(TRAIN, pid, camera, "person", pid, image), sequence, start + FRAMES * image, 1 + rng.integer(4))
        for image in range(count)
    ]


def counts(images: Sequence[Image]) -> dict[str, int]:
    """Return the counts that a dataset should find, by the names of ``Split.counts``."""
    train, query, gallery = ([i.shot for i in images if i.shot.folder == part] for part in (TRAIN, QUERY, GALLERY))
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
