"""Trees on disk in the layout of a dataset, and the official file lists, for the tests of datasets and stand-ins."""

import gzip
import shutil

import numpy as np
import pytest
from reidbench_datasets.market1501 import FOLDERS
from reidbench_datasets.mars import label, read_mat

from tests.support.paths import SHARED

LISTS = SHARED / "data" / "market1501"


def write_empty(tree, names):
    """Write empty files, by folder, the last name first; folders that are None are left out."""
    for folder, files in names.items():
        if files is not None:
            (tree / folder).mkdir(parents=True, exist_ok=True)
            for name in sorted(files, reverse=True):
                (tree / folder / name).touch()
    return tree


def contents(folder):
    """Return the bytes of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def units_of(samples):
    """Return the images of each unit."""
    return [part.tolist() for part in np.split(samples.images, samples.starts[1:-1])]


def official_market_names() -> dict[str, list[str]]:
    """Return the official base names of Market-1501 by folder; skips the test where the lists are absent."""
    if not LISTS.is_dir():
        pytest.skip(f"the official file lists are absent: {LISTS}")
    return {
        folder: [
            line.rpartition("/")[2]
            for line in gzip.decompress((LISTS / f"{part}.csv.gz").read_bytes()).decode().splitlines()
        ]
        for part, folder in zip(("train", "query", "test"), FOLDERS, strict=True)
    }


def official_mars_tree(tree):
    """Write the official track tables of MARS with lists of names that agree with them; no image is there.

    Skips the test where the tables are absent.
    """
    tables = SHARED / "data" / "mars"
    if not tables.is_dir():
        pytest.skip(f"the real track tables are absent: {tables}")
    shutil.copytree(tables, tree / "info")
    for part in ("train", "test"):
        (tree / f"bbox_{part}").mkdir()
        table = read_mat(tables / f"tracks_{part}_info.mat", f"track_{part}_info")
        with (tree / "info" / f"{part}_name.txt").open("w") as file:
            for number, (first, last, pid, camera) in enumerate(table.tolist()):
                prefix = f"{label(pid)}C{camera}T{number % 9999 + 1:04d}F"
                file.writelines(f"{prefix}{frame:03d}.jpg\n" for frame in range(1, last - first + 2))
    return tree
