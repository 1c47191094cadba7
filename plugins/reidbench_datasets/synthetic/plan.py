"""The images of a tree: a function of its options alone, without reading the disk or rendering a pixel."""

from __future__ import annotations

from dataclasses import dataclass

from reidbench_datasets.synthetic.random_numbers import RandomNumbers

# Raised whenever a pixel can change, so that a folder rendered by older code is not mistaken for a current one.
RENDERER_VERSION = 1

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"


@dataclass(frozen=True)
class Tree:
    """The options that determine the pixels."""

    identities: int
    cameras: int
    difficulty: str
    seed: int

    @property
    def folder(self) -> str:
        """The name of the tree's folder, with every option and the renderer version."""
        return f"v{RENDERER_VERSION}-{self.difficulty}-{self.identities}ids-{self.cameras}cams-seed{self.seed}"

    @property
    def train_identities(self) -> int:
        """The number of training identities, the first seven in ten; the others are the test identities."""
        return self.identities * 7 // 10


@dataclass(frozen=True)
class Shot:
    """One image.

    ``folder``: its folder below the tree.
    ``pid``: the pid in its name.
    ``camera``: the camera, from 1.
    ``kind``, ``number``: the rendered person, of kind "person", "distractor", "extra" or "junk".
    ``image``: its number among that person's images in one camera.
    """

    folder: str
    pid: int
    camera: int
    kind: str
    number: int
    image: int

    @property
    def name(self) -> str:
        """The image's path below the tree, named as in Market-1501: pid, camera, sequence, frame, box."""
        label = f"{self.pid:04d}" if self.pid >= 0 else "-1"
        sequence, frame = 1, self.image if self.kind == "person" else self.number
        return f"{self.folder}/{label}_c{self.camera}s{sequence}_{frame:06d}_{self.image:02d}.jpg"


def _person(tree: Tree, pid: int) -> list[Shot]:
    """Return the images of one identity, a few in each of at least half of the cameras.

    About one training identity in thirty has a single image. A test identity's first image in a camera is a query.
    """
    rng = RandomNumbers(tree.seed, "person", pid, "visits")
    train = pid <= tree.train_identities
    fewest = max(2, tree.cameras // 2)
    visited = fewest + rng.integer(tree.cameras - fewest + 1)
    cameras = sorted(rng.shuffled(range(1, tree.cameras + 1))[:visited])
    if train and rng.chance(1 / 30):
        return [Shot(TRAIN, pid, cameras[0], "person", pid, 0)]
    shots = []
    for camera in cameras:
        count = 1 + rng.integer(4) if train else 2 + rng.integer(3)
        for image in range(count):
            folder = TRAIN if train else QUERY if image == 0 else GALLERY
            shots.append(Shot(folder, pid, camera, "person", pid, image))
    return shots


def plan(tree: Tree) -> list[Shot]:
    """Return every image of a tree, by folder and name.

    For each test identity the gallery also has two images of another person (distractors, pid 0) and two bad boxes
    (junk, pid -1).
    """
    shots = [shot for pid in range(1, tree.identities + 1) for shot in _person(tree, pid)]
    for number in range(tree.identities - tree.train_identities):
        rng = RandomNumbers(tree.seed, "distractor", number, "visits")
        for image, camera in enumerate(rng.shuffled(range(1, tree.cameras + 1))[:2]):
            shots.append(Shot(GALLERY, 0, camera, "distractor", number, image))
        for image in range(2):
            shots.append(Shot(GALLERY, -1, 1 + rng.integer(tree.cameras), "junk", number, image))
    return sorted(shots, key=lambda shot: shot.name)
