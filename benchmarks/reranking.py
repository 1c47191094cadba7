"""Compare k-reciprocal re-ranking on sparse rows with the published dense algorithm: CPU time, peak memory, distances.

Run: python benchmarks/reranking.py [--sizes 2888 5775 11550 23100]. Each algorithm and size runs in its own process, on
one thread, with embeddings of Market-1501's structure; 23,100 images are its queries and gallery. The dense algorithm
holds three matrices of all pairs of images: 7 GiB at 23,100. Linux only (/proc).
Required at 23,100 images: at least 15 times less CPU time than dense, at most 10 CPU s and 500 MiB above the inputs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ranking import market_like, peak_mib, reset_peak

import reidbench

K1, K2, LAM, SHARE = 20, 6, 0.3, 3_368 / 23_100
MOST_STORED = 10_000_000  # distances that are compared


def units(images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings [n, 128] float32 of queries and gallery, ``images`` together, spread over all identities."""
    query, gallery = market_like(128, 0)
    queries = round(images * SHARE)
    query_rows, gallery_rows = (
        side[0][np.linspace(0, len(side[0]) - 1, count).astype(int)]
        for side, count in ((query, queries), (gallery, images - queries))
    )
    return query_rows, gallery_rows


def dense(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Return re-ranked distances [queries, gallery] by the published algorithm, whose rows hold all images."""
    rows = np.concatenate([query, gallery])
    norms = np.square(rows).sum(axis=1)
    squares = np.maximum(norms[:, None] + norms[None] - 2 * (rows @ rows.T), 0)
    order = np.argsort(squares, axis=1, kind="stable").astype(np.int32)
    original = squares / squares.max(axis=1, keepdims=True)
    del squares

    def mutual(unit: int, size: int) -> np.ndarray:
        forward = order[unit, :size]
        return forward[(order[forward, :size] == unit).any(axis=1)]

    weights = np.zeros_like(original)
    for unit in range(len(rows)):
        own = mutual(unit, K1 + 1)
        expanded = own
        for other in own:
            candidates = mutual(other, K1 // 2 + 1)
            if 3 * len(np.intersect1d(candidates, own)) > 2 * len(candidates):
                expanded = np.append(expanded, candidates)
        members = np.unique(expanded)
        own_weights = np.exp(-original[unit, members])
        weights[unit, members] = own_weights / own_weights.sum()
    weights = np.stack([weights[order[unit, :K2]].mean(axis=0) for unit in range(len(rows))])
    holders = [np.flatnonzero(column) for column in weights.T]
    jaccard = np.empty((len(query), len(rows)), dtype=np.float32)
    for unit in range(len(query)):
        overlap = np.zeros(len(rows), dtype=np.float32)
        for member in np.flatnonzero(weights[unit]):
            others = holders[member]
            overlap[others] += np.minimum(weights[unit, member], weights[others, member])
        jaccard[unit] = 1 - overlap / (2 - overlap)
    return ((1 - LAM) * jaccard + LAM * original[: len(query)])[:, len(query) :]


def sparse(query: np.ndarray, gallery: np.ndarray) -> np.ndarray | None:
    """Return re-ranked distances [queries, gallery], computed block by block; None where they are too many to store."""
    reranker = reidbench.build("reranker", f"k_reciprocal(k1={K1}, k2={K2}, lam={LAM})")
    metric = reidbench.build("metric", "euclidean")
    store = len(query) * len(gallery) < MOST_STORED
    blocks = []
    for block in reranker.blocks(torch.from_numpy(query), torch.from_numpy(gallery), metric, 64):
        if store:
            blocks.append(block.numpy())
    return np.concatenate(blocks) if store else None


def measure(algorithm: str, images: int, file: Path) -> None:
    """Print CPU seconds and peak memory above the inputs in MiB; write the distances to ``file`` where they are few."""
    rerank = dense if algorithm == "dense" else sparse
    rerank(*units(300))  # compiles
    query, gallery = units(images)
    before, began = reset_peak(), time.process_time()
    distances = rerank(query, gallery)
    print(time.process_time() - began, peak_mib() - before)
    if distances is not None and distances.size < MOST_STORED:
        np.save(file, distances)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_888, 5_775, 11_550, 23_100])
    parser.add_argument("--measure", nargs=3, metavar=("ALGORITHM", "IMAGES", "FILE"), help="one process (internal)")
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], int(options.measure[1]), Path(options.measure[2]))
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    previous: dict[str, float] = {}
    for images in options.sizes:
        results = {}
        files = {algorithm: Path(f"{algorithm}-{os.getpid()}.npy") for algorithm in ("sparse", "dense")}
        for algorithm, file in files.items():
            command = [sys.executable, __file__, "--measure", algorithm, str(images), str(file)]
            process = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            results[algorithm] = [float(number) for number in process.stdout.split()]
        (sparse_time, sparse_peak), (dense_time, dense_peak) = results["sparse"], results["dense"]
        growth = "".join(f"; {algorithm} x {results[algorithm][0] / previous[algorithm]:.1f}" for algorithm in previous)
        line = (
            f"{images:6d} images: sparse {sparse_time:.2f} CPU s, {sparse_peak:.0f} MiB; dense {dense_time:.2f} CPU s, "
        )
        print(f"{line}{dense_peak:.0f} MiB; {dense_time / sparse_time:.1f} times{growth}", flush=True)
        if all(file.exists() for file in files.values()):
            values = [np.load(file) for file in files.values()]
            print(f"        distances differ by at most {np.abs(values[0] - values[1]).max():.1e}")
        for file in files.values():
            file.unlink(missing_ok=True)
        previous = {algorithm: numbers[0] for algorithm, numbers in results.items()}


if __name__ == "__main__":
    main()
