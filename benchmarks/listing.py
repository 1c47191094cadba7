"""CPU time and memory of reading, checking and identifying MARS's 1.19 million names; no image is needed.

Run: python benchmarks/listing.py [--tables DIR]. DIR has the official tracks_{train,test}_info.mat and query_IDX.mat;
without it, tables of that size are generated. Required: under 10 s of CPU and 1 GiB for `reidbench data verify mars`,
without reading the image files.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from reidbench_datasets.mars import label, mars, read_mat
from reidbench_datasets.mars_protocols import mars_protocol
from scipy.io import savemat

from reidbench.data.positives_and_exclusions import unmatched
from reidbench.data.protocol import verdict

SECONDS, MIB = 10.0, 1024
FRAMES = {"train": 509_914, "test": 681_089}
TRACKLETS = {"train": 8_298, "test": 12_180}


def generate_tables(folder: Path) -> None:
    """Write tables of MARS's size; every identity is seen by at least two cameras."""
    for part, count in TRACKLETS.items():
        last = np.linspace(0, FRAMES[part], count + 1).astype(np.int64)[1:]
        first = np.concatenate([[1], last[:-1] + 1])
        number = np.arange(count)
        table = np.column_stack([first, last, 1 + number // 14, 1 + number % 6])
        savemat(folder / f"tracks_{part}_info.mat", {f"track_{part}_info": table})
    savemat(folder / "query_IDX.mat", {"query_IDX": np.arange(1, 1981)[None]})


def write_names(folder: Path) -> None:
    """Write lists of names that agree with the tables."""
    for part in FRAMES:
        table = read_mat(folder / f"tracks_{part}_info.mat", f"track_{part}_info")
        with (folder / f"{part}_name.txt").open("w") as file:
            for number, (first, last, pid, camera) in enumerate(table.tolist()):
                prefix = f"{label(pid)}C{camera}T{number % 9999 + 1:04d}F"
                file.writelines(f"{prefix}{frame:03d}.jpg\n" for frame in range(1, last - first + 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path)
    tables = parser.parse_args().tables
    tree = Path(tempfile.mkdtemp())
    try:
        for folder in ("info", "bbox_train", "bbox_test"):
            (tree / folder).mkdir()
        if tables is None:
            generate_tables(tree / "info")
        else:
            for file in tables.glob("*.mat"):
                shutil.copy(file, tree / "info")
        write_names(tree / "info")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        wall, used = time.perf_counter(), time.process_time()
        split = mars(tree)
        listed = time.process_time() - used
        described = verdict(mars_protocol(), split)
        unmatched(mars_protocol(), split)
        used, wall = time.process_time() - used, time.perf_counter() - wall
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        images = len(split.train.images) + len(split.gallery.images)
        print(f"{images:,} names, {'generated' if tables is None else 'official'} tables: {described}")
        print(f"reading and checking {listed:.1f} s CPU, all {used:.1f} s CPU, {wall:.1f} s wall")
        print(f"peak {peak:.0f} MiB, {before:.0f} MiB of it before (torch and the rest)")
        print("met" if used < SECONDS and peak < MIB else "MISSED", f"(required: {SECONDS:.0f} s, {MIB} MiB)")
    finally:
        shutil.rmtree(tree)


if __name__ == "__main__":
    main()
