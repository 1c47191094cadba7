"""Stand-ins for the datasets of image_folders: rendered people with the folders, names and lists of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from reidbench import OptionError, hookimpl
from reidbench_datasets.image_folders import FOLDERS, MSMT17_FOLDERS, MSMT17_LISTS, VERI_FOLDERS
from reidbench_datasets.standin_people import Image, Population, counts, sample_people
from reidbench_datasets.standin_tree import card, write_standin
from reidbench_datasets.synthetic.plan import GALLERY, QUERY, TRAIN
from reidbench_datasets.synthetic.random_numbers import RandomNumbers
from reidbench_datasets.synthetic.writer import Entry

# Raised whenever a name, or what a name shows, changes.
PLAN_VERSION = 1

FEWEST_IDENTITIES = 8

# The numbers of visits of training identities are ours: about those of the test identities. MSMT17 is both its lists.
MSMT17 = {"": Population(4101, 3060, 15, train=32621, train_visits=3966, queries=11659, gallery=82161)}
VAL_SHARE = 2373, 32621  # images of MSMT17's list_val.txt, and of both its training lists
CUHK03 = {
    "detected": Population(1467, 700, 2, train=7365, train_visits=1534, queries=1400, gallery=5332),
    "labeled": Population(1467, 700, 2, train=7368, train_visits=1534, queries=1400, gallery=5328),
}
VERI = {"": Population(776, 200, 20, train=37778, train_visits=4833, queries=1678, gallery=11579)}

MSMT17_NAME = "{label:04d}/{label:04d}_{number:03d}_{camera:02d}_{time}_{frame:04d}_{box}.jpg"
TIMES = ("0101morning", "0102noon", "0103afternoon")


@dataclass(frozen=True)
class StandIn:
    """What a stand-in resembles.

    Fields:
        title: the dataset, in words.
        trees: the numbers of each tree of folders, by its folder.
        folders: those of training images, queries and gallery.
        name: template of an image's path in one of them: ``pid``, or ``label``, its number in its part from 0;
            ``number`` among the pid's images, ``camera``, ``time``, ``frame`` and ``box``.
        lists: whether there are the lists of MSMT17.
    """

    title: str
    trees: Mapping[str, Population]
    folders: tuple[str, str, str]
    name: str
    lists: bool = False


STANDINS = {
    "cuhk03_np": StandIn("CUHK03-NP", CUHK03, FOLDERS, "{pid:04d}_c{camera}_{frame}{box}.jpg"),
    "veri776": StandIn("VeRi-776", VERI, VERI_FOLDERS, "{pid:04d}_c{camera:03d}_{frame:08d}_{box}.jpg"),
}
for _dataset, (_train, _test) in MSMT17_FOLDERS.items():
    STANDINS[_dataset] = StandIn(_dataset.upper(), MSMT17, (_train, _test, _test), MSMT17_NAME, lists=True)


def plan(standin: StandIn, real: Population, identities: int, seed: int) -> list[tuple[str, Image]]:
    """Return path and content of every image of one tree, the training images last."""
    train, test = sample_people(RandomNumbers(seed, standin.title, "plan"), real, identities)
    images = []
    for visits, parts in ((test, (QUERY, GALLERY)), (train, (TRAIN, TRAIN))):
        labels = {pid: label for label, pid in enumerate(sorted({visit[0].shot.pid for visit in visits}))}
        numbers: Counter[int] = Counter()
        for visit in visits:
            for place, image in enumerate(visit):
                part, pid = parts[place > 0], image.shot.pid
                name = standin.name.format(
                    pid=pid,
                    label=labels[pid],
                    number=numbers[pid],
                    camera=image.shot.camera,
                    time=TIMES[image.sequence - 1],
                    frame=image.frame,
                    box=image.box - 1,
                )
                numbers[pid] += 1
                path = f"{standin.folders[FOLDERS.index(part)]}/{name}"
                images.append((path, replace(image, shot=replace(image.shot, folder=part))))
    return images


def _lists(images: Sequence[tuple[str, Image]]) -> dict[str, list[str]]:
    """Return the lines of MSMT17's lists; list_val.txt has one in fourteen of the training images."""
    lists: dict[str, list[str]] = {name: [] for name in MSMT17_LISTS}
    part, whole = VAL_SHARE
    for number, (path, image) in enumerate(images):
        is_val = (number + 1) * part // whole > number * part // whole
        names = {QUERY: MSMT17_LISTS[2], GALLERY: MSMT17_LISTS[3], TRAIN: MSMT17_LISTS[is_val]}
        name = path.partition("/")[2]
        lists[names[image.shot.folder]].append(f"{name} {int(name[:4])}\n")
    return lists


def synthesize(dataset: str, directory: Path, *, identities: int = 100, seed: int = 0) -> Iterator[tuple[int, int]]:
    """Rendered people in a dataset's own folders, with names and lists like its own, and its counts to scale.

    Options:
        identities: number of identities, 8 to those of the dataset, to which all counts are scaled.
        seed: seed of people, names and images.

    Yields (images done, images in all). An interrupted call is resumed by another one with the same options.
    ``STANDIN.json`` in the folder describes it and has its counts. Every file is written whole or not at all.
    Raises OptionError for values out of range; DataError where the folder has other content or a stand-in with other
    options, is being written to, or cannot be written.
    """
    standin = STANDINS[dataset]
    most, cameras = next((real.identities, real.cameras) for real in standin.trees.values())
    if not FEWEST_IDENTITIES <= identities <= most:
        raise OptionError(f"{dataset}: expected {FEWEST_IDENTITIES} to {most} identities, got identities={identities}")
    planned = {tree: plan(standin, real, identities, seed) for tree, real in standin.trees.items()}
    by_tree = {tree: counts([image for _, image in images]) for tree, images in planned.items()}
    content = card(standin.title, {"identities": identities, "seed": seed}, PLAN_VERSION, by_tree.get("", by_tree))
    images = [(f"{tree}/{path}".lstrip("/"), image.shot) for tree, part in planned.items() for path, image in part]
    tables: list[Entry] = []
    if standin.lists:
        lists = _lists(planned[""])
        content["val"] = len(lists[MSMT17_LISTS[1]])
        content["counts"]["train"] -= content["val"]
        tables = [(name, "".join(lines).encode) for name, lines in lists.items()]
    return write_standin(directory, content, images, tables, cameras=cameras)


@hookimpl
def register_synthesizers() -> Mapping[str, Callable[..., Any]]:
    return {dataset: partial(synthesize, dataset) for dataset in STANDINS}
