"""What it takes to rank 3,368 queries against a gallery in shards: time for a million items, and memory.

    python benchmarks/shards.py [--millions 0.2 2] [--threads 1] [--folder DIR]

Generated embeddings of 128 float32 numbers with the structure of Market-1501, in shards of 200,000 rows below DIR (a
temporary folder by default; 2 million take 1 GB). For each size, in a process of its own: ``reidbench evaluate`` with
its scores and the camera matrix, from reading the lists on; CPU seconds (user and system) and wall seconds, beside the
float32 product of the same rows alone, and the peak resident memory, which includes the pages of mapped files. The
exit code is 1 where the memory grows by more than 64 bytes for each further item. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ranking import peak_mib, product_only

from reidbench.ranking.external_embeddings import Evaluation, evaluate_files, read_shards

ROWS, DIMENSIONS, IDENTITIES, CAMERAS, MOST_BYTES = 200_000, 128, 751, 7, 64


def units(count: int, labelled: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (embeddings float32, pids, cams) of ``labelled`` images of the identities and of distractors."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(IDENTITIES, DIMENSIONS)).astype(np.float32)
    cameras = np.random.default_rng(1).normal(size=(CAMERAS, DIMENSIONS)).astype(np.float32) / 2
    pids, cams = np.zeros(count, dtype=np.int64), generator.integers(1, CAMERAS, count)
    pids[generator.choice(count, labelled, replace=False)] = generator.integers(1, IDENTITIES, labelled)
    own = np.where((pids > 0)[:, None], centres[pids], generator.normal(size=(count, DIMENSIONS)))
    rows = 3 + own + cameras[cams] + 1.1 * generator.standard_normal((count, DIMENSIONS), dtype=np.float32)
    return rows.astype(np.float32), pids, cams


def write(folder: Path, shards: int) -> None:
    """Write the queries, and what is missing of the first ``shards`` shards."""
    rows, pids, cams = units(3_368, 3_368, 10)
    np.savez(folder / "query.npz", embeddings=rows, pids=pids, cams=cams)
    for number in range(shards):
        file = folder / f"shard-{number:04d}.npy"
        if not file.exists():
            rows, pids, cams = units(ROWS, 15_913 // 10, 11 + number)
            names = (f"{number:04d}/{row:06d}.jpg,{pids[row]},{cams[row]}\n" for row in range(ROWS))
            file.with_suffix(".csv").write_text("path,pid,camid\n" + "".join(names))
            np.save(file, rows)


def measure(folder: Path, shards: int) -> None:
    """Score the queries against the first shards and print what it took."""
    files = [folder / f"shard-{number:04d}.npy" for number in range(shards)]
    evaluate_files(folder / "query.npz", folder / "query.npz", None, None, Evaluation())  # compiles
    before, clocks = peak_mib(), (time.process_time, time.perf_counter)
    began = [clock() for clock in clocks]
    scores = evaluate_files(folder / "query.npz", files, None, None, Evaluation())[0]
    cpu, wall = (clock() - start for clock, start in zip(clocks, began, strict=True))
    peak = peak_mib()
    began = [clock() for clock in clocks]
    read_shards(files)
    lists = time.process_time() - began[0]
    query, product = np.load(folder / "query.npz")["embeddings"], 0.0
    for file in files:
        rows, start = np.load(file), time.process_time()
        product_only(query, rows)
        product += time.process_time() - start
    millions = shards * ROWS / 1e6
    print(
        f"{shards * ROWS:,} items in {shards} shards: {cpu:.1f} CPU s, {wall:.1f} s wall; for a million "
        f"{cpu / millions:.1f} CPU s ({lists / millions:.2f} the lists; the product alone {product / millions:.1f}), "
        f"{wall / millions:.1f} s wall; peak {peak:.0f} MiB, {before:.0f} before; mAP {100 * scores.map_market:.4f} %"
    )
    print(f"{peak}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, nargs="+", default=[0.2, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.folder, options.measure)
        return
    peaks = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sizes = [max(1, round(1e6 * millions / ROWS)) for millions in options.millions]
        write(folder, max(sizes))
        for shards in sizes:
            command = [sys.executable, __file__, f"--folder={folder}", f"--measure={shards}"]
            environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            lines = done.stdout.split("\n")
            print(lines[0], flush=True)
            peaks.append(float(lines[1]))
    if len(sizes) > 1:
        growth = (peaks[-1] - peaks[0]) * 2**20 / ((sizes[-1] - sizes[0]) * ROWS)
        print(f"each further item takes {growth:.0f} bytes (at most {MOST_BYTES})")
        sys.exit(growth > MOST_BYTES)


if __name__ == "__main__":
    main()
