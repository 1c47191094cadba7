"""Folders of images whose base names hold identity and camera: reading them, what is skipped, what is refused."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reidbench import DataError, Samples


@dataclass(frozen=True)
class Naming:
    """How a dataset names its images.

    Fields:
        title: the dataset, for messages.
        example: a name, for messages.
        pattern: matches a whole base name; its first two groups are pid and camera.
        first_pid: the smallest pid of a person; 0 where 0 is no distractor, and all pids are then read as one more.
        hint: a line of advice where junk or distractors are outside the gallery.
    """

    title: str
    example: str
    pattern: re.Pattern[str]
    first_pid: int = 1
    hint: str = ""


def image_folder(
    tree: Path, folder: str, naming: Naming, ignored: Counter[str], gallery: str = "", advice: str = ""
) -> Samples:
    """Return the images of one folder of a tree, sorted by name; other files are counted in ``ignored``.

    Raises as ``parse_names``, and DataError with ``advice`` where the folder cannot be read.
    """
    samples, others = parse_names(tree, folder, folder_entries(tree / folder, advice), naming, gallery)
    ignored.update(kind_of_skipped(folder, name) for name in others)
    return samples


def folder_entries(folder: Path, advice: str = "") -> list[str]:
    """Return the names in a folder; raises DataError, with ``advice``, where it cannot be read."""
    try:
        return os.listdir(folder)  # noqa: PTH208, a Path for each of 20,000 names would double the time
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}{advice and '; ' + advice}") from None


def parse_names(
    tree: Path, folder: str, entries: Iterable[str], naming: Naming, gallery: str = ""
) -> tuple[Samples, list[str]]:
    """Return the images among the entries of one folder, and the names of the other entries, both sorted by name.

    Raises DataError where there is no image, or, where the folder ``gallery`` is named, junk or distractors, which
    belong there.
    """
    images, others = [], []
    for name in sorted(entries):
        if match := naming.pattern.fullmatch(name):
            images.append((name, int(match[1]), int(match[2])))
        else:
            others.append(name)
    if not images:
        raise DataError(
            f"{tree / folder}: no image is named like those of {naming.title} ({naming.example}), among "
            f"{len(others)} entries{f', the first is {others[0]}' if others else ''}; unpack the archive again"
        )
    misplaced = [name for name, pid, _ in images if pid < naming.first_pid]
    if gallery and misplaced:
        raise DataError(
            f"{tree / folder}: {len(misplaced)} junk or distractor images (pid -1 or 0000), the first is "
            f"{misplaced[0]}; move them to {gallery}{naming.hint and ', or ' + naming.hint}"
        )
    names, pids, cams = zip(*images, strict=True)
    shift = 1 - naming.first_pid
    paths = (f"{folder}/{name}" for name in names)
    return Samples.of_images(tree, paths, (pid + shift if pid >= 0 else pid for pid in pids), cams), others


def kind_of_skipped(folder: str, name: str) -> str:
    """Return the key under which a skipped file is counted: hidden files are one kind, and so is each suffix."""
    if name.startswith("."):
        return f"{folder}/.*"
    suffix = Path(name).suffix
    return f"{folder}/*{suffix}" if suffix else f"{folder}/{name}"
